//! The commands on stores that are whole, damaged, in use, or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{Database, ReadableDatabase, TableDefinition};

use super::*;
use crate::engine::found::Found;
use crate::engine::ledger::tests::head;
use crate::engine::record::{FinalOutcome, PlacedRun, ProcessRef, RetainedTask, SettledTask, Term};
use crate::engine::{Incarnation, keep::Keep};
use crate::status::{Cause, Failure};
use crate::store::tests::WHO;
use crate::task::{Dispatch, Options, Priority};

const ROWS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("rows");
const NEW: SchedulerId = SchedulerId(8);

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn of(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn accepted(id: u64, key: Option<&str>) -> AcceptedTask {
    AcceptedTask {
        id: TaskId::new(id),
        at: Timestamp(1_000_000_000),
        kind: if id == 2 { "two words" } else { "kind" }.into(),
        args: vec![0x93, 1, 2, id as u8].into(),
        options: key.map(|key| {
            Box::new(Options {
                key: Some(TaskKey::new(key)),
                priority: Priority(-3),
                due: Due::After(Duration::from_secs(9)),
                ..Options::default()
            })
        }),
    }
}

fn ending(id: u64) -> SettledTask {
    SettledTask {
        id: TaskId::new(id),
        outcome: FinalOutcome::Failed(Failure::new(Cause::Error, "no\nluck")),
        node: Some("n1".into()),
        attempts: 3,
        reroutes: 0,
        started_at: None,
        at: Timestamp(2_000_000_000),
        busy: Vec::new(),
    }
}

/// Makes a store of six batches: `t1` has a key and waits, `t2` is placed, `t3` has failed and
/// nobody was told, `t4` has failed and is kept, `t5` waits.
fn store(is_closed: bool) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    let keep = Keep::failures(Duration::from_secs(60));
    let mut writer = LogWriter::new(Box::new(log), CHECK_EVERY).keeping(keep);
    let accept = |task: AcceptedTask| Record::Accepted(Box::new(task));
    let placed = Record::Placed {
        at: ProcessRef {
            node: "n1".into(),
            incarnation: Incarnation(1),
        },
        runs: vec![PlacedRun {
            task: TaskId::new(2),
            dispatch: Dispatch::new(1),
            prefetched: false,
            blocking: true,
        }],
    };
    let kept = RetainedTask {
        accepted: accepted(4, Some("taken")),
        ending: ending(4),
    };
    let batches = [
        vec![head(1)],
        vec![
            accept(accepted(1, Some("taken"))),
            accept(accepted(2, None)),
        ],
        vec![
            accept(accepted(3, Some("free"))),
            accept(accepted(4, Some("taken"))),
        ],
        vec![placed, Record::Settled(Box::new(ending(3)))],
        vec![
            Record::Settled(Box::new(ending(4))),
            Record::Confirmed(vec![TaskId::new(4)]),
            Record::Retained(Box::new(kept)),
        ],
        vec![accept(accepted(5, None))],
    ];
    for (batch, mut records) in (1..).zip(batches) {
        if is_closed && batch == 6 {
            records.push(Record::Closed);
        }
        let stamp = Stamp {
            term: Term(1),
            batch,
            next_task: 6,
            next_dispatch: 2,
            at: Timestamp(2_000_000_000),
        };
        super::store(&mut writer, stamp, records).unwrap();
    }
    writer.close().unwrap();
    Place { folder, path }
}

