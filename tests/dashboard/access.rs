//! Who may do what, asked of the server, address by address.

use actix_web::http::{Method, StatusCode};
use actix_web::test::TestRequest;
use callboard::dashboard::{self, Access};

use crate::{
    HOST, LEVELS, ask, board, finish, get, post_form, post_json, scheduler, serve, text, token,
};

/// Every address that is asked by GET, with the least access.
const READS: [(&str, Access); 30] = [
    ("", Access::Read),
    ("/", Access::Read),
    ("/kinds", Access::Read),
    ("/nodes", Access::Read),
    ("/nodes/", Access::Read),
    ("/tasks", Access::Read),
    ("/tasks?q=kind:double", Access::Read),
    ("/tasks?q=args.a:1", Access::Full),
    ("/failures", Access::Read),
    ("/task?id=1", Access::Read),
    ("/confirm?action=remove&node=here", Access::Full),
    ("/confirm?action=forget&id=1", Access::Operate),
    ("/confirm?action=forget_all&kind=a", Access::Operate),
    ("/confirm?action=execute_again_all&kind=a", Access::Operate),
    ("/style.css", Access::Read),
    ("/live.js", Access::Read),
    ("/live?page=nodes", Access::Read),
    ("/report", Access::Read),
    ("/health", Access::None),
    ("/metrics", Access::Read),
    ("/api", Access::Read),
    ("/api/stats", Access::Read),
    ("/api/nodes", Access::Read),
    ("/api/kinds", Access::Read),
    ("/api/tasks", Access::Read),
    ("/api/sweeps", Access::Read),
    ("/api/events", Access::Read),
    ("/api/tasks/1", Access::Read),
    ("/api/failures", Access::Read),
    ("/no/such/page", Access::Read),
];

/// Every action, with the least access.
const ACTIONS: [(&str, Access); 19] = [
    ("pause_all", Access::Operate),
    ("resume_all", Access::Operate),
    ("pause", Access::Operate),
    ("resume", Access::Operate),
    ("close_intake", Access::Operate),
    ("open_intake", Access::Operate),
    ("limit", Access::Operate),
    ("cancel", Access::Operate),
    ("cancel_all", Access::Operate),
    ("stop_sweep", Access::Operate),
    ("mark", Access::Operate),
    ("execute_again", Access::Operate),
    ("execute_again_all", Access::Operate),
    ("forget", Access::Operate),
    ("forget_all", Access::Operate),
    ("workers", Access::Operate),
    ("drain", Access::Operate),
    ("remove", Access::Full),
    ("declare_dead", Access::Full),
];

#[actix::test]
async fn every_address_asks_for_the_least_access_that_it_needs() {
    let scheduler = scheduler("dashboard-table").await;
    let app = serve!(board(&scheduler));
    let page = text(ask!(app, get("/tasks/", "read"))).await;
    let token = token(&page);
    for (name, level) in LEVELS {
        let mut table = Vec::new();
        for (path, least) in READS {
            let answer = ask!(app, get(&format!("/tasks{path}"), name));
            table.push((format!("GET {path}"), least, answer.status()));
        }
        for (action, least) in ACTIONS {
            // Without its fields nothing is done, but it is asked who may.
            let fields = r#"{"kind":"","node":"","id":""}"#;
            let path = format!("/tasks/api/actions/{action}");
            let answer = ask!(app, post_json(&path, name, fields));
            table.push((format!("POST {path}"), least, answer.status()));
            let path = format!("/tasks/act/{action}");
            let answer = ask!(app, post_form(&path, name, &format!("token={token}")));
            table.push((format!("POST {path}"), least, answer.status()));
        }
        for (what, least, status) in table {
            let forbidden = status == StatusCode::FORBIDDEN;
            assert_eq!(forbidden, level < least, "{what} by {name}: {status}");
            assert!(!status.is_server_error(), "{what} by {name}: {status}");
        }
    }
    finish(scheduler).await;
}

#[actix::test]
async fn whoever_is_given_no_access_has_none() {
    let scheduler = scheduler("dashboard-none").await;
    let app = serve!(dashboard::scope("/tasks").scheduler(&scheduler));
    for path in ["/tasks", "/tasks/api/stats", "/tasks/no/such/page"] {
        let answer = ask!(app, get(path, "full"));
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let answer = ask!(app, get("/tasks/health", "full"));
    assert_eq!(text(answer).await, r#"{"status":"ok"}"#);
    finish(scheduler).await;
}

#[actix::test]
async fn changes_are_made_by_post_alone() {
    let scheduler = scheduler("dashboard-post").await;
    let app = serve!(board(&scheduler));
    for path in ["/tasks/act/pause_all", "/tasks/api/actions/pause_all"] {
        let answer = ask!(app, get(path, "full"));
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = ask!(app, get("/tasks/api/stats", "full").method(method.clone()));
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    assert!(!scheduler.stats().await.unwrap().pauses.all);
    finish(scheduler).await;
}

/// A request to a dashboard that is open to this machine.
fn from(peer: &str, host: &'static str) -> TestRequest {
    TestRequest::get()
        .uri("/tasks/api/stats")
        .peer_addr(peer.parse().unwrap())
        .insert_header(("host", host))
}

#[actix::test]
async fn loopback_is_this_machine_without_a_proxy() {
    let scheduler = scheduler("dashboard-loopback").await;
    let board = dashboard::scope("/tasks").scheduler(&scheduler);
    let app = serve!(board.access(Access::loopback));
    let here = [
        ("127.0.0.1:9", "localhost:8080"),
        ("[::1]:9", "[::1]"),
        ("[::ffff:127.0.0.1]:9", "127.0.0.1"),
    ];
    for (peer, host) in here {
        let answer = ask!(app, from(peer, host));
        assert_eq!(answer.status(), StatusCode::OK, "{peer} {host}");
    }
    let elsewhere = [("10.0.0.7:9", "localhost"), ("127.0.0.1:9", HOST)];
    for (peer, host) in elsewhere {
        let answer = ask!(app, from(peer, host));
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{peer} {host}");
    }
    for proxied in ["forwarded", "x-forwarded-for", "x-forwarded-whatever"] {
        let request = from("127.0.0.1:9", "localhost").insert_header((proxied, "x"));
        let answer = ask!(app, request);
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{proxied}");
    }
    let two_hosts = from("127.0.0.1:9", "localhost").append_header(("host", HOST));
    assert_eq!(ask!(app, two_hosts).status(), StatusCode::FORBIDDEN);
    finish(scheduler).await;
}
