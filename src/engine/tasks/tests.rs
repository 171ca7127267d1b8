//! Tests of the table of records: it finds, forgets and gives back.

use super::*;
use crate::engine::Audience;

pub(crate) fn task(id: u64) -> Task {
    Task {
        id: TaskId::new(id),
        args: Payload::from(b"123456789"),
        rare: None,
        accepted_at: Timestamp(0),
        rank: id,
        prev: NO_SLOT,
        next: NO_SLOT,
        class: 0,
        addressee: Addressee::of(Audience::Current),
        failed_attempts: 0,
        priority: 0,
        stage: Stage::Queued {
            place: Place::Listed,
            given_up: None,
        },
        past: Past::Fresh,
        prefetch: Prefetch::Allowed,
        era: Era::Present,
    }
}

#[test]
fn a_record_is_found_by_its_id_until_it_is_removed() {
    let mut tasks = Tasks::default();
    let slots: Vec<_> = (0..5000).map(|id| tasks.insert(task(id))).collect();
    assert_eq!(tasks.len(), 5000);
    assert_eq!(tasks.args_bytes(), 45_000);
    for (id, &slot) in slots.iter().enumerate() {
        assert_eq!(tasks.find(TaskId::new(id as u64)), Some(slot));
    }
    for &slot in &slots[..4999] {
        tasks.remove(slot);
    }
    assert_eq!(tasks.find(TaskId::new(0)), None);
    assert_eq!(tasks.find(TaskId::new(4999)), Some(slots[4999]));
    let kept = tasks
        .chunks
        .iter()
        .filter(|chunk| chunk.slots.is_some())
        .count();
    assert!(kept <= 2, "an emptied chunk is given back, {kept} are kept");
    let pages = tasks.pages.from(0, None).count();
    assert!(pages <= 1, "{pages} pages are kept");
}

#[test]
fn records_are_walked_in_order_of_id_from_anywhere() {
    let mut tasks = Tasks::default();
    // Ids with gaps, the last of which is not the highest: its page is the newest.
    let ids: Vec<u64> = (0..300).map(|n| n * n).chain([7]).collect();
    let slots: Vec<_> = ids.iter().map(|&id| tasks.insert(task(id))).collect();
    for (at, slot) in slots.iter().enumerate() {
        if at % 3 == 0 {
            tasks.remove(*slot);
        }
    }
    let left = ids.iter().enumerate().filter(|(at, _)| at % 3 != 0);
    let mut left: Vec<u64> = left.map(|(_, &id)| id).collect();
    left.sort_unstable();
    for after in [
        None,
        Some(0),
        Some(1),
        Some(6),
        Some(7),
        Some(63),
        Some(64),
        Some(40_000),
    ] {
        let walked = tasks.after(after.map(TaskId::new));
        let walked: Vec<_> = walked.map(|slot| tasks.get(slot).id.get()).collect();
        let expected = left.iter().copied();
        let expected: Vec<_> = expected
            .filter(|&id| after.is_none_or(|it| id > it))
            .collect();
        assert_eq!(walked, expected, "after {after:?}");
    }
    assert_eq!(tasks.after(Some(TaskId::new(u64::MAX))).count(), 0);
}

#[test]
fn a_slot_is_used_again() {
    let mut tasks = Tasks::default();
    for id in 0..100_000 {
        let slot = tasks.insert(task(id));
        tasks.remove(slot);
    }
    assert_eq!(tasks.chunks.len(), 1);
}

#[test]
fn a_list_keeps_its_order_when_its_middle_goes() {
    let mut tasks = Tasks::default();
    let mut list = List::default();
    let slots: Vec<_> = (0..4).map(|id| tasks.insert(task(id))).collect();
    for &slot in &slots {
        tasks.link_last(&mut list, slot);
    }
    tasks.unlink(&mut list, slots[1]);
    tasks.unlink(&mut list, slots[0]);
    tasks.unlink(&mut list, slots[3]);
    assert_eq!(tasks.walk(&list).collect::<Vec<_>>(), [slots[2]]);
}
