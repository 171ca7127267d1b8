//! What is printed at the end, and whether all was well.
//!
//! Owns: the comparison of what the client was told, what the scheduler counts and what the nodes
//! wrote down. Does not know: how any of it was learned.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use callboard::TaskId;

use crate::judge::Judgement;
use crate::ledger::Book;
use crate::plan::Fault;

/// How much more memory the scheduler may have at the end than at a third, in percent...
const MAY_GROW: u64 = 10;
/// ...or in bytes, where that is more: in a run of a minute a third is over before the allocator
/// has all that it will keep, and a leak of this size in forty seconds is one of thirty megabytes
/// in the ten minutes of a whole run.
const WARMING_UP: u64 = 2 << 20;

/// What the trails of tasks may take, which fill up as attempts fail.
const TRAILS: u64 = 16 << 20;
/// How large the store's file may become: it does not grow with what has settled.
const MOST_STORED: u64 = 64 << 20;
/// How many of each sort of fault are named.
const NAMED: usize = 10;

/// See the module.
pub struct Report {
    pub judgement: Judgement,
    /// By fault, and whether it outlasted the lease.
    pub faults: BTreeMap<(Fault, bool), u64>,
    /// What the scheduler's process had in memory at a third, in bytes.
    pub third: u64,
    pub wrong: Vec<String>,
}

impl Report {
    /// Prints it all; the exit status says whether anything was wrong.
    pub fn print(mut self, book: &Book) -> ExitCode {
        self.compare(book);
        self.print_table(book);
        if self.wrong.is_empty() {
            println!("all was well");
            return ExitCode::SUCCESS;
        }
        println!("{} things were wrong:", self.wrong.len());
        for words in self.wrong.iter().take(5 * NAMED) {
            println!("  {words}");
        }
        ExitCode::from(1)
    }

    fn compare(&mut self, book: &Book) {
        if book.wrong > book.words.len() as u64 {
            self.wrong
                .push(format!("{} endings were not as they should be", book.wrong));
        }
        self.wrong.extend(book.words.iter().cloned());
        self.wrong.append(&mut self.judgement.wrong);
        let (accepted, settled) = book.unmatched();
        for (tasks, what) in [
            (accepted, "was accepted and did not settle"),
            (settled, "settled and was not accepted"),
        ] {
            let named = tasks.iter().take(NAMED);
            self.wrong
                .extend(named.map(|&task| format!("{} {what}", TaskId::new(task))));
        }
        if book.most_stored > MOST_STORED {
            let stored = book.most_stored >> 20;
            self.wrong.push(format!("the store had {stored} MiB"));
        }
        // What a process has counted, and what it has in memory, ends with it.
        if book.kills == 0 {
            self.compare_totals(book);
        }
    }

    fn compare_totals(&mut self, book: &Book) {
        let (accepted, settled) = (book.accepted.len() as u64, book.settled_count());
        let totals = &book.state.totals;
        for (here, there, what) in [
            (accepted, totals.executed, "accepted"),
            (settled, totals.settled(), "settled"),
        ] {
            if here != there {
                self.wrong.push(format!(
                    "{here} tasks were {what}, but the scheduler counts {there}"
                ));
            }
        }
        let (third, end) = (self.third, book.state.memory);
        if end > third + (third * MAY_GROW / 100).max(WARMING_UP) + TRAILS {
            self.wrong.push(format!(
                "the scheduler had {} KiB at a third and {} KiB at the end: more than {MAY_GROW} % and {} KiB more",
                third >> 10,
                end >> 10,
                (WARMING_UP + TRAILS) >> 10
            ));
        }
    }

    fn print_table(&self, book: &Book) {
        let row = |what: &str, count: u64| println!("{what:<56}{count:>10}");
        row("tasks accepted", book.accepted.len() as u64);
        row("tasks settled", book.settled_count());
        for (outcome, count) in &book.outcomes {
            row(&format!("  {outcome}"), *count);
        }
        row("handed in again after a refusal", book.refused);
        for (&(fault, long), &count) in &self.faults {
            let long = match (fault, long) {
                (Fault::Kill, _) => "",
                (_, true) => ", longer than the lease",
                (_, false) => ", shorter than the lease",
            };
            row(&format!("nodes {}{long}", fault.words()), count);
        }
        row("nodes lost under tasks that ran", book.reroutes);
        if book.kills == 0 {
            let totals = &book.state.totals;
            row("joined by their key", totals.joined);
            row("tasks sent elsewhere (lost, refused)", totals.rerouted);
            row("reports about superseded runs", totals.stale_reports);
        } else {
            row("the scheduler killed, and started again", book.kills);
            row(
                "  tasks settled that had no answer before",
                book.settled_unanswered() as u64,
            );
            row("  statuses told again, and marked so", book.given_again);
            let starts = &self.judgement.first_starts;
            let millis = |at: Option<&Duration>| at.map_or(0, |span| span.as_millis() as u64);
            row(
                "  from a start to the first of a pending task, p50, ms",
                millis(starts.get(starts.len() / 2)),
            );
            row("  the longest of these, ms", millis(starts.last()));
            row("the store's file at most, KiB", book.most_stored >> 10);
        }
        let judgement = &self.judgement;
        row("runs", judgement.runs as u64);
        row("  second runs of an attempt", judgement.second_runs as u64);
        row(
            "  begun before the earlier one had ended",
            judgement.overlaps as u64,
        );
        row("runs of exclusive tasks", judgement.exclusive_runs as u64);
        row(
            "  second runs of an attempt",
            judgement.exclusive_second_runs as u64,
        );
        row("  last steps on waking", judgement.last_steps as u64);
        row("memory of the scheduler at a third, KiB", self.third >> 10);
        row(
            "memory of the scheduler at the end, KiB",
            book.state.memory >> 10,
        );
    }
}
