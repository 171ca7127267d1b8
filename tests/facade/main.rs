//! What a recorder of the facade `metrics` is told.
//!
//! Owns: a recorder of its own, which is that of the whole process. Does not know: who tells it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use callboard::{Execute, Handlers, Limit, Node, Scheduler, Shutdown};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};

/// What was set, with its whole name: as Prometheus writes it, with the labels in order; `None`
/// when the thread has ended that told it.
type Told = Option<(String, &'static str, f64)>;

/// Says that the thread ends which has it.
struct AtEnd(Sender<Told>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        let _ = self.0.send(None);
    }
}

thread_local! {
    static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

struct Keeper(Mutex<Sender<Told>>);

struct Setter {
    name: String,
    of_type: &'static str,
    to: Sender<Told>,
}

impl Keeper {
    fn setter(&self, key: &Key, of_type: &'static str) -> Arc<Setter> {
        let labels = key
            .labels()
            .map(|it| format!("{}={:?}", it.key(), it.value()));
        let labels: Vec<_> = labels.collect();
        Arc::new(Setter {
            name: format!("{}{{{}}}", key.name(), labels.join(",")),
            of_type,
            to: self.0.lock().unwrap().clone(),
        })
    }
}

impl Setter {
    fn tell(&self, value: f64) {
        AT_END.with_borrow_mut(|end| {
            end.get_or_insert_with(|| AtEnd(self.to.clone()));
        });
        let _ = self.to.send(Some((self.name.clone(), self.of_type, value)));
    }
}

impl CounterFn for Setter {
    fn increment(&self, _: u64) {
        panic!("{} is to be set, not added to", self.name);
    }

    fn absolute(&self, value: u64) {
        self.tell(value as f64);
    }
}

impl GaugeFn for Setter {
    fn increment(&self, _: f64) {
        panic!("{} is to be set, not added to", self.name);
    }

    fn decrement(&self, _: f64) {
        panic!("{} is to be set, not taken from", self.name);
    }

    fn set(&self, value: f64) {
        self.tell(value);
    }
}

impl Recorder for Keeper {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("{} is a histogram", name.as_str());
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.setter(key, "counter"))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.setter(key, "gauge"))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("{} is a histogram", key.name());
    }
}

/// What the recorder has.
struct Recorded {
    from: Receiver<Told>,
    now: BTreeMap<String, (&'static str, f64)>,
}

impl Recorded {
    /// Takes in what is told, until this is so.
    fn until(&mut self, is_so: impl Fn(&BTreeMap<String, (&'static str, f64)>) -> bool) {
        while !is_so(&self.now) {
            let told = self.from.recv().unwrap();
            let (name, of_type, value) =
                told.unwrap_or_else(|| panic!("nothing more is told after {:?}", self.now));
            self.now.insert(name, (of_type, value));
        }
    }
}

/// Returns what the text for Prometheus has beside histograms, in the same form.
fn read(text: &str) -> BTreeMap<String, (&'static str, f64)> {
    let mut of_type = "";
    let mut all = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            of_type = match family.split_once(' ').unwrap().1 {
                "counter" => "counter",
                "gauge" => "gauge",
                _ => "",
            };
        } else if !line.starts_with('#') && !of_type.is_empty() {
            let (name, value) = line.rsplit_once(' ').unwrap();
            all.insert(name.to_owned(), (of_type, value.parse().unwrap()));
        }
    }
    all
}

#[actix::test]
async fn the_facade_is_told_what_prometheus_is_until_the_scheduler_ends() {
    let (to, from) = channel();
    metrics::set_global_recorder(Keeper(Mutex::new(to))).unwrap_or_else(|_| panic!("a recorder"));
    let mut recorded = Recorded {
        from,
        now: BTreeMap::new(),
    };
    let handlers =
        Handlers::new()
            .on("double", async |n: u64| Ok(2 * n))
            .on("wait", async |(): ()| {
                std::future::pending::<()>().await;
                Ok(())
            });
    let scheduler = Scheduler::builder("facade")
        .node(Node::local("here", handlers).max_workers(1))
        .limit("double", Limit::concurrency(3))
        .no_client()
        .start()
        .await
        .unwrap();
    for n in 0..5u64 {
        let double = Execute::named("double", &n).unwrap();
        scheduler.execute_and_wait(double).await.unwrap();
    }
    let wait = Execute::named("wait", &()).unwrap();
    scheduler.execute(wait).await.unwrap();
    scheduler.pause("double").await.unwrap();
    scheduler.publish_metrics().unwrap();
    scheduler.publish_metrics().unwrap();

    let paused = r#"callboard_kind_paused{scheduler="facade",kind="double"}"#;
    recorded.until(|now| now.get(paused) == Some(&("gauge", 1.0)));
    let text = scheduler.prometheus().await.unwrap();
    // What moves by itself: the control thread works, and the run that waits grows old.
    let moves = |name: &String| {
        name.contains("_seconds_total") || name.contains("oldest_running") || name.contains("_info")
    };
    let mut expected = read(&text);
    expected.retain(|name, _| !moves(name));
    let settled =
        r#"callboard_tasks_settled_total{scheduler="facade",kind="double",outcome="completed"}"#;
    assert_eq!(expected.get(settled), Some(&("counter", 5.0)), "{text}");
    assert!(expected.len() > 40, "{text}");
    let is_same = |now: &BTreeMap<_, _>| {
        let mut now = now.clone();
        now.retain(|name, _| !moves(name));
        now == expected
    };
    recorded.until(is_same);
    let busy = r#"callboard_control_busy_seconds_total{scheduler="facade"}"#;
    recorded.until(|now| {
        now.get(busy)
            .is_some_and(|&(of_type, it)| of_type == "gauge" && it > 0.0)
    });

    // What is told no more does not stand still.
    scheduler.resume("double").await.unwrap();
    recorded.until(|now| now.get(paused) == Some(&("gauge", 0.0)));
    scheduler.shutdown(Shutdown::Now).await.unwrap();
    let gauges_are_zero = |now: &BTreeMap<String, (&str, f64)>| {
        let mut gauges = now.values().filter(|(of_type, _)| *of_type == "gauge");
        gauges.all(|(_, value)| *value == 0.0)
    };
    recorded.until(gauges_are_zero);
}
