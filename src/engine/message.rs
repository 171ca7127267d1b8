//! What a scheduler and a node say to each other.
//!
//! Owns: the messages and the order in which they may come. Does not know: bytes (the `net` layer
//! turns messages into frames; between actors of one process they travel as they are).
//!
//! A link begins when both sides have proved themselves, whichever of them dialled. Then:
//!
//! 1. The scheduler sends [`SchedulerHello`]. A node answers with [`NodeHello`] and, in as many
//!    [`Holding`] messages as it takes, what it holds of this scheduler id: runs, and results that
//!    were not acknowledged. Before it writes the hello it has stopped reading every older link, so
//!    that nothing which is still on its way there will ever start. If it held work of another id,
//!    it has stopped and discarded it. A scheduler with a store keeps its id over all its starts,
//!    and each has a higher term: the node goes over to it at once, and refuses a lower one.
//! 2. When the last [`Holding`] has come, the scheduler compares: what it had sent and the node
//!    does not hold was lost on the way and is pending again; what the node holds and is superseded
//!    is stopped. That holds only as long as the node's memory is the same ([`NodeHello::memory`]):
//!    of what a node has forgotten nothing is known, and it counts as lost. The scheduler answers
//!    with [`Welcome`], and the link is up. Either side may refuse with a reason instead.
//! 3. The node sends [`Beat`]s and [`Report`]s; the scheduler answers beats, assigns, retracts,
//!    cancels and acknowledges.
//!
//! Reports that must not be lost carry a sequence number (see [`Report::seq`]), are kept by the
//! node until [`ToNode::Acknowledge`] covers them, and are sent again in a new link's [`Holding`]s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Incarnation, Memory, SchedulerId};
use crate::error::LinkRefusal;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::task::{Dispatch, Labels, TaskId, is_hidden};

mod report;
mod terms;

pub use report::{End, RefusedBy, Report};
pub use terms::Terms;

/// The lowest protocol version that this crate speaks.
pub const VERSION_MIN: u32 = 1;
/// The highest protocol version that this crate speaks.
pub const VERSION_MAX: u32 = 1;

/// The most kinds that a node may offer.
pub const MAX_KINDS: usize = 4096;
/// The most labels that a node may bear.
pub const MAX_LABELS: usize = 256;
/// The longest name of a node or a scheduler, or label, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The rule of such a name, as text.
pub const NAME_RULE: &str = "1 to 256 bytes, none of them control or invisible characters";
/// Returns whether a node, a scheduler or a label may have this name, by [`NAME_RULE`]: with
/// invisible characters a peer could forge lines of a log, or pass for another.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(is_hidden)
}

/// The most elements in one vector of a message (assignments, reports, dispatches). Longer ones are
/// split.
pub const MAX_BATCH: usize = 4096;

/// The longest note of a handler, in bytes.
pub const MAX_NOTE_BYTES: usize = 256;
/// The largest encoded progress value, in bytes: progress is told often.
pub const MAX_PROGRESS_BYTES: usize = 16 << 10;
/// How long it takes in the long run until a task may tell another progress value.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(10);

/// From a scheduler to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum ToNode {
    /// The first message of a link.
    Hello(Box<SchedulerHello>),
    /// The link is up.
    Welcome(Box<Welcome>),
    /// The link is refused and will be closed.
    Refuse(LinkRefusal),
    /// Start these, in this order.
    Assign(Vec<Assignment>),
    /// Give these back if they have not started; each is answered by [`Report::Returned`], unless
    /// it has started or ended, of which other reports tell.
    Retract(Vec<Dispatch>),
    /// Stop these runs, or give them back if they have not started. Each is answered by
    /// [`Report::Ended`].
    Cancel(Vec<Dispatch>),
    /// Every report numbered up to and with this one may be forgotten.
    Acknowledge(u64),
    /// The answer to the beat of this number.
    Answer(u64),
    /// From now on run at most so many at once; what runs beyond ends by itself.
    Workers(u32),
    /// So many tasks wait here for workers that were told as [`Report::Lent`]. When a run of
    /// another scheduler has ended, its worker is kept for this one, up to its share.
    Wants(u32),
    /// The policy of assignments that bring none.
    Retry(RetryPolicy),
    /// Finish what runs, return what has not started ([`Report::Returned`]), start nothing, then
    /// say [`ToScheduler::Goodbye`].
    Drain,
    /// Stop and discard all work of this scheduler, and forget the scheduler, which has removed
    /// this process.
    Leave,
    /// Stop and discard all work of this scheduler, which ends. The process may serve its next
    /// start.
    End,
}

/// From a node to a scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum ToScheduler {
    /// The answer to the scheduler's hello.
    Hello(Box<NodeHello>),
    /// The link is refused and will be closed.
    Refuse(LinkRefusal),
    /// What the node holds.
    Holding(Holding),
    /// A proof of life.
    Beat(Beat),
    /// What happened, in order.
    Reports(Vec<Report>),
    /// Nothing runs here any more, and the node goes: its process ends or forgets this scheduler.
    /// All numbered reports came before it.
    Goodbye,
}

/// The scheduler's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerHello {
    /// The lowest version it speaks.
    pub version_min: u32,
    /// The highest version it speaks.
    pub version_max: u32,
    /// The name.
    pub scheduler: String,
    /// The id.
    pub scheduler_id: SchedulerId,
    /// The number of this start of the scheduler, if it has a store: of two with one id the higher
    /// one goes on with what the node has, and the lower one is refused. Zero without a store.
    #[serde(default)]
    pub term: u64,
    /// The largest body that it takes, in bytes, with
    /// [`FRAME_OVERHEAD`](crate::config::FRAME_OVERHEAD): no output that is sent to it may be
    /// larger. `None` is not known.
    #[serde(default)]
    pub max_frame: Option<u64>,
}

