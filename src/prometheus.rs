//! What is measured of a scheduler as metrics, above all as text that Prometheus reads, in its
//! format 0.0.4.
//!
//! Owns: the names, types and labels of the metrics, which docs/operations.md lists. Does not know:
//! how anything is measured, or who serves the text.

use crate::engine::message::VERSION_MAX;
use crate::engine::meter::{KindMetrics, NAMED, OTHER_NAME};
use crate::snapshot::{Done, Snapshot};
use crate::stats::{MetricsDetail, StoreStats};
use crate::task::TaskKind;

mod nodes;
mod outlet;
mod text;

use nodes::{nodes, workers};
pub(crate) use outlet::{Outlet, Type, Value};
use text::Text;

/// Writes a snapshot.
pub(crate) fn write(snapshot: &Snapshot, detail: MetricsDetail) -> String {
    let mut text = Text::new(&snapshot.stats.scheduler);
    tell(&mut text, snapshot, detail);
    text.into_string()
}

/// Tells a snapshot to an outlet.
pub(crate) fn tell(text: &mut dyn Outlet, snapshot: &Snapshot, detail: MetricsDetail) {
    tasks(text, snapshot);
    kinds(text, &snapshot.machine.kinds);
    ends(text, &snapshot.machine.kinds);
    settings(text, snapshot);
    bounded(text, snapshot);
    workers(text, snapshot);
    faults(text, snapshot);
    control(text, snapshot);
    if let Some(store) = &snapshot.stats.store {
        stored(text, store, snapshot);
    }
    if detail == MetricsDetail::PerNode {
        nodes(text, &snapshot.stats);
    }
}

/// Returns the name under which a kind is told.
fn name_of(kind: &KindMetrics) -> &str {
    kind.counts
        .kind
        .as_ref()
        .map_or(OTHER_NAME, TaskKind::as_str)
}

/// Writes a number of each kind.
fn each_kind<V: Into<Value>>(
    text: &mut dyn Outlet,
    kinds: &[KindMetrics],
    value: impl Fn(&KindMetrics) -> V,
) {
    for kind in kinds {
        text.sample(&[("kind", name_of(kind))], value(kind));
    }
}

/// Writes numbers by one label.
fn each<'a>(
    text: &mut dyn Outlet,
    label: &'static str,
    values: impl IntoIterator<Item = (&'a str, u64)>,
) {
    for (name, value) in values {
        text.sample(&[(label, name)], value);
    }
}

fn tasks(text: &mut dyn Outlet, snapshot: &Snapshot) {
    let (totals, machine) = (&snapshot.stats.totals, &snapshot.machine);
    text.family(
        "callboard_tasks",
        Type::Gauge,
        "Unfinished tasks by state; each is in one, so the sum is all of them.",
    );
    let states = machine.states.all();
    each(
        text,
        "state",
        states.map(|(state, tasks)| (state, tasks as u64)),
    );
    text.family(
        "callboard_tasks_refused_total",
        Type::Counter,
        "Tasks that were not accepted.",
    );
    each(
        text,
        "reason",
        totals
            .refused
            .iter()
            .map(|(&reason, &count)| (reason, count)),
    );
    text.family(
        "callboard_tasks_joined_total",
        Type::Counter,
        "Tasks that joined an earlier one by their key.",
    );
    text.sample(&[], totals.joined);
    text.family(
        "callboard_statuses_delivered_total",
        Type::Counter,
        "Statuses that were handed to clients and callers.",
    );
    text.sample(&[], machine.delivered);
    text.family(
        "callboard_statuses_redelivered_total",
        Type::Counter,
        "Statuses among them that an earlier client had been given.",
    );
    text.sample(&[], machine.redelivered);
}

fn kinds(text: &mut dyn Outlet, kinds: &[KindMetrics]) {
    text.family(
        "callboard_tasks_accepted_total",
        Type::Counter,
        "Tasks that were accepted.",
    );
    each_kind(text, kinds, |kind| kind.counts.accepted);
    text.family(
        "callboard_tasks_recovered_total",
        Type::Counter,
        "Unfinished tasks that were found in the store at the start.",
    );
    each_kind(text, kinds, |kind| kind.counts.recovered);
    text.family(
        "callboard_retries_total",
        Type::Counter,
        "Attempts that were followed by another.",
    );
    each_kind(text, kinds, |kind| kind.counts.retried);
    text.family(
        "callboard_tasks_pending",
        Type::Gauge,
        "Due tasks that do not run, for whatever reason.",
    );
    each_kind(text, kinds, |kind| kind.pending as u64);
    text.family("callboard_tasks_running", Type::Gauge, "Tasks that run.");
    each_kind(text, kinds, |kind| kind.running as u64);
    text.family(
        "callboard_oldest_due_age_seconds",
        Type::Gauge,
        "How long the oldest task has been due that waits for a worker alone.",
    );
    each_kind(text, kinds, |kind| kind.oldest_due);
    text.family(
        "callboard_oldest_running_age_seconds",
        Type::Gauge,
        "How long the oldest run goes on.",
    );
    each_kind(text, kinds, |kind| kind.oldest_running);
}

