//! Random histories, hostile ones among them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

mod steps;

use steps::{Step, Word, steps};

/// A driver that carries out the actions and watches their order.
struct Driver {
    bench: Bench,
    open: Vec<LinkId>,
    runs: BTreeMap<u32, (Assignment, bool)>,
    /// What each worker begins next.
    queued: BTreeMap<u32, VecDeque<Assignment>>,
    /// What workers have said and was not heard yet.
    inbox: VecDeque<NodeEvent>,
    lag: bool,
    /// Whether runs are short enough to be pipelined.
    quick: bool,
    /// Per link: whether a hello, then a welcome has passed, and the last report's number.
    greeted: BTreeSet<LinkId>,
    welcomed: BTreeSet<LinkId>,
    last_seq: BTreeMap<LinkId, u64>,
    /// The last number on any link, and the last beat.
    seq: u64,
    beat: u64,
    under_way: Vec<String>,
}

impl Driver {
    fn new(joins: bool, quick: bool) -> Self {
        let mut spec = if joins {
            joining(&["one", "two"])
        } else {
            spec(3)
        };
        spec.config.max_kept_bytes = 1000;
        Self {
            bench: Bench::new(spec),
            open: Vec::new(),
            runs: BTreeMap::new(),
            queued: BTreeMap::new(),
            inbox: VecDeque::new(),
            lag: false,
            quick,
            greeted: BTreeSet::new(),
            welcomed: BTreeSet::new(),
            last_seq: BTreeMap::new(),
            seq: 0,
            beat: 0,
            under_way: Vec::new(),
        }
    }

    fn event(&mut self, event: NodeEvent) {
        self.bench.node.handle(self.bench.now, event);
        self.turn();
    }

    /// Carries out what follows, and what follows from what workers say.
    fn turn(&mut self) {
        for action in self.bench.effects() {
            self.perform(action);
        }
        if !self.lag
            && let Some(event) = self.inbox.pop_front()
        {
            return self.event(event);
        }
        if self.inbox.is_empty() {
            assert_eq!(self.bench.node.running(), self.runs.len());
        }
    }

    /// Tells something as a worker, which begins what is next for it, if it is free.
    fn tell(&mut self, worker: WorkerId, event: NodeEvent) {
        self.inbox.push_back(event);
        if !self.runs.contains_key(&worker.0)
            && let Some(next) = self.queued.get_mut(&worker.0).and_then(VecDeque::pop_front)
        {
            self.runs.insert(worker.0, (next, false));
        }
        self.turn();
    }

    fn perform(&mut self, action: NodeAction) {
        match action {
            NodeAction::Send { link, message } => {
                assert!(self.open.contains(&link), "{message:?} on a closed link");
                self.sent(link, message);
            }
            NodeAction::Close { link, .. } => {
                let place = self.open.iter().position(|&open| open == link);
                self.open.remove(place.expect("a link is closed once"));
            }
            NodeAction::Dial { address, .. } => {
                assert!(!self.under_way.contains(&address), "one dial per address");
                self.under_way.push(address);
            }
            NodeAction::Start {
                worker, assignment, ..
            } => match self.runs.entry(worker.0) {
                Entry::Vacant(free) => {
                    free.insert((assignment, false));
                }
                Entry::Occupied(_) => {
                    let pipeline = self.queued.entry(worker.0).or_default();
                    pipeline.push_back(assignment);
                }
            },
            NodeAction::Stop { worker, dispatch } => {
                let run = self.runs.get(&worker.0).map(|(run, _)| run.dispatch);
                let late = !self.inbox.is_empty();
                assert!(late || run == Some(dispatch), "only what runs is stopped");
            }
            NodeAction::TakeBack { worker, dispatch } => {
                let pipeline = self.queued.entry(worker.0).or_default();
                let place = pipeline.iter().position(|next| next.dispatch == dispatch);
                if let Some(assignment) = place.and_then(|place| pipeline.remove(place)) {
                    let event = NodeEvent::Unstarted { worker, assignment };
                    self.inbox.push_back(event);
                } else {
                    assert!(!self.inbox.is_empty(), "only a queued start is taken back");
                }
            }
            NodeAction::Gone(_) => assert!(self.runs.is_empty()),
            NodeAction::Note(_) => {}
        }
    }

