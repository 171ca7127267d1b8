//! The vocabulary of a task: its ids, its priority, its key, its labels and its options.
//!
//! Owns: plain values that every other layer shares. Does not know: clocks, actors, nodes or wires.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::retry::RetryPolicy;
use crate::trace::{TraceContext, TraceMode};

/// Identifies one accepted task of a scheduler.
///
/// Ids are handed out in rising order and are not reused, not even by a later scheduler of the same
/// name: each start continues from the time that the wall clock shows, 2^22 numbers a second since
/// 2025. That is above all earlier ids, provided that the clock was not set back to before the last
/// start, or that there is a store, which was neither lost nor put back. They stay below 2^53 until
/// 2093. Displayed as `t42`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(u64);

impl TaskId {
    /// Returns the id with this number; for an application that stored [`TaskId::get`].
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number alone, for storage or a log field.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The fencing number of one placing of a task on a node.
///
/// All dispatches of a scheduler are numbered by one counter, so a later run of a task always
/// carries a greater number than every earlier one. A scheduler that is started again continues
/// above its earlier numbers, as it does with a [`TaskId`], so a resource that has seen those
/// accepts the new ones. A handler that writes to a shared resource should pass the number along
/// and let the resource refuse a lower one than it has seen (see M. Kleppmann, "How to do
/// distributed locking", 2016, for the method). Displayed as `#7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dispatch(u64);

impl Dispatch {
    /// Returns the dispatch with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number alone: what a fenced resource compares.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How urgent a task is: from -128 to 127, higher first, 0 by default.
///
/// Priority is strict: while tasks of a higher priority can be placed, lower ones wait, without end
/// if need be.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Priority(pub i8);

impl Priority {
    /// -64: for work that may wait for everything else.
    pub const LOW: Self = Self(-64);
    /// 0: the default.
    pub const NORMAL: Self = Self(0);
    /// 64: for work that goes before the rest.
    pub const HIGH: Self = Self(64);
}

/// The name under which a handler is registered, such as `image.resize`. One of up to 23 bytes
/// takes no allocation.
///
/// It is compared with text, and written by serde, as the name alone:
///
/// ```
/// use callboard::task::TaskKind;
///
/// let kind = TaskKind::new("image.resize");
/// assert!(kind == "image.resize" && kind.as_ref() == "image.resize");
/// assert_eq!(serde_json::to_string(&kind).unwrap(), r#""image.resize""#);
/// assert_eq!(serde_json::from_str::<TaskKind>(r#""image.resize""#).unwrap(), kind);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKind(SmolStr);

impl TaskKind {
    /// The longest name that is accepted, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Makes a kind of this name. Whether the name is usable is checked where it is registered or
    /// executed.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(SmolStr::new(name))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the name is 1 to [`TaskKind::MAX_BYTES`] bytes long and has no control or
    /// invisible characters, since it is written to logs.
    #[inline]
    pub fn is_usable(&self) -> bool {
        (1..=Self::MAX_BYTES).contains(&self.0.len()) && !has_hidden(&self.0)
    }
}

/// Returns whether a name has hidden characters. Nearly none has any but printable ASCII.
fn has_hidden(name: &str) -> bool {
    let plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    !plain && name.contains(is_hidden)
}

/// Returns whether a character shows nothing of itself, and may change how a line is shown: control
/// characters, breaks of lines, marks of direction, and what is not shown at all.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A name that the caller chose for a task, so that handing it in twice runs it once.
///
/// Until the first task has settled, an `Execute` with the same key, kind and args joins it and
/// gets its id; with another kind or other args it is refused. When it has settled, an `Execute`
/// with the key is refused for as long as a run of it may still be going on; then the key is free.
///
/// When a task joins, its other options and its watcher are dropped; those of the first one hold. A
/// `run` or `execute_and_wait` that joins is answered as soon as the task has settled, whoever else
/// is told. An `execute` that joins is told by the status that the first one's client gets, and a
/// client of its own is dropped. Only where nobody but `run` and `execute_and_wait` has waited so
/// far, its client (its own, or else the scheduler's) is told too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey(Arc<str>);

impl TaskKey {
    /// The longest key that is accepted, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Makes a key of this text.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name for tasks of one kind that belong together, such as those of one customer.
///
/// Groups of one kind, priority and set of labels take turns, so that many tasks of one do not keep
/// the others waiting: see [`Options::group`]. [`Limit::each_group`](crate::Limit::each_group)
/// limits each. Names may come and go: one without tasks is forgotten.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskGroup(Arc<str>);

impl TaskGroup {
    /// The longest name that is accepted, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Makes a group of this name.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($($name:ident)*) => {
        $(
            impl From<&str> for $name {
                fn from(text: &str) -> Self {
                    Self::new(text)
                }
            }

            impl From<&String> for $name {
                fn from(text: &String) -> Self {
                    Self::new(text)
                }
            }

            impl From<String> for $name {
                fn from(text: String) -> Self {
                    Self::new(text)
                }
            }

            impl AsRef<str> for $name {
                fn as_ref(&self) -> &str {
                    &self.0
                }
            }

            /// Lets a map with these as keys be asked by a `str`.
            impl Borrow<str> for $name {
                fn borrow(&self) -> &str {
                    &self.0
                }
            }

            impl PartialEq<str> for $name {
                fn eq(&self, other: &str) -> bool {
                    *self.0 == *other
                }
            }

            impl PartialEq<&str> for $name {
                fn eq(&self, other: &&str) -> bool {
                    *self.0 == **other
                }
            }

            impl PartialEq<$name> for str {
                fn eq(&self, other: &$name) -> bool {
                    *other == *self
                }
            }

            impl PartialEq<$name> for &str {
                fn eq(&self, other: &$name) -> bool {
                    *other == **self
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Debug::fmt(&*self.0, f)
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(&self.0)
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    String::deserialize(deserializer).map(Self::new)
                }
            }
        )*
    };
}

text!(TaskKind TaskKey TaskGroup);

/// Words that a node bears and a task may require, such as `gpu` or `zone=north`.
pub type Labels = BTreeSet<String>;

/// When a task becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Due {
    /// As soon as a worker is free.
    #[default]
    Now,
    /// Not before this long after it was accepted.
    After(Duration),
    /// Not before this moment of the scheduler's wall clock; at once when it has passed. It follows
    /// the wall clock within a second, also when that is set meanwhile.
    At(std::time::SystemTime),
}

/// What may be asked for one task beside its kind and args. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Options {
    /// Order among the pending; 0 by default.
    pub priority: Priority,
    /// When it becomes due; at once by default.
    pub due: Due,
    /// How long one attempt may take; without a limit by default. A timed out attempt is retried.
    pub timeout: Option<Duration>,
    /// How long after acceptance the whole task must have ended; without a limit by default. At the
    /// deadline the task settles as failed at once, wherever it is.
    pub deadline: Option<Duration>,
    /// How failed attempts are retried; the scheduler's policy by default.
    pub retry: Option<RetryPolicy>,
    /// Labels that its node must bear; none by default.
    pub labels: Labels,
    /// Whether two runs of it must never overlap; `false` by default. It costs the wait for the
    /// lease of a lost node.
    pub exclusive: bool,
    /// How many lost nodes it may cost before it fails; the scheduler's limit by default.
    pub max_reroutes: Option<u32>,
    /// The caller's own name for it; none by default.
    pub key: Option<TaskKey>,
    /// The task that it repeats, which [`Execute::again`](crate::Execute::again) says; none by
    /// default.
    #[serde(default)]
    pub again_of: Option<TaskId>,
    /// Whose turn it takes among the tasks of its kind, priority and labels; none by default. Each
    /// group starts one task in turn, and all tasks without one are together one group. Within a
    /// group the order is that of all tasks.
    #[serde(default)]
    pub group: Option<TaskGroup>,
    /// The trace context of whoever hands it in; none by default.
    #[serde(default)]
    pub trace: Option<TraceContext>,
    /// How its attempts relate to that context; as the scheduler's
    /// [`trace_mode`](crate::SchedulerConfig::trace_mode) says by default.
    #[serde(default)]
    pub trace_mode: Option<TraceMode>,
}
