//! What the pages show, to whom.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use callboard::dashboard::{self, Colour};

use crate::{HOSTILE, ask, board, finish, get, level, post_json, scheduler, serve, text};

#[actix::test]
async fn every_answer_says_what_a_browser_may_do_with_it() {
    let scheduler = scheduler("dashboard-headers").await;
    let app = serve!(board(&scheduler));
    let asked = [
        ("/tasks", "read"),
        ("/tasks", "none"),
        ("/tasks/style.css", "read"),
        ("/tasks/api/stats", "read"),
        ("/tasks/api/events", "read"),
    ];
    for (path, level) in asked {
        let answer = ask!(app, get(path, level));
        let header = |name| {
            let value = answer.headers().get(HeaderName::from_static(name));
            value.unwrap().to_str().unwrap()
        };
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert!(header("cache-control").len() > 3, "{path}");
    }
    finish(scheduler).await;
}

#[actix::test]
async fn nothing_is_inline_and_every_address_is_relative() {
    let scheduler = scheduler("dashboard-relative").await;
    let app = serve!(board(&scheduler));
    for path in [
        "/tasks",
        "/tasks/",
        "/tasks/kinds",
        "/tasks/nodes",
        "/tasks/nodes/",
        "/tasks/tasks",
        "/tasks/failures",
    ] {
        let page = text(ask!(app, get(path, "full"))).await;
        assert!(!page.contains(" style="), "{path}");
        assert!(!page.contains(" onclick="), "{path}");
        assert!(!page.contains("<style"), "{path}");
        assert!(page.contains("<script defer src="), "{path}");
        for attribute in ["href=\"", "src=\"", "action=\"", "data-live=\"/"] {
            for (at, _) in page.match_indices(attribute) {
                let address = &page[at + attribute.len()..];
                let address = address.split_once('"').unwrap().0;
                assert!(!address.starts_with('/'), "{path}: {address}");
                assert!(!address.contains("://"), "{path}: {address}");
            }
        }
    }
    // Without the final slash a browser takes addresses from the part before.
    let page = text(ask!(app, get("/tasks", "read"))).await;
    assert!(page.contains(r#"href="./tasks/kinds""#), "{page}");
    let page = text(ask!(app, get("/tasks/nodes/", "read"))).await;
    assert!(page.contains(r#"href="../kinds""#), "{page}");
    finish(scheduler).await;
}

#[actix::test]
async fn a_hostile_name_is_shown_as_text() {
    let scheduler = scheduler("dashboard-hostile").await;
    let app = serve!(board(&scheduler));
    // Long, and right to left.
    let long = "\u{5d0}".repeat(100);
    scheduler.pause(&long).await.unwrap();
    for path in ["/tasks/kinds", "/tasks/nodes"] {
        let page = text(ask!(app, get(path, "full"))).await;
        assert!(!page.contains("<script>"), "{path}");
        assert!(page.contains("&lt;script&gt;alert('x')"), "{path}");
        assert!(!page.contains(HOSTILE), "{path}");
    }
    // What goes by itself is the same page.
    let page = text(ask!(app, get("/tasks/kinds", "read"))).await;
    assert!(page.contains(&format!("<bdi>{long}</bdi>")), "{page}");
    finish(scheduler).await;
}

#[actix::test]
async fn whoever_may_only_read_sees_no_button() {
    let scheduler = scheduler("dashboard-buttons").await;
    let app = serve!(board(&scheduler));
    for path in ["/tasks", "/tasks/kinds", "/tasks/nodes"] {
        let page = text(ask!(app, get(path, "read"))).await;
        assert!(!page.contains("<form"), "{path}");
        assert!(!page.contains("confirm?"), "{path}");
        let page = text(ask!(app, get(path, "operate"))).await;
        assert!(page.contains("<form"), "{path}");
        assert!(!page.contains("confirm?"), "{path}");
    }
    let page = text(ask!(app, get("/tasks/nodes", "full"))).await;
    assert!(
        page.contains("confirm?action=remove&amp;node=here"),
        "{page}"
    );
    finish(scheduler).await;
}

#[actix::test]
async fn what_is_hard_to_take_back_is_asked_twice() {
    let scheduler = scheduler("dashboard-twice").await;
    let app = serve!(board(&scheduler));
    let request = get("/tasks/confirm?action=declare_dead&node=here", "full");
    let page = text(ask!(app, request)).await;
    assert!(page.contains("It frees 0 workers"), "{page}");
    assert!(page.contains(r#"action="act/declare_dead""#), "{page}");
    let answer = ask!(app, get("/tasks/confirm?action=remove&node=x", "full"));
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    finish(scheduler).await;
}

#[actix::test]
async fn a_page_says_what_is_wrong_first_and_in_its_title() {
    let scheduler = scheduler("dashboard-wrong").await;
    let app = serve!(board(&scheduler).title("production", Colour::Red));
    let page = text(ask!(app, get("/tasks/", "read"))).await;
    let title = "all well \u{2013} dashboard-wrong \u{2013} production</title>";
    assert!(page.contains(title), "{page}");
    assert!(page.contains(r#"<header class="red">"#), "{page}");
    let path = "/tasks/api/actions/pause_all";
    ask!(app, post_json(path, "operate", "{}"));
    // What an action has changed is seen at once.
    let page = text(ask!(app, get("/tasks/", "read"))).await;
    assert!(page.contains("<title>1 problem"), "{page}");
    let wrong = page.find("All kinds are paused").unwrap();
    assert!(wrong < page.find("<h2>").unwrap(), "{page}");
    finish(scheduler).await;
}

#[actix::test]
async fn several_schedulers_are_one_mount_with_a_switch() {
    let one = scheduler("dashboard-one").await;
    let two = scheduler("dashboard-two").await;
    let board = dashboard::scope("").access(level);
    let app = serve!(board.scheduler(&one).scheduler(&two).scheduler(&two));
    let page = text(ask!(app, get("/", "read"))).await;
    assert!(page.contains("dashboard-one</title>"), "{page}");
    assert!(
        page.contains(r#"href="./?scheduler=dashboard-two""#),
        "{page}"
    );
    let page = text(ask!(app, get("/kinds?scheduler=dashboard-two", "read"))).await;
    assert!(page.contains("dashboard-two</title>"), "{page}");
    assert!(
        page.contains(r#"href="nodes?scheduler=dashboard-two""#),
        "{page}"
    );
    let answer = ask!(app, get("/kinds?scheduler=x", "read"));
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    finish(one).await;
    finish(two).await;
}

#[actix::test]
async fn a_page_that_does_not_move_says_so() {
    let scheduler = scheduler("dashboard-still").await;
    let app = serve!(board(&scheduler));
    let waiting = callboard::Execute::named("wait", &()).unwrap();
    let id = scheduler.execute(waiting).await.unwrap().get();
    let says = "not live: reload to see what is new";
    for path in ["tasks", "failures"] {
        let page = text(ask!(app, get(&format!("/tasks/{path}"), "read"))).await;
        assert!(
            page.contains(says) && !page.contains("<body data-live"),
            "{path}"
        );
    }
    for path in ["", "kinds", "nodes", &format!("task?id={id}")] {
        let page = text(ask!(app, get(&format!("/tasks/{path}"), "read"))).await;
        assert!(
            !page.contains(says) && page.contains("<body data-live"),
            "{path}"
        );
    }
    finish(scheduler).await;
}
