//! What few tasks ask of their node.
//!
//! Owns: the form. Does not know: what it means to ask for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::retry::RetryPolicy;
use crate::trace::TraceParent;

/// What few tasks ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// How urgent it is among those that wait at the node.
    pub priority: i8,
    /// How long this attempt may take.
    pub timeout: Option<Duration>,
    /// How much time is left for the whole task.
    pub deadline: Option<Duration>,
    /// The task's own policy.
    pub retry: Option<RetryPolicy>,
    /// Whether two runs of it must never overlap: at four fifths of its lease the node stops it.
    pub exclusive: bool,
    /// Whether somebody watches it: then all of its progress is sent, else a little.
    pub watched: bool,
    /// What the span of this attempt is to that which handed the task in.
    pub trace: Option<TraceParent>,
}
