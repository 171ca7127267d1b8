//! What happens in one history: the nodes, the tasks, the faults and when, all drawn from one seed.
//!
//! Owns: the choice of a family and everything drawn within it. Does not know: how any of it is
//! carried out.

mod clients;
mod draw;
mod fault;
mod faults;
mod fleet;
mod load;
mod overtaken;
mod pods;
mod restarts;

use std::time::Duration;

use callboard::config::SchedulerConfig;
use callboard::retry::RetryPolicy;
use callboard::trace::TraceContext;
use serde::{Deserialize, Serialize};

pub use draw::rescue;
pub use fault::Fault;
pub use fleet::{FleetPlan, NeighbourFault};

use draw::{
    draw_config, draw_crowds, draw_forwarders, draw_net, draw_no_threads, draw_nodes, draw_pauses,
    draw_removals, draw_replacements, draw_tasks, draw_visits,
};

/// Nanoseconds of true time since the start of a history.
pub type Time = u64;
pub const MS: Time = 1_000_000;
pub const SECOND: Time = 1_000 * MS;
pub const NEVER: Time = u64::MAX;

/// The kinds that exist, and whether a run of it can be stopped from outside.
pub const KINDS: [(&str, bool); 4] = [
    ("quick", false),
    ("slow", false),
    ("block", true),
    ("rare", false),
];
pub const BLOCK: usize = 2;

/// Which promises a history strains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// No faults at all.
    Calm,
    /// One node, one worker, no faults: the order of starts is exact.
    Order,
    /// No faults, and more to do than workers: kinds of very different length, several priorities.
    Load,
    /// Another scheduler has the same nodes, and all that goes wrong is its own.
    Fleet,
    /// Only cuts too short to cost anything.
    Cuts,
    /// Processes and machines that die and return.
    Kills,
    /// Everything.
    Everything,
    /// The same, with a store that is slow and fails.
    Durable,
    /// A scheduler with a store that dies and starts again.
    Restarts,
}

/// Returns whether families other than `Restarts` have a store, too.
pub fn stores() -> bool {
    std::env::var_os("SIM_STORE").is_some()
}

impl Family {
    /// Returns whether nothing ever goes wrong, but for what is none of the scheduler's business.
    pub fn has_no_faults(self) -> bool {
        matches!(self, Self::Calm | Self::Order | Self::Load | Self::Fleet)
    }

