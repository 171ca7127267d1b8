//! The trace to which a task belongs, as text: what W3C calls a trace context.
//!
//! Owns: the text, what may be one, and how an attempt relates to it. Does not know: spans, or who
//! collects them.
//!
//! A scheduler carries the context of a task, unchanged, to the node of each attempt, and keeps it
//! in its store. An application that traces with a library of its own sets it by
//! [`Execute::trace`](crate::Execute::trace) and reads it by
//! [`TaskContext::trace`](crate::TaskContext::trace).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A W3C trace context: which trace a task belongs to, and which span of it handed the task in.
///
/// A clone shares the text.
///
/// ```
/// use callboard::trace::TraceContext;
///
/// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = TraceContext::new(parent, "vendor=value")?;
/// assert_eq!((context.traceparent(), context.tracestate()), (parent, "vendor=value"));
/// # Ok::<(), callboard::trace::InvalidTrace>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(String, String)", try_from = "(String, String)")]
pub struct TraceContext(Arc<Texts>);

#[derive(PartialEq, Eq)]
struct Texts {
    parent: String,
    state: String,
}

/// How an attempt relates to the context of its task.
///
/// Only the first attempt of a task soon after it was accepted is surely a part of what the caller
/// does: a trace with a part that begins an hour later is of no use to anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TraceMode {
    /// [`TraceParent::Child`] if it is the task's first attempt and is sent to its node within
    /// [`TraceMode::SOON`] after the task was accepted, and [`TraceParent::Link`] otherwise.
    #[default]
    Auto,
    /// Always [`TraceParent::Child`].
    Child,
    /// Always [`TraceParent::Link`].
    Link,
    /// The node is not told the context.
    Off,
}

impl TraceMode {
    /// How long after its acceptance an attempt may begin and still be a child: 60 s.
    pub const SOON: std::time::Duration = std::time::Duration::from_secs(60);

    /// Returns what this attempt, which begins so long after the task was accepted, is told.
    pub(crate) fn parent(
        self,
        context: &TraceContext,
        attempt: u32,
        age: std::time::Duration,
    ) -> Option<TraceParent> {
        let context = context.clone();
        match self {
            Self::Auto if attempt == 1 && age <= Self::SOON => Some(TraceParent::Child(context)),
            Self::Auto | Self::Link => Some(TraceParent::Link(context)),
            Self::Child => Some(TraceParent::Child(context)),
            Self::Off => None,
        }
    }
}

/// What the span of an attempt is to that which handed its task in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TraceParent {
    /// It is a child of it, in the same trace.
    Child(TraceContext),
    /// It begins a trace of its own, with a link to it.
    Link(TraceContext),
}

impl TraceParent {
    /// Returns the context of the task.
    pub fn context(&self) -> &TraceContext {
        match self {
            Self::Child(context) | Self::Link(context) => context,
        }
    }
}

/// A text that is no `traceparent`: it comes from whoever made it, and the same text fails again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidTrace {
    /// Its beginning.
    pub text: String,
}

impl fmt::Display for InvalidTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no traceparent: pass a version, an id of the trace, one of the span and flags \
             in lower-case hexadecimal, as in 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            self.text
        )
    }
}

impl std::error::Error for InvalidTrace {}

/// The length of a `traceparent` of version 00.
const PARENT: usize = 55;

impl TraceContext {
    /// The longest `tracestate` that is kept, in bytes.
    pub const MAX_STATE_BYTES: usize = 512;

    /// Takes the values of the headers `traceparent` and `tracestate`.
    ///
    /// Of a `traceparent` of a later version what version 00 knows is kept. A `tracestate` is the
    /// less important half: one that is longer than [`TraceContext::MAX_STATE_BYTES`] loses its
    /// last entries, and one with other characters than W3C allows is left out. It may be empty.
    ///
    /// # Errors
    ///
    /// The first is no `traceparent`, or has an id that is all zeros.
    pub fn new(traceparent: &str, tracestate: &str) -> Result<Self, InvalidTrace> {
        let parent = parent_of(traceparent).ok_or_else(|| InvalidTrace {
            text: traceparent.chars().take(PARENT).collect(),
        })?;
        let state = state_of(tracestate).to_owned();
        Ok(Self(Arc::new(Texts { parent, state })))
    }

