//! What is measured: the text, the table of it in the documents, and the rules and the dashboard
//! that name it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use callboard::stats::MetricsDetail;
use callboard::{Execute, Limit, Node, RetryPolicy, Scheduler, SchedulerBuilder};

use crate::cluster::{brisk, calls, execute, finish, here, until};
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;
use crate::processes::{NodeProcess, Role};
use format::{Family, Labels, read};

mod format;

/// What was read of a scheduler.
struct Metrics(BTreeMap<String, Family>);

impl Metrics {
    async fn of(scheduler: &Scheduler) -> Self {
        let text = scheduler.prometheus_with(MetricsDetail::PerNode).await;
        let text = text.unwrap();
        let read = read(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
        Self(read)
    }

    /// Returns the samples of this name that bear these labels.
    fn all<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = (&'a Labels, f64)> {
        let samples = self.0.values().flat_map(|family| &family.samples);
        samples
            .filter(move |((of, own), _)| {
                let bears =
                    |(label, value): &(&str, &str)| own.get(*label).is_some_and(|own| own == value);
                of == name && labels.iter().all(bears)
            })
            .map(|((_, labels), value)| (labels, *value))
    }

    /// Returns the sum of these samples.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).map(|(_, value)| value).sum()
    }
}

/// Makes a scheduler of one worker in this process.
fn one_worker(name: &str) -> SchedulerBuilder {
    Scheduler::builder(name)
        .node(Node::local("here", handlers()).max_workers(1))
        .no_client()
}

#[actix::test]
async fn what_was_done_is_counted_by_kind_and_outcome() {
    let scheduler = Scheduler::builder("metrics-counts")
        .node(here(handlers()))
        .retry(RetryPolicy::fixed(Duration::from_millis(1)).max_attempts(3))
        .no_client()
        .start()
        .await
        .unwrap();
    for task in [
        Execute::named("echo", &7_u64).unwrap(),
        Execute::named("echo", &8_u64).unwrap(),
        Execute::named("fail", &()).unwrap(),
        Execute::named("fail.permanently", &()).unwrap(),
        Execute::named("fail.until", &2_u32).unwrap(),
    ] {
        scheduler.execute_and_wait(task).await.unwrap();
    }
    scheduler
        .execute(Execute::named("", &()).unwrap())
        .await
        .unwrap_err();
    let metrics = Metrics::of(&scheduler).await;
    for (name, labels, expected) in [
        ("callboard_tasks_accepted_total", &[][..], 5.0),
        ("callboard_tasks_accepted_total", &[("kind", "echo")], 2.0),
        ("callboard_tasks_refused_total", &[], 1.0),
        (
            "callboard_tasks_settled_total",
            &[("outcome", "completed")],
            3.0,
        ),
        (
            "callboard_tasks_settled_total",
            &[("kind", "fail"), ("outcome", "error")],
            1.0,
        ),
        (
            "callboard_tasks_settled_total",
            &[("outcome", "permanent")],
            1.0,
        ),
        (
            "callboard_attempts_total",
            &[("kind", "fail"), ("result", "error")],
            3.0,
        ),
        ("callboard_attempts_total", &[("result", "ok")], 3.0),
        ("callboard_retries_total", &[], 3.0),
        ("callboard_task_wait_seconds_count", &[], 5.0),
        ("callboard_task_settle_seconds_count", &[], 5.0),
        ("callboard_attempt_duration_seconds_count", &[], 8.0),
        ("callboard_statuses_delivered_total", &[], 5.0),
        ("callboard_tasks", &[], 0.0),
        ("callboard_workers", &[("state", "idle")], 2.0),
        ("callboard_wanted_workers", &[], 0.0),
        ("callboard_nodes", &[("state", "up")], 1.0),
        ("callboard_limit", &[("bound", "max_statuses")], 100_000.0),
    ] {
        assert_eq!(metrics.sum(name, labels), expected, "{name} {labels:?}");
    }
    let busy = metrics.sum("callboard_control_busy_seconds_total", &[]);
    let turns = metrics.sum("callboard_turn_seconds_sum", &[]);
    assert!(busy >= turns && turns > 0.0, "{busy} {turns}");
    finish(scheduler).await;
}