fn lines(act: impl FnOnce(&mut Vec<u8>) -> Result<(), ToolError>) -> Vec<String> {
    let mut out = Vec::new();
    act(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn open(path: &Path) -> Tool {
    Tool::open(path).unwrap()
}

/// Changes the rows of a store, whatever they say.
fn change(path: &Path, act: impl FnOnce(&mut redb::Table<'_, (u64, u32), &'static [u8]>)) {
    let db = Database::open(path).unwrap();
    let write = db.begin_write().unwrap();
    act(&mut write.open_table(ROWS).unwrap());
    write.commit().unwrap();
}

fn damage(path: &Path, batch: u64) {
    let db = Database::open(path).unwrap();
    let read = db.begin_read().unwrap();
    let rows = read.open_table(ROWS).unwrap();
    let mut row = rows.get((batch, 0)).unwrap().unwrap().value().to_vec();
    drop((rows, read, db));
    *row.last_mut().unwrap() ^= 1;
    change(path, |rows| {
        rows.insert((batch, 0), &row[..]).unwrap();
    });
}

#[test]
fn tasks_are_listed_in_a_line_each_and_can_be_chosen() {
    let place = store(false);
    let mut tool = open(&place.path);
    let list = |tool: &mut Tool, listed: &Listed| lines(|out| tool.list(listed, out));
    let all = [
        "t1\tkind\t-3\tpending\t1970-01-01T00:00:10.000Z\t0\ttaken",
        "t2\t\"two words\"\t0\tplaced\t-\t0\t-",
        "t3\tkind\t-3\tfailed\t-\t3\tfree",
        "t5\tkind\t0\tpending\t-\t0\t-",
        "t4\tkind\t-3\tfailed\t-\t3\ttaken",
    ];
    assert_eq!(list(&mut tool, &Listed::default()), all);
    let listed = Listed {
        kind: Some("two words".to_owned()),
        states: Vec::new(),
    };
    assert_eq!(list(&mut tool, &listed), all[1..2]);
    let listed = Listed {
        kind: None,
        states: vec![
            State::Placed,
            State::Settled(crate::engine::keep::Ended::Failed),
        ],
    };
    assert_eq!(list(&mut tool, &listed), [all[1], all[2], all[4]]);
}

#[test]
fn an_export_has_a_json_object_a_line_and_show_has_the_same_of_one() {
    let place = store(false);
    let mut tool = open(&place.path);
    let exported = lines(|out| tool.export(out));
    let tasks: Vec<serde_json::Value> = exported
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<_> = tasks
        .iter()
        .map(|task| task["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [1, 2, 3, 5, 4]);
    assert_eq!(tasks[0]["args"], "kwECAQ==");
    assert_eq!(tasks[0]["args_value"], serde_json::json!([1, 2, 1]));
    assert_eq!(tasks[1]["placed"]["node"], "n1");
    assert_eq!(tasks[2]["failure"]["message"], "no\nluck");
    assert_eq!(
        (&tasks[2]["told"], &tasks[4]["told"]),
        (&false.into(), &true.into())
    );
    for (id, task) in ids.into_iter().zip(&tasks) {
        let shown = lines(|out| tool.show(TaskId::new(id), out));
        assert_eq!(shown.len(), task.as_object().unwrap().len());
        for line in shown {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(value).unwrap(),
                task[name]
            );
        }
    }
    let missing = tool.show(TaskId::new(77), &mut Vec::new());
    assert!(matches!(missing, Err(ToolError::NoTask(_))), "{missing:?}");
}

#[test]
fn a_store_is_had_by_one_and_none_is_made() {
    let place = store(false);
    let held = open(&place.path);
    let refused = Tool::open(&place.path).unwrap_err();
    assert!(
        matches!(refused, ToolError::Store(LogError::Locked)),
        "{refused}"
    );
    drop(held);
    let nowhere = place.of("nowhere");
    let refused = Tool::open(&nowhere).unwrap_err();
    assert!(matches!(refused, ToolError::NotThere(_)), "{refused}");
    assert!(!nowhere.exists());
    fs::write(&nowhere, "text").unwrap();
    let refused = Tool::open(&nowhere).unwrap_err();
    assert!(
        matches!(refused, ToolError::Store(LogError::NotAStore(_))),
        "{refused}"
    );
    let copy = place.of("copy");
    open(&place.path).backup(&copy).unwrap();
    let refused = open(&place.path).backup(&copy).unwrap_err();
    assert!(matches!(refused, ToolError::Exists(_)), "{refused}");
    assert_eq!(
        lines(|out| open(&copy).export(out)),
        lines(|out| open(&place.path).export(out))
    );
}

#[test]
fn a_check_lists_all_damage() {
    let place = store(false);
    let whole = Checked {
        batches: 6,
        tasks: 4,
        kept: 1,
        damage: Vec::new(),
    };
    assert_eq!(open(&place.path).check().unwrap(), whole);
    damage(&place.path, 2);
    change(&place.path, |rows| {
        rows.remove((4, 0)).unwrap();
        rows.insert((6, 1), &b"rest"[..]).unwrap();
    });
    damage(&place.path, 6);
    let checked = open(&place.path).check().unwrap();
    assert_eq!(checked.batches, 3);
    assert_eq!(
        checked.damage,
        [
            "batch 2: its checksum is wrong",
            "batch 4 is missing",
            "batch 6: its checksum is wrong",
        ]
    );
    // All rows are as they were written, and yet it cannot be.
    let place = store(false);
    change(&place.path, |rows| {
        rows.retain(|(batch, _), _| batch > 1).unwrap();
    });
    let checked = open(&place.path).check().unwrap();
    assert_eq!(checked.damage, ["there is no head"]);
}

#[test]
fn a_salvaged_store_has_what_is_whole_and_a_scheduler_starts_on_it_as_another() {
    let place = store(false);
    damage(&place.path, 2);
    change(&place.path, |rows| {
        rows.remove((4, 0)).unwrap();
    });
    let to = place.of("saved");
    let salvaged = open(&place.path).salvage(&to).unwrap();
    assert_eq!(
        salvaged.missing,
        ["batch 2: its checksum is wrong", "batch 4 is missing"]
    );
    assert_eq!((salvaged.batches, salvaged.tasks, salvaged.kept), (4, 2, 1));
    let checked = open(&to).check().unwrap();
    assert_eq!(
        (checked.damage, checked.tasks, checked.kept),
        (Vec::new(), 2, 1)
    );
    let who = Claimant { new_id: NEW, ..WHO };
    let (claim, Found { ledger, .. }) = recover(&mut TableLog::at(&to), &who, &mut drop).unwrap();
    assert_eq!(
        (claim.scheduler_id, claim.copied_from),
        (NEW, Some(WHO.new_id))
    );
    let ids: Vec<_> = ledger.tasks().keys().map(|id| id.get()).collect();
    assert_eq!(ids, [3, 5], "the ending of t3 was lost, and t4 is over");
    assert!(
        ledger.reserved().tasks > 1 << 22,
        "what was given out meanwhile is not again"
    );
    let again = open(&place.path).salvage(&to).unwrap_err();
    assert!(matches!(again, ToolError::Exists(_)), "{again}");
}

#[test]
fn a_store_without_its_first_head_is_salvaged_all_the_same() {
    let place = store(true);
    damage(&place.path, 1);
    let to = place.of("saved");
    let salvaged = open(&place.path).salvage(&to).unwrap();
    assert_eq!((salvaged.batches, salvaged.tasks), (5, 4));
    let (_, Found { ledger, .. }) = recover(&mut TableLog::at(&to), &WHO, &mut drop).unwrap();
    assert_eq!(ledger.tasks().len(), 4);
}

#[test]
fn a_store_that_is_to_live_anew_takes_another_id() {
    let place = store(false);
    open(&place.path).relive().unwrap();
    let who = Claimant { new_id: NEW, ..WHO };
    let claim = TableLog::at(&place.path).claim(&who).unwrap();
    assert_eq!(
        (claim.scheduler_id, claim.copied_from),
        (NEW, Some(WHO.new_id))
    );
}

#[test]
fn what_has_settled_is_handed_in_again_and_nothing_else_is() {
    for is_closed in [true, false] {
        let place = store(is_closed);
        let now = Timestamp(0);
        let again = |id| open(&place.path).execute_again(TaskId::new(id), now, NEW);
        assert!(matches!(again(1), Err(ToolError::Unsettled(_))));
        assert!(matches!(again(77), Err(ToolError::NoTask(_))));
        assert!(matches!(again(4), Err(ToolError::KeyTaken { other, .. }) if other.get() == 1));
        let claim = TableLog::at(&place.path).claim(&WHO).unwrap();
        assert_eq!(claim.last, 6, "nothing was written");
        let first = again(3).unwrap();
        assert!(matches!(again(3), Err(ToolError::KeyTaken { other, .. }) if other == first));
        let (_, Found { ledger, .. }) =
            recover(&mut TableLog::at(&place.path), &WHO, &mut drop).unwrap();
        let task = &ledger.tasks()[&first];
        assert!(matches!(task.state, LedgerState::Open { .. }));
        assert_eq!(task.accepted.args, accepted(3, None).args);
        let options = task.accepted.options.as_ref().unwrap();
        assert_eq!(
            (options.due, options.again_of, &options.key),
            (Due::Now, Some(TaskId::new(3)), &Some(TaskKey::new("free")))
        );
        assert!(first.get() >= 6 && ledger.reserved().tasks > first.get());
        assert_eq!(ledger.is_closed(), is_closed);
        let checked = open(&place.path).check().unwrap();
        assert_eq!((checked.damage, checked.kept), (Vec::new(), 1));
    }
}

#[test]
fn g11_no_command_panics_at_a_file_that_was_changed() {
    let place = store(false);
    let whole = fs::read(&place.path).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let path = place.of("changed");
    let (mut refused, mut damaged) = (0, 0);
    for round in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            let end = bytes.len().min(40_000);
            bytes[rng.usize(..end)] = rng.u8(..);
        }
        fs::write(&path, bytes).unwrap();
        let Ok(mut tool) = Tool::open(&path) else {
            refused += 1;
            continue;
        };
        // What is refused is so in words.
        let _ = tool.list(&Listed::default(), &mut Vec::new());
        let _ = tool.show(TaskId::new(4), &mut Vec::new());
        let _ = tool.export(&mut Vec::new());
        damaged += usize::from(tool.check().is_ok_and(|checked| !checked.damage.is_empty()));
        let _ = tool.salvage(&place.of(&format!("saved-{round}")));
        let _ = tool.execute_again(TaskId::new(3), Timestamp(0), NEW);
    }
    assert!(
        refused > 0 && damaged > 0,
        "{refused} refused, {damaged} damaged"
    );
}
