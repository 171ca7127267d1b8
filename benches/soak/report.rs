//! What is printed at the end, and whether all was well.
//!
//! Owns: the comparison of what the client was told, what the scheduler counts and what the nodes
//! wrote down.

use std::collections::BTreeMap;
use std::process::ExitCode;

use callboard::Scheduler;
use callboard::stats::Stats;

use crate::AnyError;
use crate::judge::Judgement;
use crate::ledger::Ledger;
use crate::plan::Fault;

/// How much more memory the scheduler may have at the end than at a third, in percent...
const MAY_GROW: u64 = 10;
/// ...or in bytes, where that is more: in a run of a minute a third is over before the allocator
/// has all that it will keep, and a leak of this size in forty seconds is one of thirty megabytes
/// in the ten minutes of a whole run.
const WARMING_UP: u64 = 2 << 20;
/// How many of each sort of fault are named.
const NAMED: usize = 10;

/// See the module.
pub struct Report {
    pub judgement: Judgement,
    /// By fault, and whether it outlasted the lease.
    pub faults: BTreeMap<(Fault, bool), u64>,
    /// Of this process, at a third and at the end, in bytes.
    pub memory: [u64; 2],
    pub wrong: Vec<String>,
}

/// The memory that this process has, in bytes.
pub fn memory() -> Result<u64, AnyError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .ok_or("the system does not tell what memory is taken")?
        .parse()?;
    Ok(kib << 10)
}

/// What some of the unsettled tasks wait for.
pub async fn unfinished(scheduler: &Scheduler) -> Result<Vec<String>, AnyError> {
    let unfinished = scheduler.unfinished().await?;
    let mut words = vec![format!("{} tasks do not settle", unfinished.len())];
    for task in unfinished.iter().take(NAMED) {
        let explained = scheduler.explain(task.id).await?;
        words.push(format!("{} ({}): {explained:?}", task.id, task.kind));
    }
    Ok(words)
}

impl Report {
    /// Prints it all; the exit status says whether anything was wrong.
    pub fn print(mut self, ledger: &Ledger, stats: &Stats) -> ExitCode {
        self.compare(ledger, stats);
        self.print_table(ledger, stats);
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

    fn compare(&mut self, ledger: &Ledger, stats: &Stats) {
        let told = ledger.told().clone();
        if told.wrong > told.words.len() as u64 {
            self.wrong
                .push(format!("{} endings were not as they should be", told.wrong));
        }
        self.wrong.extend(told.words);
        self.wrong.append(&mut self.judgement.wrong);
        let (accepted, settled) = ledger.unmatched();
        for (tasks, what) in [
            (accepted, "was accepted and did not settle"),
            (settled, "settled and was not accepted"),
        ] {
            let named = tasks.iter().take(NAMED);
            self.wrong
                .extend(named.map(|task| format!("{task} {what}")));
        }
        let [accepted, settled, ..] = ledger.counts();
        for (here, there, what) in [
            (accepted, stats.totals.executed, "accepted"),
            (settled, stats.totals.settled(), "settled"),
        ] {
            if here != there {
                self.wrong.push(format!(
                    "{here} tasks were {what}, but the scheduler counts {there}"
                ));
            }
        }
        let [third, end] = self.memory;
        if end > third + (third * MAY_GROW / 100).max(WARMING_UP) {
            self.wrong.push(format!(
                "the scheduler had {} KiB at a third and {} KiB at the end: more than {MAY_GROW} % and {} KiB more",
                third >> 10,
                end >> 10,
                WARMING_UP >> 10
            ));
        }
    }

    fn print_table(&self, ledger: &Ledger, stats: &Stats) {
        let row = |what: &str, count: u64| println!("{what:<48}{count:>10}");
        let [accepted, settled, refused, lost] = ledger.counts();
        row("tasks accepted", accepted);
        row("tasks settled", settled);
        for (outcome, count) in &ledger.told().outcomes {
            row(&format!("  {outcome}"), *count);
        }
        row("handed in again after a refusal", refused);
        row("joined by their key", stats.totals.joined);
        for (&(fault, long), &count) in &self.faults {
            let long = match (fault, long) {
                (Fault::Kill, _) => "",
                (_, true) => ", longer than the lease",
                (_, false) => ", shorter than the lease",
            };
            row(&format!("nodes {}{long}", fault.words()), count);
        }
        row(
            "tasks sent elsewhere (lost, refused)",
            stats.totals.rerouted,
        );
        row("  of these under way on a lost node", lost);
        row("reports about superseded runs", stats.totals.stale_reports);
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
        row(
            "memory of the scheduler at a third, KiB",
            self.memory[0] >> 10,
        );
        row(
            "memory of the scheduler at the end, KiB",
            self.memory[1] >> 10,
        );
    }
}
