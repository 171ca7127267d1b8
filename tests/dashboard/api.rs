//! What programs are told.

use actix_web::http::StatusCode;
use callboard::dashboard::{self, Access};
use callboard::stats::Stats;
use callboard::{Execute, Limit, Scheduler, Store};
use serde_json::Value;

use crate::{
    LEVELS, ask, board, finish, get, json, level, next_event, post_json, scheduler, serve, text,
};

#[actix::test]
async fn the_snapshot_is_that_of_the_scheduler() {
    let scheduler = scheduler("dashboard-snapshot").await;
    let app = serve!(board(&scheduler));
    scheduler
        .execute(Execute::named("wait", &()).unwrap())
        .await
        .unwrap();
    let told = json(ask!(app, get("/tasks/api/stats", "read"))).await;
    let stats: Stats = serde_json::from_value(told["stats"].clone()).unwrap();
    assert_eq!(stats.totals.executed, 1);
    assert_eq!(told["problems"], Value::Array(Vec::new()));
    let nodes = json(ask!(app, get("/tasks/api/nodes/", "read"))).await;
    assert_eq!(nodes["nodes"][0]["name"], "here");
    let answer = ask!(app, get("/tasks/health", "read"));
    let health = json(answer).await;
    assert_eq!(health["schedulers"][0]["nodes_up"], 1);
    finish(scheduler).await;
}

#[actix::test]
async fn a_program_is_told_what_is_shown_and_what_it_may_do() {
    let scheduler = scheduler("dashboard-board").await;
    let app = serve!(board(&scheduler).title("production", dashboard::Colour::Red));
    for (name, _) in &LEVELS[1..] {
        let told = json(ask!(app, get("/tasks/api/", name))).await;
        assert_eq!(told["title"], "production");
        assert_eq!(told["schedulers"], serde_json::json!(["dashboard-board"]));
        assert_eq!(told["access"], *name);
        assert_eq!(told["callboard"], env!("CARGO_PKG_VERSION"));
    }
    finish(scheduler).await;
}

