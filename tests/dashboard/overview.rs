//! What stands in the plots and tables of the overview, and what has failed of late.

use actix_web::body::MessageBody;
use actix_web::http::StatusCode;
use callboard::{Execute, Handlers, Node, Priority, Scheduler};

use crate::{ask, board, finish, get, json, next_event, scheduler, serve, text};

/// How many events, of which one comes each second, may pass until something is seen.
const EVENTS: usize = 30;

/// Reads a page that moves until this stands in it.
async fn until<B: MessageBody>(live: &mut std::pin::Pin<&mut B>, seen: &str) {
    for _ in 0..EVENTS {
        let event = next_event(live).await;
        if event["html"].as_str().unwrap().contains(seen) {
            return;
        }
    }
    panic!("{seen} is not there after {EVENTS} events");
}

#[actix::test]
async fn the_overview_has_times_and_starts_over_three_reaches() {
    let scheduler = scheduler("dashboard-plots").await;
    let app = serve!(board(&scheduler));
    let page = text(ask!(app, get("/tasks", "read"))).await;
    for span in ["15 minutes", "24 hours", "7 days"] {
        for title in ["Tasks a second", "Tasks", "Wait for a worker", "Run time"] {
            assert!(page.contains(&format!("<b>{title}, {span}</b>")), "{title}");
        }
    }
    for class in [
        "one\">accepted",
        "four\">started",
        "one\">p50",
        "three\">p99",
    ] {
        assert!(page.contains(&format!("class=\"key {class}")), "{class}");
    }
    // A page that is open gets the plots that move each second, and the others now and then.
    let live = ask!(app, get("/tasks/live?page=", "read")).into_body();
    let mut live = std::pin::pin!(live);
    let (mut short, mut long) = (0, 0);
    while long == 0 && short < EVENTS {
        let html = next_event(&mut live).await["html"].to_string();
        short += usize::from(html.contains("plots-Minutes"));
        long += usize::from(html.contains("plots-Day") && html.contains("plots-Week"));
    }
    assert!(short >= long && short <= 11, "{short} and {long}");
    finish(scheduler).await;
}

#[actix::test]
async fn due_tasks_are_told_by_kind_and_priority() {
    let scheduler = scheduler("dashboard-due").await;
    let app = serve!(board(&scheduler));
    scheduler.pause("double").await.unwrap();
    let task = |kind: &str, priority| {
        let execute = Execute::named(kind, &1u64).unwrap();
        execute.priority(Priority(priority))
    };
    let mut tasks = vec![task("<b>", 0)];
    tasks.extend((0..3).map(|_| task("double", 10)));
    tasks.extend((0..2).map(|_| task("double", -5)));
    for answer in scheduler.execute_many(tasks).await {
        answer.unwrap();
    }
    let page = text(ask!(app, get("/tasks", "read"))).await;
    let (_, due) = page.split_once("<div class=\"wide\" id=\"due\"").unwrap();
    let due = due.split_once("</table>").unwrap().0;
    let headers = ["priority 10", "priority 0", "priority -5"];
    let at = headers.map(|header| due.find(header).unwrap());
    assert!(at.is_sorted(), "{due}");
    let row = |kind: &str, counts: &str| {
        let (_, row) = due.split_once(kind).unwrap();
        let row = row.split_once("</tr>").unwrap().0;
        let cells = row
            .replace("</td>", " ")
            .replace("<td class=\"number\">", "");
        assert!(cells.ends_with(counts), "{cells}");
    };
    row("double", "5 3 0 2 ");
    row("&lt;b&gt;", "1 0 1 0 ");
    let kinds = json(ask!(app, get("/tasks/api/kinds", "read"))).await;
    let kinds = kinds["kinds"].as_array().unwrap();
    let double = kinds.iter().find(|kind| kind["kind"] == "double").unwrap();
    assert_eq!(
        double["due_by_priority"],
        serde_json::json!({ "10": 3, "-5": 2 })
    );
    finish(scheduler).await;
}

