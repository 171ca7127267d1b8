//! Replays the corpus of the fuzzer, and what it has found. `tests/fuzz` has the fuzzer's targets,
//! which run the same code; CONTRIBUTING.md says how.

#![allow(clippy::unwrap_used, clippy::field_reassign_with_default)]

mod bodies;

use std::fs;
use std::path::Path;

/// Runs each input of a corpus.
fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        // Printed only if the test fails.
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus {} is empty", corpus.display());
}

#[test]
fn g11_no_bytes_on_a_link_panic_or_come_back_changed() {
    replay("frames", bodies::frames::run);
}

#[cfg(feature = "store")]
#[test]
fn no_log_panics_whatever_it_holds_and_what_is_read_goes_on_alike() {
    replay("log", bodies::log::run);
}

#[test]
fn g11_nobody_is_let_in_by_bytes_out_of_nowhere_or_changed_on_the_way() {
    replay("proof", bodies::proof::run);
}

#[test]
fn g11_no_node_disturbs_what_is_not_its_own() {
    replay("scheduler", bodies::scheduler::run);
}

#[test]
fn g11_no_scheduler_breaks_a_node() {
    replay("node", bodies::node::run);
}