    fn sent(&mut self, link: LinkId, message: ToScheduler) {
        match message {
            ToScheduler::Hello(_) => assert!(self.greeted.insert(link)),
            ToScheduler::Holding(holding) => {
                assert!(self.greeted.contains(&link) && !self.welcomed.contains(&link));
                self.numbers(link, &holding.reports);
            }
            ToScheduler::Refuse(_) => {}
            ToScheduler::Beat(beat) => {
                assert!(self.welcomed.contains(&link));
                self.beat = beat.number;
            }
            ToScheduler::Reports(reports) => {
                assert!(self.welcomed.contains(&link));
                self.numbers(link, &reports);
            }
            ToScheduler::Goodbye => {
                assert!(self.welcomed.contains(&link) && self.runs.is_empty());
            }
        }
    }

    fn numbers(&mut self, link: LinkId, reports: &[Report]) {
        for seq in reports.iter().filter_map(Report::seq) {
            let before = self.last_seq.insert(link, seq);
            assert!(before.is_none_or(|before| before < seq));
            self.seq = self.seq.max(seq);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(dialled) => {
                self.open(dialled);
            }
            Step::Serve(id, welcome) => {
                let link = self.open(true);
                self.say(link, Word::Hello(true, id));
                if self.greeted.contains(&link) && self.open.contains(&link) {
                    self.say(link, welcome);
                }
            }
            Step::Cut(index) if !self.open.is_empty() => {
                let link = self.open.remove(index.index(self.open.len()));
                let reason = String::new();
                self.event(NodeEvent::LinkClosed { link, reason });
            }
            Step::Say(index, word) if !self.open.is_empty() => {
                // Mostly the newest, or little would ever come up.
                let back = index.index(10).saturating_sub(8);
                let place = (self.open.len() - 1).saturating_sub(back);
                self.say(self.open[place], word);
            }
            Step::End(index, end, overrun) if !self.runs.is_empty() => {
                self.end(index, end, overrun);
            }
            Step::Unstart(index) if !self.runs.is_empty() => {
                let (worker, (assignment, begun)) = self.pick(index);
                if !begun {
                    self.runs.remove(&worker.0);
                    let event = match assignment.dispatch.get() % 3 {
                        0 => NodeEvent::NoThread { worker, assignment },
                        _ => NodeEvent::Unstarted { worker, assignment },
                    };
                    self.tell(worker, event);
                }
            }
            Step::Lag(lag) => {
                self.lag = lag;
                self.turn();
            }
            Step::Nonsense(worker, number) => {
                let worker = WorkerId(worker);
                let dispatch = d(number + 1000);
                self.event(NodeEvent::Freed { worker, dispatch });
            }
            Step::Stall(worker, stalled) => {
                let workers = vec![WorkerId(worker), WorkerId(worker + 2)];
                self.event(match stalled {
                    true => NodeEvent::Stalled { workers },
                    false => NodeEvent::Resumed { workers },
                });
            }
            Step::Workers(workers) => self.event(NodeEvent::Workers(workers)),
            Step::DialFailed if !self.under_way.is_empty() => {
                let address = self.under_way.remove(0);
                let reason = String::new();
                self.event(NodeEvent::DialFailed { address, reason });
            }
            Step::Drain => self.event(NodeEvent::Drain),
            Step::Stop => self.event(NodeEvent::Stop),
            Step::Pass(ms) => {
                self.bench.now = self.bench.now + Duration::from_millis(ms);
                self.turn();
            }
            _ => {}
        }
    }

    fn open(&mut self, dialled: bool) -> LinkId {
        let dialled = (dialled && !self.under_way.is_empty()).then(|| self.under_way.remove(0));
        self.bench.links += 1;
        let link = LinkId(self.bench.links);
        self.open.push(link);
        self.event(opened(link, dialled));
        link
    }

    fn say(&mut self, link: LinkId, word: Word) {
        let message = self.word(word);
        if matches!(message, ToNode::Welcome(_)) && self.greeted.contains(&link) {
            self.welcomed.insert(link);
        }
        let assigned = match &message {
            ToNode::Assign(assignments) => assignments.iter().map(|task| task.dispatch).collect(),
            _ => Vec::new(),
        };
        self.event(NodeEvent::Message { link, message });
        if self.open.contains(&link) {
            self.none_is_lost(&assigned);
        }
    }