fn ends(text: &mut dyn Outlet, kinds: &[KindMetrics]) {
    text.family(
        "callboard_tasks_settled_total",
        Type::Counter,
        "Tasks that have ended, by how.",
    );
    for kind in kinds {
        for (outcome, count) in kind.counts.endings() {
            if count > 0 || outcome == "completed" {
                text.sample(&[("kind", name_of(kind)), ("outcome", outcome)], count);
            }
        }
    }
    // Most kinds never see most of these.
    let attempts = |kind: &KindMetrics| {
        let attempts = kind.counts.attempts();
        let some = attempts.filter(|(result, times)| times.count() > 0 || result.name() == "ok");
        some.map(|(result, times)| (result.name(), times.clone()))
            .collect::<Vec<_>>()
    };
    text.family(
        "callboard_attempts_total",
        Type::Counter,
        "Attempts that have ended, by how.",
    );
    for kind in kinds {
        for (result, times) in attempts(kind) {
            let labels = [("kind", name_of(kind)), ("result", result)];
            text.sample(&labels, times.count());
        }
    }
    text.family(
        "callboard_attempt_duration_seconds",
        Type::Histogram,
        "How long attempts took.",
    );
    for kind in kinds {
        for (result, times) in attempts(kind) {
            text.histogram(&[("kind", name_of(kind)), ("result", result)], &times);
        }
    }
    text.family(
        "callboard_task_wait_seconds",
        Type::Histogram,
        "From when a task was due to the start of its first attempt.",
    );
    for kind in kinds {
        text.histogram(&[("kind", name_of(kind))], &kind.counts.wait);
    }
    text.family(
        "callboard_task_settle_seconds",
        Type::Histogram,
        "From when a task was accepted to its ending, delays included.",
    );
    for kind in kinds {
        text.histogram(&[("kind", name_of(kind))], &kind.counts.settle);
    }
}

/// Returns as many kinds as are told by name: first those that are counted by name.
fn first_kinds<'a, T>(
    snapshot: &Snapshot,
    all: impl Iterator<Item = (&'a TaskKind, T)>,
) -> Vec<(&'a TaskKind, T)> {
    let kinds = snapshot.machine.kinds.iter();
    let counted: Vec<_> = kinds.filter_map(|kind| kind.counts.kind.as_ref()).collect();
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(kind, _)| !counted.contains(kind));
    all.truncate(NAMED);
    all
}

fn settings(text: &mut dyn Outlet, snapshot: &Snapshot) {
    let stats = &snapshot.stats;
    text.family(
        "callboard_paused",
        Type::Gauge,
        "1 if an operator has paused all kinds.",
    );
    text.sample(&[], u64::from(stats.pauses.all));
    text.family(
        "callboard_kind_paused",
        Type::Gauge,
        "1 for each kind that an operator has paused.",
    );
    let paused = stats.pauses.kinds.iter().map(|kind| (kind, ()));
    for (kind, ()) in first_kinds(snapshot, paused) {
        text.sample(&[("kind", kind.as_str())], 1);
    }
    let limits = stats.limits.iter();
    let limits = limits.filter_map(|it| {
        let at_once = it.limit.of_kind().concurrency?;
        Some((&it.kind, (at_once, it.going)))
    });
    let limits = first_kinds(snapshot, limits);
    text.family(
        "callboard_kind_limit",
        Type::Gauge,
        "How many tasks of a kind may go on at once.",
    );
    for (kind, (at_once, _)) in &limits {
        text.sample(&[("kind", kind.as_str())], u64::from(*at_once));
    }
    text.family(
        "callboard_kind_limit_in_use",
        Type::Gauge,
        "How many of these go on, or may.",
    );
    for (kind, (_, going)) in &limits {
        text.sample(&[("kind", kind.as_str())], u64::from(*going));
    }
    text.family(
        "callboard_actions_total",
        Type::Counter,
        "What operators asked for, and whether it was done.",
    );
    for ((action, done), count) in &snapshot.actions {
        let result = match done {
            Done::Yes => "ok",
            Done::Refused => "refused",
        };
        text.sample(&[("action", action), ("result", result)], *count);
    }
}