#[actix::test]
async fn each_unfinished_task_is_in_one_state_and_only_what_waits_for_a_worker_is_old() {
    let gate = Gate::open().await;
    let scheduler = one_worker("metrics-states")
        .limit("tally", Limit::concurrency(1))
        .start()
        .await
        .unwrap();
    scheduler.pause("echo").await.unwrap();
    execute(&scheduler, calls(1, "gate", &gate.args())).await;
    let run = gate.next().await;
    execute(&scheduler, calls(3, "echo", &1_u64)).await;
    execute(&scheduler, calls(2, "sleep", &0_u64)).await;
    let later = Execute::named("count", &()).unwrap();
    let later = later.delay(Duration::from_secs(3600));
    execute(&scheduler, [later]).await;
    let metrics = Metrics::of(&scheduler).await;
    for (state, expected) in [
        ("running", 1.0),
        ("paused", 3.0),
        ("later", 1.0),
        ("due", 2.0),
    ] {
        let found = metrics.sum("callboard_tasks", &[("state", state)]);
        assert_eq!(found, expected, "{state}");
    }
    let stats = scheduler.stats().await.unwrap();
    let unfinished = scheduler.unfinished().await.unwrap().len();
    assert_eq!(metrics.sum("callboard_tasks", &[]), unfinished as f64);
    assert_eq!(stats.running, 1);
    let age = |kind| metrics.sum("callboard_oldest_due_age_seconds", &[("kind", kind)]);
    assert!(age("sleep") > 0.0, "it waits for a worker");
    assert_eq!(age("echo"), 0.0, "its kind is paused");
    assert_eq!(age("count"), 0.0, "it is not due");
    let pending = |kind| metrics.sum("callboard_tasks_pending", &[("kind", kind)]);
    assert_eq!(
        (pending("sleep"), pending("echo"), pending("count")),
        (2.0, 3.0, 0.0)
    );
    assert_eq!(metrics.sum("callboard_wanted_workers", &[]), 3.0);
    assert_eq!(
        metrics.sum("callboard_kind_paused", &[("kind", "echo")]),
        1.0
    );
    assert_eq!(
        metrics.sum("callboard_kind_limit", &[("kind", "tally")]),
        1.0
    );
    let paused = [("action", "pause"), ("result", "ok")];
    assert_eq!(metrics.sum("callboard_actions_total", &paused), 1.0);
    run.release().await;
    scheduler.resume("echo").await.unwrap();
    until(&scheduler, "all but one are done", |stats| {
        stats.totals.completed == 6
    })
    .await;
    scheduler.shutdown(callboard::Shutdown::Now).await.unwrap();
}

#[actix::test]
async fn hostile_names_are_escaped_and_no_more_than_25_kinds_are_named() {
    let kinds = (0..40).map(|number| format!("\"}}\\ {number}"));
    let kinds: Vec<_> = kinds.chain(["other".to_owned()]).collect();
    let name = "metrics-\"hostile\\";
    let scheduler = one_worker(name).start().await.unwrap();
    let tasks = kinds.iter().map(|kind| Execute::named(kind, &()).unwrap());
    execute(&scheduler, tasks).await;
    let metrics = Metrics::of(&scheduler).await;
    let accepted: Vec<_> = metrics.all("callboard_tasks_accepted_total", &[]).collect();
    let named: BTreeSet<_> = accepted.iter().map(|(labels, _)| &labels["kind"]).collect();
    assert_eq!(named.len(), 26);
    assert!(named.contains(&kinds[0]) && named.contains(&kinds[24]));
    let others = metrics.sum("callboard_tasks_accepted_total", &[("kind", "other")]);
    assert_eq!(others, 16.0, "fifteen, and one of that name");
    for family in metrics.0.values() {
        for (_, labels) in family.samples.keys() {
            assert_eq!(labels["scheduler"], name);
        }
    }
    scheduler.shutdown(callboard::Shutdown::Now).await.unwrap();
}

#[actix::test]
async fn a_node_process_that_dies_is_seen_by_its_links_and_reroutes() {
    let gate = Gate::open().await;
    let mut node = NodeProcess::spawn(&Role::new("metrics-node", 2)).await;
    let scheduler = Scheduler::builder("metrics-reroutes")
        .configure(brisk)
        .node(node.node())
        .no_client()
        .start()
        .await
        .unwrap();
    execute(&scheduler, calls(2, "gate", &gate.args())).await;
    let _runs = gate.take(2).await;
    let before = Metrics::of(&scheduler).await;
    let bytes = |direction| before.sum("callboard_link_bytes_total", &[("direction", direction)]);
    assert!(bytes("sent") > 0.0 && bytes("received") > 0.0);
    assert_eq!(before.sum("callboard_task_wait_seconds_count", &[]), 2.0);
    node.kill();
    until(&scheduler, "both are pending", |stats| stats.pending == 2).await;
    let metrics = Metrics::of(&scheduler).await;
    for (name, labels, expected) in [
        ("callboard_links_lost_total", &[("reason", "closed")], 1.0),
        ("callboard_reroutes_total", &[("reason", "lost")], 2.0),
        ("callboard_attempts_total", &[("result", "lost")], 2.0),
    ] {
        assert_eq!(metrics.sum(name, labels), expected, "{name}");
    }
    assert_eq!(metrics.sum("callboard_reroute_seconds_count", &[]), 2.0);
    assert_eq!(metrics.sum("callboard_task_wait_seconds_count", &[]), 2.0);
    scheduler.shutdown(callboard::Shutdown::Now).await.unwrap();
}

fn document(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Returns the words of a text that are names of metrics.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let named = words.filter(|word| word.starts_with("callboard_"));
    named.map(str::to_owned).collect()
}

/// Returns the names, types and labels in the table of the documents.
fn table() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = document("docs/operations.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix("`callboard_")?;
        let name = format!("callboard_{}", name.trim_end_matches('`'));
        let of_type = cells[2].split(',').next().unwrap().to_owned();
        let labels = cells[3].split(',').map(|it| it.trim().trim_matches('`'));
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned);
        Some((name, (of_type, labels.collect())))
    });
    rows.collect()
}

