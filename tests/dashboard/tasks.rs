//! Looking for tasks, cancelling all that match, and what has failed.

use actix_web::http::StatusCode;
use callboard::search::FoundState;
use callboard::{Execute, Scheduler, TaskFilter};
use serde_json::Value;

use crate::api::failed;
use crate::{ask, board, finish, get, json, post_json, scheduler, serve, text};

/// Hands in so many tasks that wait, each with the number of its customer as args.
async fn hand_in(scheduler: &Scheduler, tasks: u64) {
    let task = |customer: u64| {
        let args = serde_json::json!({ "customer": customer, "note": "<b>" });
        let execute = Execute::named("later", &args).unwrap();
        execute
            .group(format!("customer-{customer}"))
            .key(format!("key {customer}"))
    };
    for answer in scheduler.execute_many((0..tasks).map(task).collect()).await {
        answer.unwrap();
    }
}

#[actix::test]
async fn a_search_goes_page_by_page_in_order_of_id_and_a_step_is_bounded() {
    let scheduler = scheduler("dashboard-search").await;
    hand_in(&scheduler, 10_000).await;
    let all = TaskFilter::default();
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = scheduler.find_tasks(&all, after, 3000).await.unwrap();
        found.extend(page.tasks.iter().map(|task| task.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 10_000);
    assert!(found.is_sorted());
    let one = "kind:later key:\"key 77\" group:customer-77 state:due args.customer:77";
    let page = scheduler
        .find_tasks(&one.parse().unwrap(), None, 10)
        .await
        .unwrap();
    assert_eq!((page.tasks.len(), page.looked), (1, 10_000));
    assert_eq!(page.tasks[0].state, FoundState::Due);
    assert_eq!(page.tasks[0].id, found[77]);
    for none in [
        "kind:double",
        "node:here",
        "attempts>0",
        "age>1h",
        "state:running",
    ] {
        let page = scheduler
            .find_tasks(&none.parse().unwrap(), None, 10)
            .await
            .unwrap();
        assert!(page.tasks.is_empty(), "{none}");
    }
    finish(scheduler).await;
}

#[actix::test]
async fn the_tasks_page_finds_and_leads_on() {
    let scheduler = scheduler("dashboard-tasks").await;
    let app = serve!(board(&scheduler));
    hand_in(&scheduler, 150).await;
    let page = text(ask!(app, get("/tasks/tasks?q=kind:later", "read"))).await;
    assert_eq!(page.matches("<tr data-task=").count(), 100);
    assert!(!page.contains("Cancel"), "{page}");
    let (_, next) = page.split_once(r#"rel="next" href=""#).unwrap();
    let next = next.split_once('"').unwrap().0.replace("&amp;", "&");
    let page = text(ask!(app, get(&format!("/tasks/{next}"), "operate"))).await;
    assert_eq!(page.matches("<tr data-task=").count(), 50);
    let told = json(ask!(
        app,
        get("/tasks/api/tasks?q=group:customer-3&limit=9", "read")
    ))
    .await;
    assert_eq!(told["tasks"][0]["key"], "key 3");
    assert_eq!(told["next"], Value::Null);
    let answer = ask!(app, get("/tasks/tasks?q=nonsense", "read"));
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(text(answer).await.contains("kind:nonsense"));
    // What stands in args is not found out by whoever may not see them.
    for (level, status) in [("operate", StatusCode::FORBIDDEN), ("full", StatusCode::OK)] {
        for path in ["tasks", "api/tasks"] {
            let answer = ask!(app, get(&format!("/tasks/{path}?q=args.customer:3"), level));
            assert_eq!(answer.status(), status, "{path} by {level}");
        }
    }
    finish(scheduler).await;
}

#[actix::test]
async fn a_task_is_explained_and_its_args_are_for_full_access() {
    let scheduler = scheduler("dashboard-task").await;
    let app = serve!(board(&scheduler));
    hand_in(&scheduler, 1).await;
    let task = &scheduler
        .find_tasks(&TaskFilter::default(), None, 1)
        .await
        .unwrap()
        .tasks[0];
    let path = format!("/tasks/task?id={}", task.id.get());
    let page = text(ask!(app, get(&path, "operate"))).await;
    assert!(page.contains("No node that is up may run it"), "{page}");
    assert!(!page.contains("customer\""), "{page}");
    let page = text(ask!(app, get(&path, "full"))).await;
    assert!(page.contains("&quot;customer&quot;: 0"), "{page}");
    assert!(
        page.contains("&lt;b&gt;") && !page.contains("<b>&quot;"),
        "{page}"
    );
    let path = format!("/tasks/api/tasks/{}", task.id.get());
    let told = json(ask!(app, get(&path, "full"))).await;
    assert_eq!(told["args"]["customer"], 0);
    assert_eq!(told["explanation"]["reason"], "NoSuchNode");
    let answer = ask!(app, get("/tasks/task?id=9", "read"));
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    finish(scheduler).await;
}

#[actix::test]
async fn all_that_match_are_counted_and_cancelled_in_the_background() {
    let scheduler = scheduler("dashboard-sweep").await;
    let app = serve!(board(&scheduler));
    hand_in(&scheduler, 1200).await;
    let other = Execute::named("other", &()).unwrap();
    scheduler.execute(other).await.unwrap();
    let path = "/tasks/confirm?action=cancel_all&q=kind:later";
    let page = text(ask!(app, get(path, "operate"))).await;
    assert!(page.contains("<b>1200</b> tasks of 1 kinds"), "{page}");
    let act = "/tasks/api/actions/cancel_all";
    for all in [r#"{}"#, r#"{"q":"  "}"#] {
        let answer = ask!(app, post_json(act, "full", all));
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
    let answer = ask!(app, get("/tasks/confirm?action=cancel_all&q=", "full"));
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let looks_into_args = r#"{"q":"args.customer:3"}"#;
    let answer = ask!(app, post_json(act, "operate", looks_into_args));
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let answer = ask!(app, post_json(act, "operate", r#"{"q":"kind:later"}"#));
    assert_eq!(answer.status(), StatusCode::OK);
    let mut progress = json(ask!(app, get("/tasks/api/sweeps", "read"))).await;
    while progress["sweeps"][0]["state"] == "running" {
        tokio::task::yield_now().await;
        progress = json(ask!(app, get("/tasks/api/sweeps", "read"))).await;
    }
    assert_eq!(progress["sweeps"][0]["state"], "done");
    assert_eq!(progress["sweeps"][0]["cancelled"], 1200);
    assert_eq!(progress["sweeps"][0]["user"], "nobody");
    let stats = scheduler.stats().await.unwrap();
    assert_eq!((stats.totals.cancelled, stats.pending), (1200, 1));
    let stop = r#"{"sweep":1}"#;
    let answer = ask!(
        app,
        post_json("/tasks/api/actions/stop_sweep", "operate", stop)
    );
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "it is over");
    finish(scheduler).await;
}

#[actix::test]
async fn a_cancel_of_all_that_match_is_stopped_midway() {
    const TASKS: u64 = 30_000;
    let scheduler = scheduler("dashboard-stop").await;
    let app = serve!(board(&scheduler));
    hand_in(&scheduler, TASKS).await;
    let act = |action: &str, body: &str| {
        let path = format!("/tasks/api/actions/{action}");
        post_json(&path, "operate", body)
    };
    let progress = async || {
        let told = json(ask!(app, get("/tasks/api/sweeps", "read"))).await;
        told["sweeps"][0].clone()
    };
    let answer = ask!(app, act("cancel_all", r#"{"q":"kind:later"}"#));
    assert_eq!(answer.status(), StatusCode::OK);
    // One goes on at a time.
    let second = ask!(app, act("cancel_all", r#"{"q":"kind:other"}"#));
    assert_eq!(second.status(), StatusCode::CONFLICT);
    while progress().await["cancelled"] == 0 {
        tokio::task::yield_now().await;
    }
    let page = text(ask!(app, get("/tasks/tasks", "operate"))).await;
    assert!(page.contains(r#"data-action="stop_sweep""#), "{page}");
    let stopped = ask!(app, act("stop_sweep", r#"{"sweep":1}"#));
    assert_eq!(stopped.status(), StatusCode::OK);
    while progress().await["state"] == "running" {
        tokio::task::yield_now().await;
    }
    let ended = progress().await;
    assert_eq!(ended["state"], "stopped");
    let cancelled = ended["cancelled"].as_u64().unwrap();
    assert!(cancelled > 0 && cancelled < TASKS, "{ended}");
    let stats = scheduler.stats().await.unwrap();
    assert_eq!(stats.totals.cancelled, cancelled);
    assert_eq!(
        stats.pending as u64,
        TASKS - cancelled,
        "the others go on waiting"
    );
    // The next one may begin.
    let answer = ask!(app, act("cancel_all", r#"{"q":"kind:other"}"#));
    assert_eq!(answer.status(), StatusCode::OK);
    finish(scheduler).await;
}

#[actix::test]
async fn failures_are_grouped_and_a_group_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let (scheduler, id) = failed("dashboard-failures", folder.path()).await;
    let again = Execute::named("fail", &serde_json::json!(null)).unwrap();
    let other = scheduler.execute_and_wait(again).await.unwrap().id.get();
    let app = serve!(board(&scheduler));
    let told = json(ask!(app, get("/tasks/api/failures", "read"))).await;
    assert_eq!(told["groups"][0]["count"], 2);
    let page = text(ask!(app, get("/tasks/failures", "operate"))).await;
    assert!(page.contains("Run all 2 again"), "{page}");
    assert!(page.contains(&format!(r#"value="{other},{id}""#)), "{page}");
    let body = format!(r#"{{"id":"{other},{id}"}}"#);
    let path = "/tasks/api/actions/execute_again";
    let told = json(ask!(app, post_json(path, "operate", &body))).await;
    assert_eq!(told["done"], "2 tasks were handed in again.");
    let page = text(ask!(app, get(&format!("/tasks/task?id={id}"), "read"))).await;
    assert!(page.contains("no such image"), "{page}");
    finish(scheduler).await;
}

#[actix::test]
async fn what_is_measured_is_served_and_stands_with_its_kind() {
    let scheduler = scheduler("dashboard-metrics").await;
    let app = serve!(board(&scheduler));
    let double = Execute::named("double", &2u64).unwrap();
    scheduler.execute_and_wait(double).await.unwrap();
    hand_in(&scheduler, 3).await;
    let told = text(ask!(app, get("/tasks/metrics", "read"))).await;
    assert!(told.contains("# TYPE callboard_tasks gauge"), "{told}");
    let told = json(ask!(app, get("/tasks/api/kinds", "read"))).await;
    let kinds = told["kinds"].as_array().unwrap();
    let later = kinds.iter().find(|kind| kind["kind"] == "later").unwrap();
    assert_eq!((&later["due"], &later["nodes"]), (&3.into(), &0.into()));
    let page = text(ask!(app, get("/tasks/kinds", "read"))).await;
    assert!(page.contains("p50 to "), "{page}");
    let page = text(ask!(app, get("/tasks", "read"))).await;
    let wrong = "Of the kind later 3 tasks are due, and no node that is up offers it.";
    assert!(page.contains(wrong), "{page}");
    finish(scheduler).await;
}

#[actix::test]
async fn marks_stand_in_the_plots() {
    let scheduler = scheduler("dashboard-marks").await;
    let app = serve!(board(&scheduler));
    scheduler.mark("v1.4.2 <b>");
    let mark = r#"{"text":"by hand"}"#;
    let answer = ask!(app, post_json("/tasks/api/actions/mark", "operate", mark));
    assert_eq!(answer.status(), StatusCode::OK);
    let page = text(ask!(app, get("/tasks", "read"))).await;
    assert!(page.contains("<title>v1.4.2 &lt;b&gt;</title>"), "{page}");
    assert!(page.contains("<title>by hand</title>"), "{page}");
    assert!(page.contains("Tasks a second, 7 days"), "{page}");
    finish(scheduler).await;
}
