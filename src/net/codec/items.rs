//! The heads of assignments, held runs and reports.
//!
//! Owns: which field stands where, and the numbers that stand for names. Does not know: frames.

use std::time::Duration;

use bytes::BytesMut;
use serde::de::{Error as _, SeqAccess};

use super::bulk::{Bodies, Element, Fields, head, large_head};
use crate::engine::message::{Assignment, End, HeldRun, HeldState, RefusedBy, Report, Terms};
use crate::payload::Payload;
use crate::status::{Cause, Failure, beginning};

/// Returns the length of a body as its head has it. Bodies are bounded by `max_frame`, at most 1
/// GiB; a longer one is refused where its chunks are written.
fn length(body: &[u8]) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

impl Element for Assignment {
    fn write_head(&self, tail: &mut BytesMut) -> Result<(), rmp_serde::encode::Error> {
        let fields = (
            self.task,
            self.dispatch,
            self.kind,
            self.attempt,
            self.prefetched,
            length(&self.args),
        );
        match &self.terms {
            None => head(tail, &fields),
            Some(terms) => {
                let (task, dispatch, kind, attempt, prefetched, args) = fields;
                large_head(
                    tail,
                    &(task, dispatch, kind, attempt, prefetched, args, &**terms),
                )
            }
        }
    }

    fn body(&self) -> Option<&Payload> {
        Some(&self.args)
    }

    fn read<'de, A: SeqAccess<'de>>(
        mut fields: Fields<A>,
        bodies: &mut Bodies,
    ) -> Result<Self, A::Error> {
        Ok(Self {
            task: fields.next()?,
            dispatch: fields.next()?,
            kind: fields.next()?,
            attempt: fields.next()?,
            prefetched: fields.next()?,
            args: fields.body(bodies)?,
            terms: fields.optional::<Terms>()?.map(Box::new),
        })
    }
}

impl Element for HeldRun {
    fn write_head(&self, tail: &mut BytesMut) -> Result<(), rmp_serde::encode::Error> {
        let state = match self.state {
            HeldState::Prefetched => 0u8,
            HeldState::Running => 1,
            HeldState::Overrun => 2,
        };
        head(tail, &(self.task, self.dispatch, state))
    }

    fn body(&self) -> Option<&Payload> {
        None
    }

    fn read<'de, A: SeqAccess<'de>>(
        mut fields: Fields<A>,
        _: &mut Bodies,
    ) -> Result<Self, A::Error> {
        Ok(Self {
            task: fields.next()?,
            dispatch: fields.next()?,
            state: match fields.next::<u8>()? {
                0 => HeldState::Prefetched,
                1 => HeldState::Running,
                2 => HeldState::Overrun,
                other => return Err(no_such("state of a run", other)),
            },
        })
    }
}

const STARTED: u8 = 0;
const COMPLETED: u8 = 1;
const FAILED: u8 = 2;
const AGAIN: u8 = 3;
const STOPPED: u8 = 4;
const DROPPED: u8 = 5;
const FREED: u8 = 6;
const REFUSED: u8 = 7;
const RETURNED: u8 = 8;
const READY: u8 = 9;
const STALLED: u8 = 10;
const PROGRESS: u8 = 11;
const DRAINING: u8 = 12;
const LENT: u8 = 13;
const NOTE: u8 = 14;

impl Element for Report {
    fn write_head(&self, tail: &mut BytesMut) -> Result<(), rmp_serde::encode::Error> {
        match self {
            Self::Started { task, dispatch } => head(tail, &(STARTED, task, dispatch)),
            Self::Ended { .. } => write_ended(self, tail),
            Self::Freed {
                seq,
                task,
                dispatch,
            } => head(tail, &(FREED, seq, task, dispatch)),
            Self::Refused {
                seq,
                task,
                dispatch,
                reason,
            } => {
                let reason = match reason {
                    RefusedBy::NoWorker => 0u8,
                    RefusedBy::Draining => 1,
                    RefusedBy::KeptResults => 2,
                    RefusedBy::UnknownKind => 3,
                    RefusedBy::Lent => 4,
                };
                head(tail, &(REFUSED, seq, task, dispatch, reason))
            }
            Self::Returned {
                seq,
                task,
                dispatch,
            } => head(tail, &(RETURNED, seq, task, dispatch)),
            Self::Ready => head(tail, &(READY, 0u8, 0u8)),
            Self::Draining => head(tail, &(DRAINING, 0u8, 0u8)),
            Self::Stalled { workers, task } => head(tail, &(STALLED, workers, task)),
            Self::Lent { workers } => head(tail, &(LENT, workers, 0u8)),
            Self::Progress {
                task,
                dispatch,
                value,
            } => head(tail, &(PROGRESS, task, dispatch, length(value))),
            Self::Note {
                task,
                dispatch,
                text,
            } => large_head(tail, &(NOTE, task, dispatch, text)),
        }
    }

    fn body(&self) -> Option<&Payload> {
        match self {
            Self::Ended {
                end: End::Completed(output),
                ..
            } => Some(output),
            Self::Progress { value, .. } => Some(value),
            _ => None,
        }
    }

