//! What is kept beside a log: found again, within its bounds, whole or not at all.

use std::time::{Duration, SystemTime};

use super::conformance::{claimed, each};
use super::{WHO, rows};
use crate::engine::Timestamp;
use crate::engine::keep::{Ended, Keep};
use crate::engine::record::{AcceptedTask, FinalOutcome, RetainedTask, SettledTask};
use crate::status::{Cause, Failure, Outcome};
use crate::store::retained::{self, SettledFilter, find, find_by_key, kept, page};
use crate::store::table::TableLog;
use crate::store::{Batch, Keeping, KeptEnding, LogError, Snapshot, TaskLog};
use crate::task::{Options, TaskId, TaskKey};

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Timestamp {
    Timestamp(0) + Duration::from_millis(ms)
}

fn failed(id: u64, message: &str) -> FinalOutcome {
    FinalOutcome::Failed(Failure::new(Cause::Error, format!("{message} {id}")))
}

/// Makes a task that settles after as many milliseconds as its number.
fn task(id: u64, outcome: FinalOutcome, key: Option<&str>) -> RetainedTask {
    RetainedTask {
        accepted: AcceptedTask {
            id: TaskId::new(id),
            at: ms(0),
            kind: ["even", "odd"][(id % 2) as usize].into(),
            args: vec![id as u8; 100].into(),
            options: key.map(|key| {
                Box::new(Options {
                    key: Some(TaskKey::new(key)),
                    ..Options::default()
                })
            }),
        },
        ending: SettledTask {
            id: TaskId::new(id),
            outcome,
            node: Some("n1".into()),
            attempts: 2,
            reroutes: 1,
            started_at: Some(ms(1)),
            at: ms(id),
            busy: Vec::new(),
        },
    }
}

fn append(log: &mut dyn TaskLog, number: u64, tasks: &[RetainedTask], keep: &Keep, now: Timestamp) {
    let endings: Vec<KeptEnding> = tasks.iter().map(kept).collect();
    let batch = Batch {
        number,
        rows: &rows(number, 3),
        truncate: None,
        keeping: Some(Keeping {
            endings: &endings,
            keep,
            now,
        }),
    };
    log.append(&batch).unwrap();
}

fn ids(from: &dyn Snapshot, ended: Ended) -> Vec<u64> {
    let filter = SettledFilter::default().ended(ended);
    let page = page(from, &filter, None, usize::MAX).unwrap();
    assert_eq!(page.next, None);
    page.tasks
        .iter()
        .map(|task| task.accepted.id.get())
        .collect()
}

#[test]
fn what_is_kept_is_found_by_its_id_by_its_key_and_page_by_page() {
    each(|open| {
        let mut log = claimed(open);
        let keep = Keep::all(SECOND);
        assert_eq!(ids(&*log.snapshot().unwrap(), Ended::Failed), [0; 0]);
        let tasks: Vec<_> = (1..=9)
            .map(|id| task(id, failed(id, "no"), Some("a")))
            .collect();
        append(&mut *log, 1, &tasks[..5], &keep, ms(9));
        append(&mut *log, 2, &tasks[5..], &keep, ms(9));
        let completed = task(10, FinalOutcome::Completed(b"out".into()), None);
        append(&mut *log, 3, std::slice::from_ref(&completed), &keep, ms(9));
        drop(log);
        let mut log = claimed(open);
        let now = log.snapshot().unwrap();
        assert_eq!(
            find(&*now, TaskId::new(3)).unwrap().as_ref(),
            Some(&tasks[2])
        );
        assert_eq!(find(&*now, TaskId::new(11)).unwrap(), None);
        let by_key = |key| find_by_key(&*now, &TaskKey::new(key)).unwrap();
        assert_eq!(by_key("a").as_ref(), Some(&tasks[8]), "the last one");
        assert_eq!(by_key("b"), None);
        assert_eq!(ids(&*now, Ended::Completed), [10]);
        assert_eq!(ids(&*now, Ended::Cancelled), [0; 0]);

        let pages = |filter: &SettledFilter| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = page(&*now, filter, after, 2).unwrap();
                found.push(
                    page.tasks
                        .iter()
                        .map(|it| it.accepted.id.get())
                        .collect::<Vec<_>>(),
                );
                after = page.next;
                if after.is_none() {
                    return found;
                }
            }
        };
        let all = SettledFilter::default();
        assert!(all.means_all());
        assert_eq!(
            pages(&all),
            [vec![9, 8], vec![7, 6], vec![5, 4], vec![3, 2], vec![1]]
        );
        let odd = all.clone().kind("odd");
        assert!(!odd.means_all());
        assert_eq!(pages(&odd).concat(), [9, 7, 5, 3, 1]);
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(pages(&odd.since(at(3)).until(at(7))).concat(), [5, 3]);
        assert_eq!(pages(&all.message("no 4")).concat(), [4]);

        assert_eq!(log.forget(&[9, 10, 77].map(TaskId::new)), Ok(2));
        assert_eq!(
            ids(&*log.snapshot().unwrap(), Ended::Failed),
            [8, 7, 6, 5, 4, 3, 2, 1]
        );
        assert_eq!(ids(&*log.snapshot().unwrap(), Ended::Completed), [0; 0]);
        assert_eq!(ids(&*now, Ended::Completed), [10], "it is of one moment");
    });
}

