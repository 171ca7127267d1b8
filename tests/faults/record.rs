//! What was written down in one scenario, read back: what the scheduler told, and what the runs
//! did.
//!
//! Owns: the reading of lines, and which facts they are. Does not know: what should have happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::SplitWhitespace;
use std::time::Duration;

/// What the scheduler's process has told so far. Times are nanoseconds of
/// [`now`](crate::work::now).
#[derive(Debug, Default)]
pub struct Told {
    pub ready: bool,
    /// The number of each task that was accepted, by id.
    pub accepted: BTreeMap<u64, u64>,
    /// How many batches were handed in whole.
    pub batches: usize,
    pub statuses: Vec<Status>,
    pub reroutes: Vec<Reroute>,
    /// What was last believed of each node.
    pub nodes: BTreeMap<String, Belief>,
    /// When each node was heard on a link that was known to be up, which it is for the node too:
    /// after its hello it says nothing before it is welcome.
    pub heard: BTreeMap<String, Vec<u64>>,
    /// Every change of what was believed, for those who ask why.
    pub beliefs: Vec<String>,
    /// Tasks that were not settled when it shut down.
    pub left: Vec<u64>,
    /// Tasks whose statuses no client had confirmed, and whether they are marked as such that one
    /// may have handled.
    pub untold: Vec<(u64, bool)>,
    pub stale_reports: u64,
    pub violations: u64,
    pub ended: bool,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub task: u64,
    pub outcome: String,
    pub given_again: bool,
    /// The run that completed it; 0 if none did.
    pub dispatch: u64,
}

#[derive(Clone, Debug)]
pub struct Reroute {
    pub at: u64,
    pub node: String,
}

#[derive(Clone, Debug)]
pub struct Belief {
    /// Since when.
    pub at: u64,
    pub state: String,
    #[allow(dead_code, reason = "shown when a scenario fails")]
    pub reason: String,
    pub incarnation: u64,
}

fn number<T: std::str::FromStr>(words: &mut SplitWhitespace<'_>) -> T {
    let word = words.next().unwrap_or("nothing");
    word.parse()
        .unwrap_or_else(|_| panic!("{word} is no number"))
}

fn name(words: &mut SplitWhitespace<'_>) -> String {
    words.next().unwrap_or_default().to_owned()
}

impl Told {
    pub fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let words = &mut words;
        match words.next() {
            Some("ready") => self.ready = true,
            Some("accepted") => {
                let _: u64 = number(words);
                self.accepted.insert(number(words), number(words));
            }
            Some("batch") => self.batches += 1,
            Some("status") => {
                let _: u64 = number(words);
                let (task, outcome) = (number(words), name(words));
                let _attempts: u32 = number(words);
                let _reroutes: u32 = number(words);
                self.statuses.push(Status {
                    task,
                    outcome,
                    given_again: name(words) == "true",
                    dispatch: number(words),
                });
            }
            Some("rerouted") => {
                let at = number(words);
                let _: u64 = number(words);
                self.reroutes.push(Reroute {
                    at,
                    node: name(words),
                });
            }
            Some("node") => self.node(line, words),
            Some("heard") => {
                let (at, node): (u64, _) = (number(words), name(words));
                if self.is(&node, "Up") {
                    self.heard.entry(node).or_default().push(at);
                }
            }
            Some("totals") => {
                self.stale_reports = number(words);
                self.violations = number(words);
            }
            Some("left") => self.left.push(number(words)),
            Some("untold") => {
                let (task, again) = (number(words), name(words));
                self.untold.push((task, again == "true"));
            }
            Some("ended") => self.ended = true,
            _ => {}
        }
    }

    fn node(&mut self, line: &str, words: &mut SplitWhitespace<'_>) {
        let at = number(words);
        let name_of = name(words);
        let (incarnation, state) = (number(words), name(words));
        let reason = words.collect::<Vec<_>>().join(" ");
        self.beliefs.push(line.to_owned());
        self.nodes.insert(
            name_of,
            Belief {
                at,
                state,
                reason,
                incarnation,
            },
        );
    }

    /// Returns whether a node has come up after this.
    pub fn came_up(&self, node: &str, since: u64) -> bool {
        let belief = self.nodes.get(node);
        belief.is_some_and(|belief| belief.state == "Up" && belief.at >= since)
    }

    /// Returns whether a node is up and was heard so long after it came up, and after `since`.
    pub fn stays_up(&self, node: &str, since: u64, span: u64) -> bool {
        let heard = self.heard.get(node).and_then(|times| times.last());
        self.is(node, "Up") && heard.is_some_and(|&at| at >= since.max(self.nodes[node].at) + span)
    }

    /// Returns the longest time without a word of a node, as far as it is about this span.
    pub fn longest_silence(&self, node: &str, from: u64, to: u64) -> Duration {
        let times = self.heard.get(node).map_or(&[][..], Vec::as_slice);
        let last = times.iter().rev().find(|&&at| at <= from);
        let within = times.iter().filter(|&&at| at > from && at < to);
        let next = times.iter().find(|&&at| at >= to);
        let moments: Vec<u64> = std::iter::once(last.copied().unwrap_or(from))
            .chain(within.copied())
            .chain([next.copied().unwrap_or(to)])
            .collect();
        let silences = moments.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_nanos(silences.max().unwrap_or_default())
    }

    pub fn is(&self, node: &str, state: &str) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|belief| belief.state == state)
    }
}