    fn read<'de, A: SeqAccess<'de>>(
        mut fields: Fields<A>,
        bodies: &mut Bodies,
    ) -> Result<Self, A::Error> {
        Ok(match fields.next::<u8>()? {
            STARTED => Self::Started {
                task: fields.next()?,
                dispatch: fields.next()?,
            },
            tag @ COMPLETED..=DROPPED => return read_ended(tag, fields, bodies),
            FREED => Self::Freed {
                seq: fields.next()?,
                task: fields.next()?,
                dispatch: fields.next()?,
            },
            REFUSED => Self::Refused {
                seq: fields.next()?,
                task: fields.next()?,
                dispatch: fields.next()?,
                reason: match fields.next::<u8>()? {
                    0 => RefusedBy::NoWorker,
                    1 => RefusedBy::Draining,
                    2 => RefusedBy::KeptResults,
                    3 => RefusedBy::UnknownKind,
                    4 => RefusedBy::Lent,
                    other => return Err(no_such("refusal", other)),
                },
            },
            RETURNED => Self::Returned {
                seq: fields.next()?,
                task: fields.next()?,
                dispatch: fields.next()?,
            },
            READY => {
                // Filled up, so that no head is shorter than bulk::MIN_HEAD.
                let _: (u8, u8) = (fields.next()?, fields.next()?);
                Self::Ready
            }
            DRAINING => {
                let _: (u8, u8) = (fields.next()?, fields.next()?);
                Self::Draining
            }
            STALLED => Self::Stalled {
                workers: fields.next()?,
                task: fields.next()?,
            },
            LENT => {
                let (workers, _): (u32, u8) = (fields.next()?, fields.next()?);
                Self::Lent { workers }
            }
            PROGRESS => Self::Progress {
                task: fields.next()?,
                dispatch: fields.next()?,
                value: fields.body(bodies)?,
            },
            NOTE => Self::Note {
                task: fields.next()?,
                dispatch: fields.next()?,
                text: fields.next()?,
            },
            other => return Err(no_such("report", other)),
        })
    }
}

fn write_ended(report: &Report, tail: &mut BytesMut) -> Result<(), rmp_serde::encode::Error> {
    let Report::Ended {
        seq,
        task,
        dispatch,
        end,
        ran,
        overrun,
    } = report
    else {
        return Ok(());
    };
    // Up to 584 years.
    let ran = u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX);
    match end {
        End::Completed(output) => head(
            tail,
            &(COMPLETED, seq, task, dispatch, ran, overrun, length(output)),
        ),
        End::Failed(failure) => {
            let (cause, message, place) = failure_fields(failure);
            large_head(
                tail,
                &(
                    FAILED, seq, task, dispatch, ran, overrun, cause, message, place,
                ),
            )
        }
        End::Again { after, failure } => {
            let (cause, message, place) = failure_fields(failure);
            large_head(
                tail,
                &(
                    AGAIN, seq, task, dispatch, ran, overrun, cause, message, after, place,
                ),
            )
        }
        End::Stopped => head(tail, &(STOPPED, seq, task, dispatch, ran, overrun)),
        End::Dropped => head(tail, &(DROPPED, seq, task, dispatch, ran, overrun)),
    }
}

fn read_ended<'de, A: SeqAccess<'de>>(
    tag: u8,
    mut fields: Fields<A>,
    bodies: &mut Bodies,
) -> Result<Report, A::Error> {
    let seq = fields.next()?;
    let task = fields.next()?;
    let dispatch = fields.next()?;
    let ran = Duration::from_nanos(fields.next()?);
    let overrun = fields.next()?;
    let end = match tag {
        COMPLETED => End::Completed(fields.body(bodies)?),
        FAILED => {
            let failure = read_failure(&mut fields)?;
            End::Failed(Box::new(failure.raised_at(read_place(&mut fields)?)))
        }
        AGAIN => {
            let failure = read_failure(&mut fields)?;
            let after = fields.next()?;
            let failure = failure.raised_at(read_place(&mut fields)?);
            End::Again {
                after,
                failure: Box::new(failure),
            }
        }
        STOPPED => End::Stopped,
        _ => End::Dropped,
    };
    Ok(Report::Ended {
        seq,
        task,
        dispatch,
        end,
        ran,
        overrun,
    })
}

/// Returns the fields of a failure. Its message is a public field, so its bound is kept here once
/// more.
fn failure_fields(failure: &Failure) -> (u8, &str, Option<&str>) {
    let message = beginning(&failure.message, Failure::MAX_MESSAGE);
    let place = failure.place.as_deref();
    let place = place.filter(|place| place.len() <= Failure::MAX_PLACE);
    (failure.cause.number(), message, place)
}

fn read_failure<'de, A: SeqAccess<'de>>(fields: &mut Fields<A>) -> Result<Failure, A::Error> {
    let number = fields.next()?;
    let cause = Cause::numbered(number);
    let cause = cause.ok_or_else(|| no_such("cause of a failure", number))?;
    let message: String = fields.next()?;
    if message.len() > Failure::MAX_MESSAGE {
        return Err(A::Error::custom("the message of a failure is too long"));
    }
    Ok(Failure::new(cause, message))
}

/// Reads the place of a failure, which comes last: not every version tells it.
fn read_place<'de, A: SeqAccess<'de>>(
    fields: &mut Fields<A>,
) -> Result<Option<Box<str>>, A::Error> {
    let place = fields.optional::<Option<Box<str>>>()?.flatten();
    if place
        .as_ref()
        .is_some_and(|place| place.len() > Failure::MAX_PLACE)
    {
        return Err(A::Error::custom("the place of a failure is too long"));
    }
    Ok(place)
}

fn no_such<E: serde::de::Error>(what: &str, number: u8) -> E {
    E::custom(format_args!("{number} is no {what}"))
}