#[test]
fn what_is_beyond_a_bound_goes_oldest_first_and_other_outcomes_stay() {
    each(|open| {
        let mut log = claimed(open);
        let keep = Keep::failures(Duration::from_millis(10)).and(Keep::cancelled(SECOND));
        let cancelled = task(1, FinalOutcome::Cancelled, None);
        append(&mut *log, 1, &[cancelled], &keep, ms(1));
        let tasks: Vec<_> = (2..12).map(|id| task(id, failed(id, "no"), None)).collect();
        let size = kept(&tasks[0]).bytes.len() as u64;
        append(&mut *log, 2, &tasks, &keep, ms(12));
        assert_eq!(ids(&*log.snapshot().unwrap(), Ended::Failed).len(), 10);
        append(&mut *log, 3, &[], &keep, ms(14));
        assert_eq!(
            ids(&*log.snapshot().unwrap(), Ended::Failed),
            [11, 10, 9, 8, 7, 6, 5, 4]
        );
        append(&mut *log, 4, &[], &keep.clone().at_most(6), ms(14));
        assert_eq!(
            ids(&*log.snapshot().unwrap(), Ended::Failed),
            [11, 10, 9, 8, 7, 6]
        );
        let few_bytes = keep.clone().at_most_bytes(4 * size + 10);
        let more = [task(12, failed(12, "no"), None)];
        append(&mut *log, 5, &more, &few_bytes, ms(14));
        assert_eq!(
            ids(&*log.snapshot().unwrap(), Ended::Failed),
            [12, 11, 10, 9]
        );
        assert_eq!(ids(&*log.snapshot().unwrap(), Ended::Cancelled), [1]);
        // What is not kept any more goes, and nothing is counted that is not there.
        append(&mut *log, 6, &[], &Keep::cancelled(SECOND), ms(14));
        assert_eq!(ids(&*log.snapshot().unwrap(), Ended::Failed), [0; 0]);
        append(&mut *log, 7, &tasks, &few_bytes, ms(12));
        assert_eq!(
            ids(&*log.snapshot().unwrap(), Ended::Failed),
            [11, 10, 9, 8]
        );
    });
}

#[test]
fn what_is_told_twice_is_kept_once() {
    each(|open| {
        let mut log = claimed(open);
        let keep = Keep::failures(SECOND).at_most(2);
        let first = [task(1, failed(1, "no"), Some("a"))];
        append(&mut *log, 1, &first, &keep, ms(1));
        // The batch again, and the task again with a later one.
        append(&mut *log, 1, &first, &keep, ms(1));
        append(&mut *log, 2, &first, &keep, ms(1));
        append(
            &mut *log,
            3,
            &[task(2, failed(2, "no"), Some("a"))],
            &keep,
            ms(2),
        );
        let now = log.snapshot().unwrap();
        assert_eq!(ids(&*now, Ended::Failed), [2, 1]);
        let last = |now: &dyn Snapshot| {
            let found = find_by_key(now, &TaskKey::new("a")).unwrap();
            found.map(|task| task.accepted.id.get())
        };
        assert_eq!(last(&*now), Some(2));
        log.forget(&[TaskId::new(1)]).unwrap();
        assert_eq!(last(&*log.snapshot().unwrap()), Some(2));
        log.forget(&[TaskId::new(2)]).unwrap();
        assert_eq!(last(&*log.snapshot().unwrap()), None);
    });
}

#[test]
fn a_copy_of_a_file_has_what_is_kept_and_its_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = TableLog::at(folder.path().join("store"));
    log.claim(&WHO).unwrap();
    let keep = Keep::failures(SECOND);
    let tasks: Vec<_> = (1..=3)
        .map(|id| task(id, failed(id, "no"), Some("a")))
        .collect();
    append(&mut log, 1, &tasks, &keep, ms(3));
    let path = folder.path().join("copy");
    log.snapshot().unwrap().copy(&path).unwrap();
    let mut copy = TableLog::at(path);
    copy.claim(&WHO).unwrap();
    append(&mut copy, 2, &[], &keep.at_most(2), ms(3));
    let now = copy.snapshot().unwrap();
    assert_eq!(ids(&*now, Ended::Failed), [3, 2]);
    let by_key = find_by_key(&*now, &TaskKey::new("a")).unwrap();
    assert_eq!(by_key.as_ref(), Some(&tasks[2]));
}

#[test]
fn one_that_was_changed_is_damaged_and_one_that_is_whole_is_the_status_that_was_told() {
    let task = task(5, failed(5, "no"), Some("key"));
    let bytes = kept(&task).bytes;
    assert_eq!(retained::read(&bytes), Ok(task.clone()));
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let read = retained::read(&changed);
        assert!(
            matches!(read, Err(LogError::Damaged { .. })),
            "{at}: {read:?}"
        );
        let read = retained::read(&bytes[..at]);
        assert!(
            matches!(read, Err(LogError::Damaged { .. })),
            "{at}: {read:?}"
        );
    }
    let status = retained::status(task, "orders".into());
    assert_eq!((status.id, &*status.scheduler), (TaskId::new(5), "orders"));
    assert_eq!(status.key, Some(TaskKey::new("key")));
    assert_eq!(
        status.settled_at,
        SystemTime::UNIX_EPOCH + Duration::from_millis(5)
    );
    assert!(matches!(&status.outcome, Outcome::Failed(failure) if failure.message == "no 5"));
}