fn bounded(text: &mut dyn Outlet, snapshot: &Snapshot) {
    let stats = &snapshot.stats;
    text.family(
        "callboard_limit",
        Type::Gauge,
        "The settings that bound what a scheduler holds.",
    );
    each(text, "bound", snapshot.bounds);
    text.family(
        "callboard_args_bytes",
        Type::Gauge,
        "Args of all unfinished tasks.",
    );
    text.sample(&[], stats.args_bytes);
    text.family(
        "callboard_statuses_unconfirmed",
        Type::Gauge,
        "Statuses that no client has confirmed.",
    );
    text.sample(&[], stats.unconfirmed_statuses as u64);
    text.family(
        "callboard_statuses_unconfirmed_bytes",
        Type::Gauge,
        "What these hold.",
    );
    text.sample(&[], stats.unconfirmed_bytes);
}

fn faults(text: &mut dyn Outlet, snapshot: &Snapshot) {
    let (totals, machine) = (&snapshot.stats.totals, &snapshot.machine);
    text.family(
        "callboard_reroutes_total",
        Type::Counter,
        "Tasks that were taken back from a node, by why.",
    );
    each(
        text,
        "reason",
        machine.reroutes.iter().map(|(&why, &count)| (why, count)),
    );
    text.family(
        "callboard_reroute_seconds",
        Type::Histogram,
        "From when a lost node was heard last to when its tasks were pending again.",
    );
    text.histogram(&[], &machine.reroute);
    text.family(
        "callboard_links_lost_total",
        Type::Counter,
        "Links of nodes that were up, and are not any more.",
    );
    each(
        text,
        "reason",
        machine.links_lost.iter().map(|(&why, &count)| (why, count)),
    );
    text.family(
        "callboard_link_bytes_total",
        Type::Counter,
        "What went over links of the network, before any encryption.",
    );
    let bytes = snapshot.bytes;
    each(
        text,
        "direction",
        [("received", bytes.received), ("sent", bytes.sent)],
    );
    text.family(
        "callboard_heartbeat_rtt_seconds",
        Type::Histogram,
        "How long heartbeats of nodes took to be answered.",
    );
    text.histogram(&[], &machine.round_trip);
    text.family(
        "callboard_stale_reports_total",
        Type::Counter,
        "Reports of runs that are not followed any more.",
    );
    text.sample(&[], totals.stale_reports);
    text.family(
        "callboard_violations_total",
        Type::Counter,
        "Breaches of the protocol by nodes.",
    );
    text.sample(&[], totals.violations);
}

fn control(text: &mut dyn Outlet, snapshot: &Snapshot) {
    text.family(
        "callboard_turn_seconds",
        Type::Histogram,
        "How long turns of the control thread took.",
    );
    text.histogram(&[], &snapshot.turns);
    text.family(
        "callboard_control_busy_seconds_total",
        Type::Counter,
        "For how long the control thread has worked.",
    );
    text.sample(&[], snapshot.busy);
    text.family("callboard_info", Type::Gauge, "What runs: always 1.");
    let protocol = VERSION_MAX.to_string();
    let version = env!("CARGO_PKG_VERSION");
    text.sample(&[("version", version), ("protocol", &protocol)], 1);
}

fn stored(text: &mut dyn Outlet, store: &StoreStats, snapshot: &Snapshot) {
    if let Some(commits) = &snapshot.commits {
        text.family(
            "callboard_store_commit_seconds",
            Type::Histogram,
            "How long commits of the store took.",
        );
        text.histogram(&[], commits);
    }
    text.family(
        "callboard_store_commits_total",
        Type::Counter,
        "Batches that were stored.",
    );
    text.sample(&[], store.batches);
    text.family(
        "callboard_store_written_bytes_total",
        Type::Counter,
        "The bytes of these.",
    );
    text.sample(&[], store.batch_bytes);
    text.family(
        "callboard_store_errors_total",
        Type::Counter,
        "How often nothing could be stored.",
    );
    text.sample(&[], snapshot.machine.store_errors);
    if let Some(bytes) = store.file_bytes {
        text.family(
            "callboard_store_size_bytes",
            Type::Gauge,
            "How large the file of the store is.",
        );
        text.sample(&[], bytes);
    }
    text.family(
        "callboard_store_live_ratio",
        Type::Gauge,
        "The share of its log that is needed still.",
    );
    text.sample(&[], Value::Ratio(store.living_share()));
}