/// One run, from the ledger of its process.
#[derive(Clone, Debug)]
pub struct Run {
    /// The ledger, which is the process.
    pub process: String,
    pub task: u64,
    pub dispatch: u64,
    pub attempt: u32,
    pub start: u64,
    /// `None` if its process was killed before.
    pub end: Option<(u64, String)>,
}

impl Run {
    /// Returns the name of the node, with which that of its ledger begins.
    pub fn node(&self) -> &str {
        self.process.split('-').next().unwrap_or_default()
    }
}

/// Returns all runs of a scenario, in order of their starts.
pub fn runs(directory: &Path) -> Vec<Run> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(directory.join("ledgers")).unwrap() {
        let entry = entry.unwrap();
        let process = entry.file_name().into_string().unwrap();
        let mut own: BTreeMap<(u64, u64), Run> = BTreeMap::new();
        for line in fs::read_to_string(entry.path()).unwrap().lines() {
            let mut words = line.split_whitespace();
            let words = &mut words;
            let (what, at) = (name(words), number(words));
            let (task, dispatch) = (number(words), number(words));
            if what == "start" {
                let run = Run {
                    process: process.clone(),
                    task,
                    dispatch,
                    attempt: number(words),
                    start: at,
                    end: None,
                };
                let twice = own.insert((task, dispatch), run);
                assert!(twice.is_none(), "t{task}#{dispatch} started twice");
            } else {
                let run = own.get_mut(&(task, dispatch)).unwrap();
                let again = run.end.replace((at, name(words)));
                assert!(again.is_none(), "t{task}#{dispatch} ended twice");
            }
        }
        runs.extend(own.into_values());
    }
    runs.sort_by_key(|run| run.start);
    runs
}

/// An effect of an exclusive task.
#[derive(Clone, Debug)]
pub struct Effect {
    pub what: String,
    pub at: u64,
    pub dispatch: u64,
}

/// Returns the effects of each exclusive task, in the order in which they came about.
pub fn effects(directory: &Path) -> BTreeMap<u64, Vec<Effect>> {
    let files = fs::read_dir(directory.join("effects")).unwrap();
    files
        .map(|entry| {
            let entry = entry.unwrap();
            let task = entry.file_name().into_string().unwrap().parse().unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            let effects = text.lines().map(|line| {
                let mut words = line.split_whitespace();
                Effect {
                    what: name(&mut words),
                    at: number(&mut words),
                    dispatch: number(&mut words),
                }
            });
            (task, effects.collect())
        })
        .collect()
}
