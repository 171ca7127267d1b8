//! What the outbox keeps and tells, by hand.

use std::time::UNIX_EPOCH;

use super::*;
use crate::payload::Payload;
use crate::task::{TaskId, TaskKey};

const CLIENT: ClientId = ClientId(1);

fn ending(id: u64, output: Payload, key: Option<TaskKey>) -> Ending {
    Ending {
        scheduler: "board".into(),
        id: TaskId::new(id),
        key,
        kind: "kind".into(),
        args: Payload::new(),
        options: None,
        outcome: Outcome::Completed(output),
        node: None,
        attempts: 1,
        reroutes: 0,
        accepted_at: UNIX_EPOCH,
        started_at: None,
        settled_at: UNIX_EPOCH,
    }
}

/// Tells the client of an ending, which confirms it, with a clone of its status or without.
fn tell(outbox: &mut Outbox, ending: Ending, kept: bool) -> (*const Ending, Option<TaskStatus>) {
    let status = outbox.status(ending);
    let room: *const Ending = &*status;
    outbox.push_client(CLIENT, status);
    let mut actions = Vec::new();
    outbox.flush(&mut actions);
    let [
        Action::Deliver {
            statuses, delivery, ..
        },
    ] = &actions[..]
    else {
        panic!("one delivery, not {actions:?}");
    };
    let (clone, delivery) = (kept.then(|| statuses[0].clone()), *delivery);
    drop(actions);
    outbox.confirmed(CLIENT, delivery, 0..1);
    (room, clone)
}

#[test]
fn the_room_of_a_confirmed_ending_is_used_again_unless_somebody_has_it_or_it_holds_memory() {
    let mut outbox = Outbox::new(&SchedulerConfig::default());
    outbox.set_current(Some(CLIENT));
    let (first, _) = tell(&mut outbox, ending(1, Payload::new(), None), false);
    let (second, kept) = tell(&mut outbox, ending(2, Payload::new(), None), true);
    assert_eq!(first, second);
    let (third, _) = tell(&mut outbox, ending(3, Payload::new(), None), false);
    assert_ne!(third, second);
    assert_eq!(kept.map(|status| status.id), Some(TaskId::new(2)));
    tell(&mut outbox, ending(4, vec![0; 100].into(), None), false);
    assert_eq!(outbox.spares.len(), 0);
    tell(
        &mut outbox,
        ending(5, Payload::new(), Some("key".into())),
        false,
    );
    assert_eq!(outbox.spares.len(), 0);
    assert_eq!(outbox.check(), Ok(()));
}