    /// Returns whether no node is ever lost.
    pub fn loses_no_node(self) -> bool {
        self.has_no_faults() || self == Self::Cuts
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub family: Family,
    pub config: SchedulerConfig,
    pub net: NetPlan,
    pub nodes: Vec<NodePlan>,
    pub tasks: Vec<TaskPlan>,
    pub faults: Vec<(Time, Fault)>,
    /// From here on nothing is handed in and every fault heals.
    pub quiet_from: Time,
    /// How late a tick may come. If it is more than two heartbeats, each tick of the scheduler is.
    pub late: Time,
    /// How long a client takes over one status.
    pub client_pace: Time,
    /// Whether its handler answers with futures, of which some take long.
    pub late_answers: bool,
    /// Whether the history ends with `shut_down` in the middle of things.
    pub shut_down: bool,
    /// The other scheduler, if there is one.
    pub fleet: Option<FleetPlan>,
    /// How long the scheduler's store takes at most, if it has one.
    pub store: Option<Time>,
    /// How many nodes that are gone are remembered, if not as many as always.
    pub max_gone: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetPlan {
    pub min: Time,
    pub max: Time,
    /// One message in so many takes 200 ms; 0 is none.
    pub spike: u32,
    /// How long whoever drives a machine waits for a dial.
    pub dial_timeout: Time,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    pub name: String,
    /// The scheduler dials it.
    pub listens: bool,
    /// It dials the scheduler.
    pub joins: bool,
    /// It names a port to probe.
    pub probe: bool,
    /// It lives in the scheduler's process.
    pub local: bool,
    /// Something stands in front of where it listens, and answers for it: a refusal proves nothing.
    #[serde(default)]
    pub forwarded: bool,
    /// Its name never comes again, once its process has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    pub workers: u32,
    pub kinds: Vec<usize>,
    pub labels: Vec<String>,
    pub kept: u64,
    /// When it is there; and when it is made known, if it is dialled.
    pub from: Time,
    pub drift_ppm: i64,
    pub offset: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Ends by itself, after as many failures as asked for.
    Ends,
    /// Fails for good.
    Permanent,
    /// Ends only when it is stopped.
    Endless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AudiencePlan {
    Current,
    Own,
    Caller,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskPlan {
    pub at: Time,
    pub kind: usize,
    pub ms: u32,
    pub fails: u8,
    pub mode: Mode,
    pub args_bytes: usize,
    pub priority: i8,
    pub delay: Option<Duration>,
    pub deadline: Option<Duration>,
    pub timeout: Option<Duration>,
    pub retry: Option<RetryPolicy>,
    pub labels: Vec<String>,
    pub exclusive: bool,
    pub key: Option<u8>,
    pub max_reroutes: Option<u32>,
    pub audience: AudiencePlan,
    pub watched: bool,
    /// Whether its handler notes something as it begins and ends.
    #[serde(default)]
    pub notes: bool,
    pub cancel_after: Option<Time>,
    /// When somebody begins to wait for its ending who has its id.
    pub attach_after: Option<Time>,
    pub group: Option<u8>,
}

impl TaskPlan {
    /// Returns the trace that it is handed in with: those of each second group have one.
    pub fn trace(&self) -> Option<TraceContext> {
        let group = self.group.filter(|group| group % 2 == 1)?;
        let parent = format!("00-{:032x}-{:016x}-01", self.at + 1, u64::from(group));
        Some(TraceContext::new(&parent, "of=group").expect("a traceparent"))
    }
}

impl Plan {
    /// Returns whether each tick of the scheduler comes so late that it may take itself for asleep.
    pub fn is_always_late(&self) -> bool {
        self.late > 2 * nanos(self.config.heartbeat)
    }

    /// Puts the faults in order, and lets the quiet follow the last.
    fn sort_faults(&mut self) {
        self.faults.sort_by_key(|(at, _)| *at);
        if let Some((last, _)) = self.faults.last() {
            self.quiet_from = self.quiet_from.max(*last + SECOND);
        }
    }

    /// Draws the history of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x9E37_79B9_7F4A_7C15);
        // One history in ten is of load, and of those one in five is big.
        if seed % 10 == 4 {
            return load::draw(rng, seed % 50 == 4);
        }
        // One in twenty has two schedulers.
        if seed % 20 == 7 {
            return fleet::draw(&mut rng);
        }
        if seed % 20 == 13 {
            return restarts::draw(seed, &mut rng);
        }
        let family = match rng.u32(..20) {
            0..2 => Family::Calm,
            2..4 => Family::Order,
            4..8 => Family::Cuts,
            8..12 => Family::Kills,
            _ => Family::Everything,
        };
        let config = draw_config(&mut rng, family);
        let net = draw_net(&mut rng, family, &config);
        let active = rng.u64(10..40) * SECOND;
        let late = if family == Family::Everything && rng.u32(..3) == 0 {
            300 * MS
        } else {
            5 * MS
        };
        let nodes = draw_nodes(&mut rng, family, active);
        let tasks = draw_tasks(&mut rng, family, active);
        let mut plan = Self {
            family,
            client_pace: if family == Family::Everything {
                rng.u64(0..20) * MS
            } else {
                MS
            },
            late_answers: false,
            config,
            net,
            nodes,
            tasks,
            faults: Vec::new(),
            quiet_from: active,
            late,
            shut_down: family == Family::Everything && rng.u32(..10) == 0,
            fleet: None,
            store: None,
            max_gone: None,
        };
        plan.faults = match family {
            Family::Calm | Family::Order => Vec::new(),
            Family::Cuts => plan.draw_cuts(&mut rng),
            Family::Kills => plan.draw_kills(&mut rng),
            _ => plan.draw_everything(&mut rng),
        };
        // Drawn last, so that a history of before is the same but for this.
        plan.late_answers = family == Family::Everything && rng.u32(..3) == 0;
        if plan.family == Family::Everything {
            draw_removals(&mut rng, &mut plan.faults, plan.nodes.len());
            draw_visits(&mut rng, &mut plan);
            draw_no_threads(&mut rng, &mut plan);
            draw_replacements(&mut rng, &mut plan);
        }
        if plan.family == Family::Kills && rng.u32(..8) == 0 {
            plan.late = 3 * nanos(plan.config.heartbeat);
            // Where other nodes are heard, their messages are turns that are not late.
            if rng.bool() {
                plan.nodes.truncate(1);
                let at = rng.u64(SECOND..plan.quiet_from);
                let back = 3 * nanos(plan.config.lease);
                plan.faults = vec![(at, Fault::KillHost { node: 0, back })];
            }
        }
        if stores() {
            // The default is longer than a history.
            let outlive = rng.u64(..=nanos(plan.config.lease));
            plan.config.outlive = Some(Duration::from_nanos(outlive));
            // One in four has a store that takes no time: what it is told is checked at each step.
            plan.store = (seed % 4 == 1).then_some(0);
            if plan.family == Family::Everything && seed % 4 == 3 {
                plan.family = Family::Durable;
                plan.shut_down = false;
                plan.draw_store(&mut rng);
            }
        }
        if matches!(
            plan.family,
            Family::Kills | Family::Everything | Family::Durable
        ) {
            draw_forwarders(&mut rng, &mut plan.nodes);
            draw_crowds(&mut rng, &mut plan);
            draw_pauses(&mut rng, &mut plan);
            if plan.shut_down && rng.bool() {
                let at = rng.u64(plan.quiet_from / 2..plan.quiet_from);
                plan.faults.push((at, Fault::FinishRunning));
            }
        }
        if !matches!(plan.family, Family::Calm | Family::Order) {
            clients::draw_nobody(seed, &mut plan);
        }
        if matches!(
            plan.family,
            Family::Kills | Family::Everything | Family::Durable
        ) {
            pods::draw_pods(seed, &mut plan);
        }
        overtaken::draw_overtaken(seed, &mut plan);
        plan.sort_faults();
        plan
    }
}

pub fn nanos(span: Duration) -> Time {
    Time::try_from(span.as_nanos()).unwrap()
}