    /// Checks that every assignment is held or was reported.
    fn none_is_lost(&self, assigned: &[Dispatch]) {
        let mut accounted: BTreeSet<Dispatch> = self
            .bench
            .node
            .holds()
            .iter()
            .map(|run| run.dispatch)
            .collect();
        accounted.extend(
            self.bench
                .node
                .kept
                .after(0)
                .filter_map(|report| match report {
                    Report::Refused { dispatch, .. }
                    | Report::Returned { dispatch, .. }
                    | Report::Ended { dispatch, .. } => Some(*dispatch),
                    _ => None,
                }),
        );
        for dispatch in assigned {
            assert!(accounted.contains(dispatch), "{dispatch} is lost");
        }
    }

    fn pick(&self, index: Index) -> (WorkerId, (Assignment, bool)) {
        let place = index.index(self.runs.len());
        let (worker, run) = self
            .runs
            .iter()
            .nth(place)
            .expect("an index below the length");
        (WorkerId(*worker), run.clone())
    }

    fn end(&mut self, index: Index, end: End, overrun: bool) {
        let (worker, (run, overran)) = self.pick(index);
        let dispatch = run.dispatch;
        if overran {
            self.runs.remove(&worker.0);
            self.tell(worker, NodeEvent::Freed { worker, dispatch });
            return;
        }
        if overrun {
            self.runs.insert(worker.0, (run, true));
        } else {
            self.runs.remove(&worker.0);
        }
        let micros = if self.quick { 10 } else { 1000 };
        let ended = NodeEvent::Ended {
            worker,
            dispatch,
            end,
            ran: Duration::from_micros(micros),
            overrun,
        };
        self.tell(worker, ended);
    }

    fn word(&self, word: Word) -> ToNode {
        match word {
            Word::Hello(a, (id, term)) => hello_in(if a { "a" } else { "b" }, id, term),
            Word::Welcome(acknowledged, workers, outlive, stop) => {
                ToNode::Welcome(Box::new(Welcome {
                    outlive: LEASE * outlive,
                    acknowledged: acknowledged.min(self.seq),
                    workers,
                    stop: stop.into_iter().map(d).collect(),
                    ..welcome()
                }))
            }
            Word::Refuse(replaced) => {
                let name = String::new();
                ToNode::Refuse(match replaced {
                    true => LinkRefusal::Replaced { name },
                    false => LinkRefusal::NameInUse { name },
                })
            }
            Word::Assign(all) => ToNode::Assign(all.into_iter().map(random_task).collect()),
            Word::Retract(number) => ToNode::Retract(vec![d(number), d(number + 1)]),
            Word::Cancel(number) => ToNode::Cancel(vec![d(number), d(number + 1)]),
            Word::Acknowledge(through) => ToNode::Acknowledge(through),
            Word::AcknowledgeAll => ToNode::Acknowledge(self.seq),
            Word::Answer(number) => ToNode::Answer(number),
            Word::AnswerLast => ToNode::Answer(self.beat),
            Word::Workers(workers) => ToNode::Workers(workers),
            Word::Wants(tasks) => ToNode::Wants(tasks),
            Word::Drain => ToNode::Drain,
            Word::Leave => ToNode::Leave,
        }
    }

    /// Lets every run end, then drains: whatever has happened before, the node comes to its end.
    fn wind_up(&mut self) {
        self.lag = false;
        self.event(NodeEvent::Stop);
        while let Some((&worker, (run, overran))) = self.runs.iter().next() {
            let (worker, dispatch, overran) = (WorkerId(worker), run.dispatch, *overran);
            self.runs.remove(&worker.0);
            let event = if overran {
                NodeEvent::Freed { worker, dispatch }
            } else {
                NodeEvent::Ended {
                    worker,
                    dispatch,
                    end: End::Stopped,
                    ran: Duration::ZERO,
                    overrun: false,
                }
            };
            self.tell(worker, event);
        }
        self.bench.now = self.bench.now + LEASE * 6;
        self.turn();
        assert!(self.bench.node.is_gone(), "{:?}", self.bench.node);
        assert!(self.bench.node.kept.is_empty() && self.bench.node.held.is_empty());
    }
}

fn random_task(
    (number, kind, prefetched, priority, exclusive): (u64, u16, bool, i8, bool),
) -> Assignment {
    let terms = Terms {
        priority,
        exclusive,
        watched: true,
        ..Terms::default()
    };
    task(number, kind, prefetched, Some(terms))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn g11_no_history_breaks_the_node(joins: bool, quick: bool, history in prop::collection::vec(steps(), 1..150)) {
        let mut driver = Driver::new(joins, quick);
        driver.turn();
        for step in history {
            driver.step(step);
        }
        driver.wind_up();
    }
}