#[actix::test]
async fn nodes_that_come_and_go_are_named_in_the_plots() {
    let scheduler = scheduler("dashboard-came").await;
    let app = serve!(board(&scheduler));
    let live = ask!(app, get("/tasks/live?page=", "read")).into_body();
    let mut live = std::pin::pin!(live);
    // Once something is in the plots, it was looked who is there.
    until(&mut live, "polyline").await;
    let node = Node::local("second <1>", Handlers::new().on("x", async |(): ()| Ok(())));
    scheduler.add_node(node).await.unwrap();
    until(&mut live, "<title>up: second &lt;1&gt;</title>").await;
    scheduler.remove_node("second <1>").await.unwrap();
    until(
        &mut live,
        "<title>not up any more: second &lt;1&gt;</title>",
    )
    .await;
    finish(scheduler).await;
}

#[actix::test]
async fn a_scheduler_that_is_started_again_under_its_name_is_shown() {
    let first = scheduler("dashboard-again").await;
    let app = serve!(board(&first));
    let asked = || get("/tasks/api/stats", "read");
    assert_eq!(ask!(app, asked()).status(), StatusCode::OK);
    finish(first).await;
    let answer = ask!(app, asked());
    // What was seen within the last second may be shown once more, but nothing is made up.
    assert!(matches!(
        answer.status(),
        StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE
    ));
    let again: Scheduler = scheduler("dashboard-again").await;
    let double = Execute::named("double", &2u64).unwrap();
    again.execute_and_wait(double).await.unwrap();
    let pause = crate::post_json("/tasks/api/actions/pause_all", "operate", "{}");
    assert_eq!(ask!(app, pause).status(), StatusCode::OK);
    assert!(again.stats().await.unwrap().pauses.all);
    let told = json(ask!(app, asked())).await;
    assert_eq!(told["stats"]["totals"]["completed"], 1);
    // A further part of the server that shows it looks at the same.
    let other = serve!(board(&again));
    let told = json(ask!(other, asked())).await;
    assert_eq!(told["actions"]["pause_all"]["done"], 1);
    finish(again).await;
}

#[actix::test]
async fn what_failed_lately_is_told_with_its_span() {
    let scheduler = scheduler("dashboard-lately").await;
    let fail = async || {
        let failing = Execute::named("fail", &"no").unwrap();
        scheduler.execute_and_wait(failing).await.unwrap();
    };
    fail().await;
    let app = serve!(board(&scheduler));
    let failed = async || {
        let told = json(ask!(app, get("/tasks/api/kinds", "read"))).await;
        let span = told["failed_lately_seconds"].as_u64().unwrap();
        assert!(span <= 915, "{span}");
        let kinds = told["kinds"].as_array().unwrap().clone();
        let kind = kinds.iter().find(|kind| kind["kind"] == "fail").unwrap();
        (kind["failed"].clone(), kind["failed_lately"].clone())
    };
    // Until it has looked once, all that it knows of is of late.
    while failed().await != (1.into(), 0.into()) {
        tokio::task::yield_now().await;
    }
    fail().await;
    fail().await;
    while failed().await != (3.into(), 2.into()) {
        tokio::task::yield_now().await;
    }
    let page = text(ask!(app, get("/tasks/kinds", "read"))).await;
    assert!(page.contains(">failed lately</th>"), "{page}");
    assert!(page.contains("3 in all"), "{page}");
    finish(scheduler).await;
}

#[actix::test]
async fn a_hundred_open_pages_share_one_look_a_second() {
    const PAGES: usize = 100;
    const ROUNDS: u64 = 4;
    let scheduler = scheduler("dashboard-hundred").await;
    let app = serve!(board(&scheduler));
    let mut pages = Vec::new();
    for page in ["", "kinds", "nodes", "kinds"].iter().cycle().take(PAGES) {
        let path = format!("/tasks/live?page={page}");
        pages.push(Box::pin(ask!(app, get(&path, "read")).into_body()));
    }
    let looks = ask!(app, get("/tasks/api/events", "read")).into_body();
    let mut looks = std::pin::pin!(looks);
    let mut counted = Vec::new();
    for _ in 0..ROUNDS {
        for page in &mut pages {
            let event = next_event(&mut page.as_mut()).await;
            assert!(event["html"].is_string(), "{event}");
        }
        counted.push(next_event(&mut looks).await["looks"].as_u64().unwrap());
    }
    let taken = counted[counted.len() - 1] - counted[0];
    assert!(taken <= ROUNDS + 1, "{counted:?}: each page has its own");
    drop(pages);
    finish(scheduler).await;
}
