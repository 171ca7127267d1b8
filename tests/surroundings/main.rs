//! What surrounds the library: a log that panics, user code that panics where nobody expects it, a
//! machine that gives no more threads or descriptors, starts that nobody waits for, signals, a
//! network in which others answer for a node, setups that cannot work.
//!
//! Each module takes one kind of surroundings. `child` runs a role of this binary as a process of
//! its own, for what holds for a whole process: its log, its limits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod board;
mod child;
mod deaths;
mod network;
mod news;
mod panics;
mod setups;
mod signals;
mod starts;
mod subscriber;
mod threads;

/// Runs in the processes that [`child`] starts; not a test.
#[test]
fn role() {
    child::act_if_told(&[
        ("subscriber", panics::under_a_subscriber_that_panics),
        ("panic-hooks", panics::under_hooks_of_its_own),
        ("closed-pipe", panics::with_a_log_that_nobody_reads),
        ("signals-at-first", signals::from_the_first_poll),
        ("terminated-afterwards", signals::terminated_afterwards),
        ("interrupted-afterwards", signals::interrupted_afterwards),
        ("hears-signals", signals::heard_by_the_process_too),
        ("link-local", deaths::joined_by_a_link_local_address),
        ("link-local-node", deaths::joins_by_a_link_local_address),
        ("translated", deaths::behind_a_translation_of_addresses),
        ("no-threads", threads::where_no_thread_can_be_started),
        ("few-descriptors", starts::with_few_descriptors),
        ("start-no-threads", starts::without_threads),
        ("dropped-starts", starts::dropped),
        ("local-nodes", starts::local_nodes),
    ]);
}
