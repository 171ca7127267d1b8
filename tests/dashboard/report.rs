//! The moment as one file.

use actix_web::http::header::CONTENT_DISPOSITION;
use callboard::dashboard::Colour;
use callboard::{Execute, Limit};

use crate::api::failed;
use crate::{HOSTILE, ask, board, finish, get, scheduler, serve, text};

#[actix::test]
async fn the_report_is_one_file_that_loads_nothing_and_has_no_button() {
    let folder = tempfile::tempdir().unwrap();
    let (scheduler, _) = failed("dashboard report", folder.path()).await;
    let app = serve!(board(&scheduler).title("production <1>", Colour::Red));
    scheduler.mark("v1.4.2 <b>");
    scheduler.pause(HOSTILE).await.unwrap();
    scheduler
        .set_limit("fail", Limit::concurrency(7))
        .await
        .unwrap();
    scheduler
        .execute(Execute::named("fail", &1u8).unwrap())
        .await
        .unwrap();
    let page = text(ask!(app, get("/tasks", "read"))).await;
    assert!(page.contains(r#"href="./tasks/report" download"#), "{page}");
    let answer = ask!(app, get("/tasks/report", "full"));
    let named = answer.headers().get(CONTENT_DISPOSITION).unwrap();
    let named = named.to_str().unwrap();
    assert!(
        named.starts_with("attachment; filename=\"dashboard-report-"),
        "{named}"
    );
    let report = text(answer).await;
    for part in [
        "production &lt;1&gt;",
        "1 kind is paused",
        "Tasks a second, 7 days",
        "Run time, 24 hours",
        "of 7 go on",
        "<bdi>here</bdi>",
        "no such image",
        "% of records needed",
        "<bdi>v1.4.2 &lt;b&gt;</bdi>",
        "&lt;script&gt;",
        " UTC</title>",
        "color-scheme: light dark",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    for absent in [
        "<script", "<form", "<a ", "<link", "src=", "href=", "<button", "password", "url(",
    ] {
        assert!(!report.contains(absent), "{absent}: {report}");
    }
    finish(scheduler).await;
}

#[actix::test]
async fn without_a_store_the_report_says_so() {
    let scheduler = scheduler("dashboard-report-bare").await;
    let app = serve!(board(&scheduler));
    let report = text(ask!(app, get("/tasks/report", "read"))).await;
    assert!(report.contains("There is no store"), "{report}");
    assert!(report.contains("Nothing: every node"), "{report}");
    finish(scheduler).await;
}