/// The node's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHello {
    /// The lowest version it speaks.
    pub version_min: u32,
    /// The highest version it speaks.
    pub version_max: u32,
    /// The name.
    pub node: String,
    /// The incarnation of its process.
    pub incarnation: Incarnation,
    /// Drawn when it began to serve this scheduler, and another one once it has forgotten what the
    /// scheduler had given it. As long as it is the same, what the holdings do not name was never
    /// started, or its end was acknowledged. When it is another, nobody knows.
    pub memory: Memory,
    /// The number of the hello, from 1, rising with each hello of this incarnation, over all links:
    /// the later one's holdings are the truth, in whatever order two links bring them.
    pub number: u64,
    /// The highest dispatch that this scheduler id has ever sent it, as far as it remembers: it was
    /// given out, whatever the scheduler's store says.
    #[serde(default = "no_dispatch")]
    pub seen: Dispatch,
    /// What it offers. Assignments name a kind by its index here.
    pub kinds: Vec<KindOffer>,
    /// The labels it bears.
    pub labels: Labels,
    /// How many tasks it may run at once, by its own setting or the scheduler's last word.
    pub workers: u32,
    /// How many of them cannot be used now, as [`Report::Stalled`] tells it.
    #[serde(default)]
    pub out_of_reach: u32,
    /// The address of its end of this link, as it sees it; empty if it does not know. Where the
    /// scheduler sees another one, something in between answers for it.
    #[serde(default)]
    pub address: String,
    /// A port to dial to see whether its process lives, at the host from which it dialled in.
    pub probe: Option<String>,
    /// Whether a refusal at that port means that its process is dead, though there is something in
    /// between.
    #[serde(default)]
    pub refusal_means_dead: bool,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// The largest body that it takes, in bytes, with
    /// [`FRAME_OVERHEAD`](crate::config::FRAME_OVERHEAD): no args that are sent to it may be
    /// larger. `None` is not known.
    #[serde(default)]
    pub max_frame: Option<u64>,
}

impl NodeHello {
    /// Makes the first hello of a process that has one worker and offers nothing, in all versions
    /// that this side speaks.
    pub fn new(node: impl Into<String>, incarnation: Incarnation) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            node: node.into(),
            incarnation,
            memory: Memory(0),
            number: 1,
            seen: no_dispatch(),
            kinds: Vec::new(),
            labels: Labels::new(),
            workers: 1,
            out_of_reach: 0,
            address: String::new(),
            probe: None,
            refusal_means_dead: false,
            draining: false,
            max_frame: None,
        }
    }
}

/// Returns what a node has seen that was sent nothing.
pub(crate) fn no_dispatch() -> Dispatch {
    Dispatch::new(0)
}

/// A kind that a node has a handler for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KindOffer {
    /// The name.
    pub kind: String,
    /// Whether a run of it cannot be stopped from outside, since it occupies a thread.
    pub blocking: bool,
}

/// A part of what a node holds. The parts together are compared when `last` has come.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Holding {
    /// Runs that go on, and assignments that have not started.
    pub runs: Vec<HeldRun>,
    /// Numbered reports that were not acknowledged, in order of their numbers.
    pub reports: Vec<Report>,
    /// Whether this is the last part.
    pub last: bool,
}

/// A run that a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRun {
    /// The task.
    pub task: TaskId,
    /// The run's number.
    pub dispatch: Dispatch,
    /// How far it is.
    pub state: HeldState,
}

/// How far a held run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldState {
    /// The run waits for a worker of the node.
    Prefetched,
    /// The run has its worker and goes on.
    Running,
    /// The attempt has ended for the scheduler (a timeout, a cancel), and yet the run occupies its
    /// worker.
    Overrun,
}

/// The scheduler's agreement that a link is up. Starts the node's lease anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both will speak.
    pub version: u32,
    /// How often the node is to beat.
    pub heartbeat: Duration,
    /// How long a proof of life holds.
    pub lease: Duration,
    /// How long after the end of its lease the node goes on with all that is not exclusive.
    #[serde(default)]
    pub outlive: Duration,
    /// How many tasks the node may run at once, if the scheduler has set it.
    pub workers: Option<u32>,
    /// The policy of assignments that bring none.
    pub retry: RetryPolicy,
    /// Every report numbered up to and with this one may be forgotten.
    pub acknowledged: u64,
    /// Runs of the node's holdings that are superseded or unknown; stop them.
    pub stop: Vec<Dispatch>,
    /// Whether the node is to drain.
    pub drain: bool,
}

/// A proof of life. The hello counts as beat 0, which the welcome answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The number of the beat, from 1, rising by one on each link.
    pub number: u64,
    /// The highest beat of this link whose answer has arrived.
    pub answered: u64,
    /// How long after its sending that answer came. Only the node can tell: its scheduler hears of
    /// the answer with the next beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<Duration>,
}

/// A task sent to a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// The run's number.
    pub dispatch: Dispatch,
    /// The index of its kind in the node's hello.
    pub kind: u16,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// Whether it may wait for a worker. Without it, a node with no free worker refuses.
    pub prefetched: bool,
    /// The encoded args.
    pub args: Payload,
    /// What few tasks ask for; `None` is the default.
    pub terms: Option<Box<Terms>>,
}

impl Assignment {
    /// Returns whether its task never runs twice at once.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.exclusive)
    }
}