#[actix::test]
async fn events_come_at_once_and_then_each_second_the_same_for_all() {
    let scheduler = scheduler("dashboard-events").await;
    let app = serve!(board(&scheduler));
    let one = ask!(app, get("/tasks/api/events", "read")).into_body();
    let two = ask!(app, get("/tasks/live?page=nodes", "read")).into_body();
    let (mut one, mut two) = (std::pin::pin!(one), std::pin::pin!(two));
    let first = next_event(&mut one).await;
    let page = next_event(&mut two).await;
    assert!(page["title"].as_str().unwrap().contains("dashboard-events"));
    assert!(page["html"].as_str().unwrap().contains(r#"id="nodes""#));
    scheduler.pause_all().await.unwrap();
    let mut next = next_event(&mut one).await;
    while next["stats"]["pauses"]["all"] == false {
        next = next_event(&mut one).await;
    }
    assert!(next["at"].as_f64() > first["at"].as_f64());
    finish(scheduler).await;
}

#[actix::test]
async fn a_stopped_scheduler_is_not_healthy() {
    let scheduler = scheduler("dashboard-stopped").await;
    let app = serve!(board(&scheduler));
    finish(scheduler).await;
    let answer = ask!(app, get("/tasks/health", "none"));
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(answer).await, r#"{"status":"stopped"}"#);
    let answer = ask!(app, get("/tasks", "read"));
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(answer).await.contains("the scheduler has stopped"));
}

#[actix::test]
async fn actions_do_what_they_say() {
    let scheduler = scheduler("dashboard-actions").await;
    let app = serve!(board(&scheduler));
    let act = async |action: &str, body: &str| {
        let path = format!("/tasks/api/actions/{action}");
        let answer = ask!(app, post_json(&path, "full", body));
        let status = answer.status();
        (status, text(answer).await)
    };
    let ok = async |action: &str, body: &str| {
        let (status, said) = act(action, body).await;
        assert_eq!(status, StatusCode::OK, "{action}: {said}");
        scheduler.stats().await.unwrap()
    };
    let stats = ok("pause", r#"{"kind":"double"}"#).await;
    assert_eq!(stats.pauses.kinds, ["double"]);
    assert!(
        ok("resume", r#"{"kind":"double"}"#)
            .await
            .pauses
            .kinds
            .is_empty()
    );
    let stats = ok("close_intake", r#"{"kind":"double"}"#).await;
    assert_eq!(stats.pauses.closed, ["double"]);
    assert!(
        ok("open_intake", r#"{"kind":"double"}"#)
            .await
            .pauses
            .closed
            .is_empty()
    );
    let fields = r#"{"kind":"double","concurrency":4,"rate":"10","burst":2,"group_concurrency":1}"#;
    let expected = Limit::concurrency(4)
        .rate(10, std::time::Duration::from_secs(1))
        .burst(2)
        .each_group(Limit::concurrency(1));
    assert_eq!(ok("limit", fields).await.limits[0].limit, expected);
    assert!(ok("limit", r#"{"kind":"double"}"#).await.limits.is_empty());
    let stats = ok("workers", r#"{"node":"here","workers":7}"#).await;
    assert_eq!(stats.nodes[0].workers, 7);

    let waiting = Execute::named("wait", &()).unwrap();
    let id = scheduler.execute(waiting).await.unwrap().get();
    let stats = ok("cancel", &format!(r#"{{"id":{id}}}"#)).await;
    assert_eq!(stats.totals.cancelled, 1);
    let (status, _) = act("cancel", r#"{"id":"t999"}"#).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, said) = act("limit", r#"{"kind":"double","concurrency":0}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(said.contains("at least 1"), "{said}");
    let (status, _) = act("pause", r#"{"kind":["double"]}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(ok("remove", r#"{"node":"here"}"#).await.nodes.is_empty());

    let told = json(ask!(app, get("/tasks/api/stats", "read"))).await;
    assert_eq!(told["actions"]["limit"]["done"], 2);
    assert_eq!(told["actions"]["limit"]["refused"], 1);
    finish(scheduler).await;
}

/// Starts a scheduler with a store, on which a task has failed.
pub async fn failed(name: &str, folder: &std::path::Path) -> (Scheduler, u64) {
    let handlers = callboard::Handlers::new().on("fail", async |_: Value| {
        Err::<(), _>(callboard::TaskError::permanent("no such image"))
    });
    let node = callboard::Node::local("here", handlers).max_workers(1);
    let store = Store::file(folder.join("store"));
    let scheduler = Scheduler::builder(name).node(node).store(store).no_client();
    let scheduler = scheduler.start().await.unwrap();
    let args = serde_json::json!({ "image": "cat", "password": "1234" });
    let failing = Execute::named("fail", &args).unwrap();
    let status = scheduler.execute_and_wait(failing).await.unwrap();
    (scheduler, status.id.get())
}

#[actix::test]
async fn args_are_for_full_access_alone_and_redacted() {
    let folder = tempfile::tempdir().unwrap();
    let (scheduler, id) = failed("dashboard-args", folder.path()).await;
    let board = dashboard::scope("/tasks")
        .scheduler(&scheduler)
        .access(level);
    let app = serve!(board.redact(|kind, value| {
        assert_eq!(*kind, *"fail");
        value["password"] = "(hidden)".into();
    }));
    let path = format!("/tasks/api/tasks/{id}");
    for level in ["read", "operate"] {
        let told = text(ask!(app, get(&path, level))).await;
        assert!(told.contains("no such image"), "{told}");
        assert!(!told.contains("cat"), "{told}");
    }
    let told = json(ask!(app, get(&path, "full"))).await;
    assert_eq!(told["args"]["image"], "cat");
    assert_eq!(told["args"]["password"], "(hidden)");
    let told = json(ask!(app, get("/tasks/api/failures", "full"))).await;
    assert_eq!(told["failures"][0]["failure"]["message"], "no such image");
    let again = post_json(
        "/tasks/api/actions/execute_again",
        "operate",
        &format!(r#"{{"id":{id}}}"#),
    );
    let told = json(ask!(app, again)).await;
    assert!(
        told["done"]
            .as_str()
            .unwrap()
            .contains(&format!("repeats the task t{id}"))
    );
    assert_eq!(Access::default(), Access::None);
    finish(scheduler).await;
}
