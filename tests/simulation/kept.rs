//! Plans that broke a promise once, kept as texts: `kept/*.plan`.
//!
//! A plan is kept whole, with the number from which its run draws what chance decides (delays,
//! jitter, who is late), so what `Plan::draw` makes of a seed may change without changing it.
//! Whoever adds a draw to the run itself takes it from a generator of its own, made from that
//! number, so that the draws of kept plans stay.
//!
//! Owns: the text, the check that each plan still shows what it is marked with, and the way from a
//! seed to a file. Does not know: what a plan does.
//!
//! A text begins with comments that say which promise breaks and why. Then come lines of a word and
//! a value:
//!
//! ```text
//! plan 1
//! shows G8: one loss of it is told twice      (only while it is known to fail)
//! chance 1005392
//! family "Kills"
//! config {...}
//! times {...}
//! net {...}
//! node {...}                                  (one line for each)
//! task {...}
//! fleet {...}                                 (only with two schedulers)
//! fault 12.345000000 {...}                    (when, in seconds)
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use callboard::config::SchedulerConfig;
use callboard::retry::RetryPolicy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::{AudiencePlan, Family, FleetPlan, Mode, NetPlan, Plan, SECOND, TaskPlan, Time};
use crate::{Broken, run, shrink};

/// What the first line says; another layout takes another number.
const VERSION: &str = "1";

/// What a fresh file says in place of the reason, which somebody has to write.
const NO_REASON: &str = "# Which promise breaks, and why?";

struct Kept {
    /// The failure that it is known to show.
    shows: Option<String>,
    /// What the run's own draws come from.
    chance: u64,
    plan: Plan,
}

/// The settings that a plan decides; all others have their defaults.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigText {
    retry: RetryPolicy,
    max_reroutes: u32,
    max_tasks: usize,
    max_statuses: usize,
    max_status_bytes: u64,
    status_window: usize,
    max_prefetch: u32,
    heartbeat: Duration,
    lease: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outlive: Option<Duration>,
    accept_joins: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tell_at_once: bool,
}

impl From<&SchedulerConfig> for ConfigText {
    fn from(config: &SchedulerConfig) -> Self {
        Self {
            retry: config.retry,
            max_reroutes: config.max_reroutes,
            max_tasks: config.max_tasks,
            max_statuses: config.max_statuses,
            max_status_bytes: config.max_status_bytes,
            status_window: config.status_window,
            max_prefetch: config.max_prefetch,
            heartbeat: config.heartbeat,
            lease: config.lease,
            outlive: config.outlive,
            accept_joins: config.accept_joins,
            tell_at_once: config.tell_at_once,
        }
    }
}

