//! The args and outputs of tasks, as bytes.
//!
//! Owns: their form. Does not know: who makes or reads them.

use bytes::{BufMut, BytesMut};
use callboard::{Dispatch, Payload};

use crate::plan::{Mode, TaskPlan};

/// Set in the byte of a task's mode if its handler notes something.
const NOTES: u8 = 0x10;

/// How a task behaves.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    pub ms: u32,
    pub fails: u8,
    pub mode: Mode,
}

/// Returns whether the handler of these args notes something as it begins and ends.
pub fn notes(args: &[u8]) -> bool {
    args[13] & NOTES != 0
}

/// Encodes the args of a task: who it is, then how it behaves.
pub fn encode(task: &TaskPlan, serial: u64) -> Payload {
    let mut bytes = BytesMut::with_capacity(14 + task.args_bytes);
    bytes.put_u64_le(serial);
    bytes.put_u32_le(task.ms);
    bytes.put_u8(task.fails);
    bytes.put_u8(
        match task.mode {
            Mode::Ends => 0,
            Mode::Permanent => 1,
            Mode::Endless => 2,
        } | if task.notes { NOTES } else { 0 },
    );
    bytes.put_bytes(7, task.args_bytes);
    bytes.freeze().into()
}

/// Returns who args say a task is.
pub fn serial_of(args: &[u8]) -> u64 {
    u64::from_le_bytes(args[..8].try_into().unwrap())
}

/// Returns the life of the scheduler in which a serial was given out.
pub fn life_of(serial: u64) -> usize {
    usize::try_from(serial >> 32).unwrap()
}

/// Decodes how a task behaves.
pub fn decode(args: &[u8]) -> Behaviour {
    Behaviour {
        ms: u32::from_le_bytes(args[8..12].try_into().unwrap()),
        fails: args[12],
        mode: match args[13] & !NOTES {
            0 => Mode::Ends,
            1 => Mode::Permanent,
            _ => Mode::Endless,
        },
    }
}

/// Makes what a run that completed returns: its own number.
pub fn output(dispatch: Dispatch) -> Payload {
    Payload::from(&dispatch.get().to_le_bytes())
}
