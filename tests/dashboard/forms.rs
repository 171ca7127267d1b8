//! What a form needs to change something, and where it leads.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::test::TestRequest;
use callboard::Scheduler;

use crate::{
    HOST, ORIGIN, ask, board, finish, get, location, post_form, post_json, scheduler, serve, text,
    token,
};

async fn is_paused(scheduler: &Scheduler) -> bool {
    scheduler.stats().await.unwrap().pauses.all
}

#[actix::test]
async fn a_form_needs_the_token_of_this_person_and_the_same_origin() {
    let scheduler = scheduler("dashboard-forms").await;
    let app = serve!(board(&scheduler));
    let request = get("/tasks/", "operate").insert_header(("user", "ada"));
    let page = text(ask!(app, request)).await;
    let token = token(&page);
    let body = format!("token={token}");
    let bare = |body: &str, user: &'static str| {
        TestRequest::post()
            .uri("/tasks/act/pause_all")
            .insert_header(("host", HOST))
            .insert_header(("level", "operate"))
            .insert_header(("user", user))
            .insert_header(("cookie", "session=1"))
            .insert_header((CONTENT_TYPE, "application/x-www-form-urlencoded"))
            .set_payload(body.to_owned())
    };
    let refused = [
        (
            "no token",
            bare("", "ada").insert_header(("origin", ORIGIN)),
        ),
        (
            "the token of another",
            bare(&body, "bob").insert_header(("origin", ORIGIN)),
        ),
        ("no origin", bare(&body, "ada")),
        (
            "another origin",
            bare(&body, "ada").insert_header(("origin", "http://evil.example")),
        ),
        (
            "another site",
            bare(&body, "ada")
                .insert_header(("origin", ORIGIN))
                .insert_header(("sec-fetch-site", "cross-site")),
        ),
        // A browser sends a password of HTTP Basic by itself.
        (
            "no token, with Basic",
            bare("", "ada")
                .insert_header(("origin", ORIGIN))
                .insert_header(("authorization", "Basic YTpi")),
        ),
    ];
    for (what, request) in refused {
        assert_eq!(ask!(app, request).status(), StatusCode::FORBIDDEN, "{what}");
        assert!(!is_paused(&scheduler).await, "{what}");
    }
    let request = bare(&body, "ada").insert_header(("origin", ORIGIN));
    let answer = ask!(app, request);
    assert!(location(&answer).starts_with("../?note="));
    assert!(is_paused(&scheduler).await);
    finish(scheduler).await;
}

#[actix::test]
async fn json_needs_no_token_with_an_authorization_of_its_own() {
    let scheduler = scheduler("dashboard-json").await;
    let app = serve!(board(&scheduler));
    let path = "/tasks/api/actions/pause_all";
    let with_cookie = TestRequest::post()
        .uri(path)
        .insert_header(("host", HOST))
        .insert_header(("level", "full"))
        .insert_header(("cookie", "session=1"))
        .insert_header(("origin", ORIGIN))
        .insert_header((CONTENT_TYPE, "application/json"))
        .set_payload("{}");
    assert_eq!(ask!(app, with_cookie).status(), StatusCode::FORBIDDEN);
    let elsewhere = post_json(path, "full", "{}").insert_header(("origin", "http://evil.example"));
    assert_eq!(ask!(app, elsewhere).status(), StatusCode::FORBIDDEN);
    let as_text = post_json(path, "full", "{}").insert_header((CONTENT_TYPE, "text/plain"));
    let answer = ask!(app, as_text);
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(!is_paused(&scheduler).await);

    let answer = ask!(app, post_json(path, "operate", "{}"));
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(is_paused(&scheduler).await);

    let long = format!(r#"{{"kind":"{}"}}"#, "x".repeat(20_000));
    let answer = ask!(app, post_json("/tasks/api/actions/pause", "full", &long));
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    finish(scheduler).await;
}

#[actix::test]
async fn a_form_leads_back_to_its_page_which_says_what_was_done() {
    let scheduler = scheduler("dashboard-back").await;
    let app = serve!(board(&scheduler));
    let page = text(ask!(app, get("/tasks/kinds", "operate"))).await;
    let body = format!("token={}&kind=double&back=kinds", token(&page));
    let answer = ask!(app, post_form("/tasks/act/pause", "operate", &body));
    let to = location(&answer).strip_prefix("../").unwrap();
    let page = text(ask!(app, get(&format!("/tasks/{to}"), "operate"))).await;
    assert!(page.contains("The kind double is paused"), "{page}");
    // A place elsewhere is no page.
    let body = format!("token={}&kind=double&back=//evil.example", token(&page));
    let answer = ask!(app, post_form("/tasks/act/resume", "operate", &body));
    assert!(location(&answer).starts_with("../?note="));
    // What cannot be done is told on a page, too.
    let body = format!("token={}&node=nobody&workers=2", token(&page));
    let answer = ask!(app, post_form("/tasks/act/workers", "operate", &body));
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(text(answer).await.contains("no node is named"));
    finish(scheduler).await;
}
