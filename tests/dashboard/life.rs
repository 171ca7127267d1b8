//! The page of one task: what happened to it, and what happens.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use callboard::dashboard::Access;
use callboard::{Execute, Handlers, Node, RetryPolicy, Scheduler, Store, TaskContext, TaskError};
use serde_json::Value;
use tokio::sync::Notify;

use crate::{ask, board, finish, get, json, next_event, scheduler, serve, text};

#[actix::test]
async fn the_life_of_a_task_has_its_attempts_its_notes_and_how_far_it_is() {
    let flaky = async |_: Value, cx: TaskContext| {
        cx.note("opened <i>flour</i>");
        Err::<(), _>(TaskError::retry("no <b>bread</b>"))
    };
    let handlers = Handlers::new().on("flaky", flaky);
    let node = Node::local("oven <1>", handlers);
    let folder = tempfile::tempdir().unwrap();
    let minute = Duration::from_secs(60);
    let scheduler = Scheduler::builder("dashboard-life")
        .node(node)
        .store(Store::file(folder.path().join("store")))
        .retry(RetryPolicy::fixed(minute).max_attempts(3))
        .no_client();
    let scheduler = scheduler.start().await.unwrap();
    let app = serve!(board(&scheduler));
    let flaky = Execute::named("flaky", &serde_json::json!(null)).unwrap();
    let id = scheduler.execute(flaky).await.unwrap();
    let path = format!("/tasks/api/tasks/{}", id.get());
    let trail = loop {
        let told = json(ask!(app, get(&path, "read"))).await["trail"].clone();
        if told["attempts"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
        {
            break told;
        }
    };
    assert_eq!(trail["attempts"][0]["node"], "oven <1>");
    assert_eq!(trail["attempts"][0]["message"], "no <b>bread</b>");
    assert_eq!(trail["notes"][0]["text"], "opened <i>flour</i>");
    assert_eq!(trail["progress"], Value::Null);
    let page = format!("/tasks/task?id={}", id.get());
    let life = async || text(ask!(app, get(&page, "read"))).await;
    let told = life().await;
    let (_, attempt) = told.split_once(r#"<li class="attempt">"#).unwrap();
    let attempt = attempt.split_once("</li>").unwrap().0;
    for words in [
        "on <bdi>oven &lt;1&gt;</bdi>",
        "no &lt;b&gt;bread",
        ", after a wait of ",
        ", and ended after ",
    ] {
        assert!(attempt.contains(words), "{words}: {attempt}");
    }
    assert!(told.contains("opened &lt;i&gt;flour&lt;/i&gt;"), "{told}");
    // What it noted is worth most when it is over.
    scheduler.cancel(id).await.unwrap();
    assert_eq!(scheduler.trail(id).await.unwrap().notes.len(), 1);
    finish(scheduler).await;
}

#[actix::test]
async fn the_page_of_a_task_follows_it_until_nothing_is_known_of_it() {
    let (told, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (Arc::clone(&told), Arc::clone(&release));
    let steps = async move |_: Value, cx: TaskContext| {
        waits.notified().await;
        cx.note("half of it");
        tells.notify_one();
        waits.notified().await;
        Ok(())
    };
    let handlers = Handlers::new().on("steps", steps);
    let scheduler = Scheduler::builder("dashboard-follow")
        .node(Node::local("here", handlers))
        .no_client();
    let scheduler = scheduler.start().await.unwrap();
    let app = serve!(board(&scheduler));
    let steps = Execute::named("steps", &Value::Null).unwrap();
    let id = scheduler.execute(steps).await.unwrap();
    let page = format!("/tasks/task?id={}", id.get());
    let page = text(ask!(app, get(&page, "read"))).await;
    let live = page.split_once("data-live=\"").unwrap().1;
    let live = live.split_once('"').unwrap().0.replace("&amp;", "&");
    let path = format!("/tasks/{live}");
    let one = ask!(app, get(&path, "read")).into_body();
    let two = ask!(app, get(&path, "read")).into_body();
    let (mut one, mut two) = (std::pin::pin!(one), std::pin::pin!(two));
    let full = ask!(app, get(&path, "full")).into_body();
    let full = next_event(&mut std::pin::pin!(full)).await;
    assert!(
        full["html"].as_str().unwrap().contains("<h2>Args"),
        "{full}"
    );
    let first = next_event(&mut one).await;
    let html = first["html"].as_str().unwrap();
    assert!(
        !html.contains("half of it") && !html.contains("<h2>Args"),
        "{html}"
    );
    release.notify_one();
    told.notified().await;
    let mut now = next_event(&mut one).await;
    while !now["html"].as_str().unwrap().contains("half of it") {
        now = next_event(&mut one).await;
    }
    assert!(now["title"].as_str().unwrap().contains("running"), "{now}");
    release.notify_one();
    // No store keeps how it ended.
    while !now["html"]
        .as_str()
        .unwrap()
        .contains("can no longer be shown")
    {
        now = next_event(&mut one).await;
    }
    // Who sees the same sees it too, and who asks for no task is told so.
    while !next_event(&mut two).await["html"]
        .as_str()
        .unwrap()
        .contains("no longer")
    {}
    for wrong in ["task", "task&id=x", "tasks", "other"] {
        let answer = ask!(app, get(&format!("/tasks/live?page={wrong}"), "read"));
        assert!(
            answer.status().is_client_error(),
            "{wrong}: {}",
            answer.status()
        );
    }
    finish(scheduler).await;
}

#[actix::test]
async fn a_board_redacts_what_another_board_shows_of_the_same_task() {
    let scheduler = scheduler("dashboard-two-boards").await;
    let open = serve!(board(&scheduler));
    let closed = serve!(board(&scheduler).redact(|_, value| *value = "(hidden)".into()));
    let waits = Execute::named("later", &"the secret").unwrap();
    let id = scheduler.execute(waits).await.unwrap().get();
    let path = format!("/tasks/live?page=task&id={id}");
    let one = ask!(open, get(&path, "full")).into_body();
    let two = ask!(closed, get(&path, "full")).into_body();
    let (mut one, mut two) = (std::pin::pin!(one), std::pin::pin!(two));
    for _ in 0..3 {
        let shown = next_event(&mut one).await;
        assert!(shown["html"].as_str().unwrap().contains("the secret"));
        let hidden = next_event(&mut two).await;
        let hidden = hidden["html"].as_str().unwrap();
        assert!(
            hidden.contains("(hidden)") && !hidden.contains("the secret"),
            "{hidden}"
        );
    }
    finish(scheduler).await;
}

#[actix::test]
async fn who_loses_access_is_sent_no_more() {
    let scheduler = scheduler("dashboard-revoked").await;
    let level = Arc::new(std::sync::Mutex::new(Access::Full));
    let judge = Arc::clone(&level);
    let board = callboard::dashboard::scope("/tasks")
        .scheduler(&scheduler)
        .access(move |_| *judge.lock().unwrap());
    let app = serve!(board);
    let waits = Execute::named("later", &"the secret").unwrap();
    let id = scheduler.execute(waits).await.unwrap().get();
    let task = format!("/tasks/live?page=task&id={id}");
    for path in [&task, "/tasks/live?page=nodes", "/tasks/api/events"] {
        *level.lock().unwrap() = Access::Full;
        let stream = ask!(app, get(path, "full")).into_body();
        let mut stream = std::pin::pin!(stream);
        next_event(&mut stream).await;
        *level.lock().unwrap() = Access::Read;
        let next = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await;
        assert!(next.is_none(), "{path} goes on");
    }
    finish(scheduler).await;
}
