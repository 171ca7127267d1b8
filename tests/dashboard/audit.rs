//! That each action is told to the log: who did what, to what, and what came of it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::{ask, board, finish, post_json, scheduler, serve};

/// Keeps what is told to the audit.
#[derive(Clone, Default)]
struct Audit(Arc<Mutex<Vec<String>>>);

/// The fields of one line.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Audit {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "callboard::audit"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[actix::test]
async fn each_action_is_told_with_who_and_what_came_of_it() {
    let scheduler = scheduler("dashboard-audit").await;
    let app = serve!(board(&scheduler));
    let audit = Audit::default();
    let told = Arc::clone(&audit.0);
    let _guard = tracing::subscriber::set_default(audit);
    let act = |action: &str, body: &str| {
        let path = format!("/tasks/api/actions/{action}");
        post_json(&path, "operate", body).insert_header(("user", "ada"))
    };
    // Another test may be the first to write a line of this kind, just as this one begins to
    // listen: then nobody is told. Once the line is known, those who listen are asked again.
    ask!(app, act("resume", r#"{"kind":"double"}"#));
    tracing::callsite::rebuild_interest_cache();
    told.lock().unwrap().clear();
    ask!(app, act("pause", r#"{"kind":"double"}"#));
    ask!(app, act("workers", r#"{"node":"nobody","workers":3}"#));
    // What needs more access has not been an action.
    ask!(app, act("remove", r#"{"node":"here"}"#));
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    for part in [
        "user=\"ada\" ",
        "action=\"pause\"",
        "scheduler=\"dashboard-audit\"",
        "subject=\"double\"",
        "result=\"done\"",
    ] {
        assert!(told[0].contains(part), "{part}: {told:?}");
    }
    assert!(told[1].contains("result=\"refused\""), "{told:?}");
    assert!(told[1].contains("no node is named"), "{told:?}");
    finish(scheduler).await;
}