    /// Returns the value of the header `traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.0.parent
    }

    /// Returns the value of the header `tracestate`; empty if there is none.
    pub fn tracestate(&self) -> &str {
        &self.0.state
    }
}

/// Returns what is kept of a `traceparent`.
fn parent_of(text: &str) -> Option<String> {
    let (known, later) = text.split_at_checked(PARENT)?;
    let mut parts = known.split('-');
    let mut hex = |length| {
        let part = parts.next()?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (part.len() == length && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let ends = match version {
        "00" => later.is_empty(),
        "ff" => false,
        _ => later.is_empty() || later.starts_with('-'),
    };
    (ends && !is_zero(trace) && !is_zero(span)).then(|| format!("00-{trace}-{span}-{flags}"))
}

/// Returns what is kept of a `tracestate`.
fn state_of(text: &str) -> &str {
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return "";
    }
    if text.len() <= TraceContext::MAX_STATE_BYTES {
        return text;
    }
    // An entry that ends where the limit is, is whole.
    let last = text[..=TraceContext::MAX_STATE_BYTES].rfind(',');
    last.map_or("", |last| &text[..last])
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceContext")
            .field(&self.traceparent())
            .field(&self.tracestate())
            .finish()
    }
}

impl From<TraceContext> for (String, String) {
    fn from(context: TraceContext) -> Self {
        let texts = &context.0;
        (texts.parent.clone(), texts.state.clone())
    }
}

impl TryFrom<(String, String)> for TraceContext {
    type Error = InvalidTrace;

    fn try_from((parent, state): (String, String)) -> Result<Self, InvalidTrace> {
        Self::new(&parent, &state)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{TraceContext, TraceMode, TraceParent};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let later = format!("cc{}-what-is-new", &PARENT[2..]);
        let kept = TraceContext::new(&later, "").map(|it| it.traceparent().to_owned());
        assert_eq!(kept.as_deref(), Ok(PARENT));
        for text in [
            "",
            &PARENT[..54],
            &format!("{PARENT}-00"),
            &PARENT.to_uppercase(),
            &PARENT.replace('-', "_"),
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &"é".repeat(40),
            &format!("cc{}x", &PARENT[2..]),
        ] {
            let refused = TraceContext::new(text, "a=1");
            assert!(refused.is_err(), "{text:?} is {refused:?}");
        }
    }

    #[test]
    fn a_tracestate_is_cut_between_two_entries() {
        let state = |text: &str| {
            let context = TraceContext::new(PARENT, text);
            context.map(|context| context.tracestate().to_owned())
        };
        let entry = format!("a={}", "x".repeat(253));
        let two = format!("{entry},{entry}");
        assert_eq!(two.len(), 511);
        assert_eq!(state(&format!("{two}y")).map(|it| it.len()), Ok(512));
        assert_eq!(state(&format!("{two}y,b=1")).map(|it| it.len()), Ok(512));
        assert_eq!(state(&format!("{two}yz,b=1")), Ok(entry));
        assert_eq!(state(&"x".repeat(513)), Ok(String::new()));
        assert_eq!(state("a=1\r\nSet-Cookie: b"), Ok(String::new()));
        assert_eq!(state("a=é"), Ok(String::new()));
    }

    #[test]
    fn only_a_first_attempt_soon_after_acceptance_is_a_child() {
        let context = TraceContext::new(PARENT, "").unwrap();
        let child = Some(TraceParent::Child(context.clone()));
        let link = Some(TraceParent::Link(context.clone()));
        let (soon, late) = (TraceMode::SOON, TraceMode::SOON + Duration::from_nanos(1));
        for (mode, attempt, age, told) in [
            (TraceMode::Auto, 1, soon, &child),
            (TraceMode::Auto, 1, late, &link),
            (TraceMode::Auto, 2, Duration::ZERO, &link),
            (TraceMode::Child, 2, late, &child),
            (TraceMode::Link, 1, Duration::ZERO, &link),
            (TraceMode::Off, 1, Duration::ZERO, &None),
        ] {
            assert_eq!(&mode.parent(&context, attempt, age), told, "{mode:?}");
        }
    }
}
