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
    assert!(
        tasks.pages.len() <= 1,
        "{} pages are kept",
        tasks.pages.len()
    );
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