/// A scheduler that exposes all there is.
#[cfg(feature = "store")]
#[actix::test]
async fn the_table_in_the_documents_has_what_is_exposed_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let mut node = NodeProcess::spawn(&Role::new("metrics-table", 1)).await;
    let scheduler = Scheduler::builder("metrics-table")
        .configure(brisk)
        .store(callboard::Store::file(place.path().join("tasks.redb")))
        .limit("sleep", Limit::concurrency(1))
        .node(node.node())
        .no_client()
        .start()
        .await
        .unwrap();
    let empty = Execute::named("", &()).unwrap();
    scheduler.execute(empty).await.unwrap_err();
    let echo = Execute::named("echo", &1_u64).unwrap();
    scheduler.execute_and_wait(echo).await.unwrap();
    scheduler.pause("echo").await.unwrap();
    execute(&scheduler, calls(1, "sleep", &3_600_000_u64)).await;
    until(&scheduler, "it runs", |stats| stats.running == 1).await;
    node.kill();
    until(&scheduler, "it is pending", |stats| stats.pending == 1).await;
    let metrics = Metrics::of(&scheduler).await;
    let exposed: BTreeMap<_, _> = metrics
        .0
        .iter()
        .map(|(name, family)| {
            let labels = family.samples.keys().flat_map(|(_, labels)| labels.keys());
            let own = labels.filter(|label| !["scheduler", "le"].contains(&label.as_str()));
            (
                name.clone(),
                (family.of_type.clone(), own.cloned().collect()),
            )
        })
        .collect();
    assert_eq!(table(), exposed);
    scheduler.shutdown(callboard::Shutdown::Now).await.unwrap();
}

/// Returns the names of all series of the table: histograms have three each.
fn series() -> BTreeSet<String> {
    let mut series = BTreeSet::new();
    for (name, (of_type, _)) in table() {
        if of_type == "histogram" {
            let suffixes = ["_bucket", "_sum", "_count"];
            series.extend(suffixes.map(|suffix| format!("{name}{suffix}")));
        } else {
            series.insert(name);
        }
    }
    series
}

#[test]
fn the_rules_name_metrics_that_exist() {
    let text = document("docs/alerts.yml");
    let mut rules = BTreeMap::new();
    let mut current = None;
    // The subset of YAML in which they are written: a key a line, and folded lines of expressions.
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        assert!(!line.contains('\t') && indent % 2 == 0, "{line:?}");
        if let Some(name) = line.strip_prefix("- alert: ") {
            assert_eq!(indent, 6);
            current = Some(name.to_owned());
            assert!(
                rules.insert(name.to_owned(), Vec::new()).is_none(),
                "{name}"
            );
        } else if let Some(rule) = &current {
            rules.get_mut(rule).unwrap().push((indent, line.to_owned()));
        }
    }
    assert_eq!(rules.len(), 8, "{:?}", rules.keys());
    let series = series();
    for (rule, lines) in &rules {
        let value = |key: &str| {
            let found = lines.iter().position(|(_, line)| line.starts_with(key));
            let at = found.unwrap_or_else(|| panic!("{rule} has no {key}"));
            let (indent, line) = &lines[at];
            let folded = lines[at + 1..].iter().take_while(|(more, _)| more > indent);
            let folded = folded.map(|(_, line)| line.as_str());
            let first = line[key.len()..].trim();
            let first = Some(first).filter(|first| *first != ">-");
            first
                .into_iter()
                .chain(folded)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let expression = value("expr:");
        let names = named(&expression);
        assert!(!names.is_empty(), "{rule}: {expression}");
        assert!(names.is_subset(&series), "{rule}: {:?}", &names - &series);
        let opened = expression.matches(['(', '{', '[']).count();
        assert_eq!(
            opened,
            expression.matches([')', '}', ']']).count(),
            "{rule}"
        );
        assert!(["page", "ticket"].contains(&&*value("severity:")), "{rule}");
        for sentence in [value("summary:"), value("action:")] {
            let sentence = sentence
                .strip_prefix('"')
                .unwrap()
                .strip_suffix('"')
                .unwrap();
            assert!(sentence.ends_with('.') && !sentence.contains('"'), "{rule}");
        }
    }
}

#[test]
fn the_dashboard_names_metrics_that_exist() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&document("docs/grafana.json")).unwrap();
    let series = series();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let place = (&panel["gridPos"]["x"], &panel["gridPos"]["y"]);
        let place = (place.0.as_u64().unwrap(), place.1.as_u64().unwrap());
        assert!(places.insert(place), "{title} hides another");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let names = named(expression);
            assert!(!names.is_empty(), "{title}: {expression}");
            assert!(names.is_subset(&series), "{title}: {:?}", &names - &series);
        }
    }
    let variables = dashboard["templating"]["list"].to_string();
    assert!(named(&variables).is_subset(&series), "{variables}");
}