impl From<ConfigText> for SchedulerConfig {
    fn from(text: ConfigText) -> Self {
        let mut config = Self::default();
        config.retry = text.retry;
        config.max_reroutes = text.max_reroutes;
        config.max_tasks = text.max_tasks;
        config.max_statuses = text.max_statuses;
        config.max_status_bytes = text.max_status_bytes;
        config.status_window = text.status_window;
        config.max_prefetch = text.max_prefetch;
        config.heartbeat = text.heartbeat;
        config.lease = text.lease;
        config.outlive = text.outlive;
        config.accept_joins = text.accept_joins;
        config.tell_at_once = text.tell_at_once;
        config
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Times {
    quiet_from: Time,
    late: Time,
    client_pace: Time,
    #[serde(default)]
    late_answers: bool,
    shut_down: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_gone: Option<usize>,
}

/// What a line of a task leaves out.
impl Default for TaskPlan {
    fn default() -> Self {
        Self {
            at: 0,
            kind: 0,
            ms: 0,
            fails: 0,
            mode: Mode::Ends,
            args_bytes: 0,
            priority: 0,
            delay: None,
            deadline: None,
            timeout: None,
            retry: None,
            labels: Vec::new(),
            exclusive: false,
            key: None,
            max_reroutes: None,
            audience: AudiencePlan::Current,
            watched: false,
            notes: false,
            cancel_after: None,
            attach_after: None,
            group: None,
        }
    }
}

impl Kept {
    fn write(&self) -> String {
        let plan = &self.plan;
        let mut lines = vec![NO_REASON.to_owned(), format!("plan {VERSION}")];
        lines.extend(self.shows.iter().map(|shows| format!("shows {shows}")));
        lines.push(format!("chance {}", self.chance));
        lines.push(format!("family {}", json(&plan.family)));
        lines.push(format!("config {}", json(&ConfigText::from(&plan.config))));
        let times = Times {
            quiet_from: plan.quiet_from,
            late: plan.late,
            client_pace: plan.client_pace,
            late_answers: plan.late_answers,
            shut_down: plan.shut_down,
            store: plan.store,
            max_gone: plan.max_gone,
        };
        lines.push(format!("times {}", json(&times)));
        lines.push(format!("net {}", json(&plan.net)));
        lines.extend(plan.nodes.iter().map(|node| format!("node {}", json(node))));
        lines.extend(plan.tasks.iter().map(|task| format!("task {}", lean(task))));
        lines.extend(plan.fleet.iter().map(|it| format!("fleet {}", json(it))));
        lines.extend(plan.faults.iter().map(|(at, fault)| {
            let (seconds, rest) = (at / SECOND, at % SECOND);
            format!("fault {seconds}.{rest:09} {}", json(fault))
        }));
        lines.join("\n") + "\n"
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        if lines.next() != Some(&format!("plan {VERSION}")) {
            return Err(format!("must begin with \"plan {VERSION}\""));
        }
        let (mut shows, mut chance, mut family, mut net) = (None, None, None, None);
        let (mut config, mut times, mut fleet) = (None, None, None);
        let (mut nodes, mut tasks, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            let (word, value) = line.split_once(' ').ok_or(format!("a bare word: {line}"))?;
            match word {
                "shows" => shows = Some(value.to_owned()),
                "chance" => chance = Some(parse::<u64>(value)?),
                "family" => family = Some(parse::<Family>(value)?),
                "config" => config = Some(parse::<ConfigText>(value)?),
                "times" => times = Some(parse::<Times>(value)?),
                "fleet" => fleet = Some(parse::<FleetPlan>(value)?),
                "net" => net = Some(parse::<NetPlan>(value)?),
                "node" => nodes.push(parse(value)?),
                "task" => tasks.push(parse(value)?),
                "fault" => {
                    let (at, fault) = value.split_once(' ').ok_or("a fault without a time")?;
                    faults.push((moment(at)?, parse(fault)?));
                }
                other => return Err(format!("an unknown word: {other}")),
            }
        }
        let times = times.ok_or("no times")?;
        Ok(Self {
            shows,
            chance: chance.ok_or("no chance")?,
            plan: Plan {
                family: family.ok_or("no family")?,
                config: config.ok_or("no config")?.into(),
                net: net.ok_or("no net")?,
                nodes,
                tasks,
                faults,
                quiet_from: times.quiet_from,
                late: times.late,
                client_pace: times.client_pace,
                late_answers: times.late_answers,
                shut_down: times.shut_down,
                fleet,
                store: times.store,
                max_gone: times.max_gone,
            },
        })
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

/// Writes a task without what it shares with the default.
fn lean(task: &TaskPlan) -> String {
    let mut value = serde_json::to_value(task).unwrap();
    let default = serde_json::to_value(TaskPlan::default()).unwrap();
    if let (Value::Object(fields), Value::Object(default)) = (&mut value, &default) {
        fields.retain(|name, value| name == "at" || default.get(name) != Some(value));
    }
    value.to_string()
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|why| format!("{why}: {text}"))
}

/// Seconds with nine places.
fn moment(text: &str) -> Result<Time, String> {
    let digits = text.split_once('.').filter(|(_, rest)| rest.len() == 9);
    let (seconds, rest) = digits.ok_or(format!("not seconds with nine places: {text}"))?;
    Ok(parse::<Time>(seconds)? * SECOND + rest.parse::<Time>().map_err(|why| why.to_string())?)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/kept")
}

/// Makes a title of the promise and the text of a failure.
fn title(broken: &Broken) -> String {
    let text = broken.text.lines().next().unwrap_or_default();
    format!("{}: {text}", broken.promise)
}

/// Returns whether two titles tell of one failure: numbers say when and where, not what.
fn is_same(one: &str, other: &str) -> bool {
    let words = |title: &str| title.replace(|letter: char| letter.is_ascii_digit(), "");
    words(one) == words(other)
}

/// Returns whether this is the failure of that title.
pub fn is_titled(broken: &Broken, other: &Broken) -> bool {
    is_same(&title(broken), &title(other))
}

/// Writes what a seed breaks to a file, shrunk as far as it still breaks just that.
pub fn keep(name: &str, chance: u64, plan: &Arc<Plan>, broken: &Broken) {
    let plan = shrink(chance, plan, |again| is_titled(again, broken));
    let (again, _) = run(chance, &plan, false);
    let kept = Kept {
        shows: again.as_ref().map(title),
        chance,
        plan: Plan::clone(&plan),
    };
    let file = folder().join(format!("{name}.plan"));
    std::fs::write(&file, kept.write()).unwrap();
    println!("kept as {}", file.display());
}

/// Reads the plan that is kept under a name, and what its run draws from.
pub fn open(name: &str) -> (u64, Arc<Plan>) {
    let text = std::fs::read_to_string(folder().join(format!("{name}.plan"))).unwrap();
    let kept = Kept::read(&text).unwrap();
    (kept.chance, Arc::new(kept.plan))
}

/// Panics if a kept plan shows anything but the failure that it is marked with.
pub fn try_all() {
    let mut wrong = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(file).unwrap();
        if !text.starts_with("# ") || text.starts_with(NO_REASON) {
            wrong.push(format!(
                "{name} does not say which promise it breaks, and why"
            ));
        }
        let kept = Kept::read(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        let (broken, _) = run(kept.chance, &Arc::new(kept.plan), false);
        match (kept.shows, broken.as_ref().map(title)) {
            (None, None) => {}
            (Some(known), Some(shown)) if is_same(&known, &shown) => {}
            (Some(known), None) => wrong.push(format!(
                "{name} no longer shows \"{known}\": if that is mended, take the mark \"shows\" off"
            )),
            (known, Some(shown)) => wrong.push(format!(
                "{name} shows \"{shown}\", and is marked with {known:?}"
            )),
        }
    }
    assert!(!files.is_empty(), "no plans are kept");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Checks that what is written is read back as it was, for any plan.
pub fn write_and_read(seed: u64) {
    let plan = Plan::draw(seed);
    let kept = Kept {
        shows: Some("G1: an example".to_owned()),
        chance: seed,
        plan,
    };
    let again = Kept::read(&kept.write()).unwrap();
    assert_eq!(
        format!("{:?}", again.plan),
        format!("{:?}", kept.plan),
        "{seed}"
    );
    assert_eq!((again.chance, again.shows), (seed, kept.shows));
}
