//! What has failed: found, forgotten, and run again, one, a group, or all that match.

use actix_web::http::StatusCode;
use callboard::{Execute, Handlers, Node, Scheduler, Store, TaskError};
use serde_json::Value;

use crate::{ask, board, finish, get, json, location, post_form, post_json, serve, text, token};

/// Starts a scheduler with a store, on which these tasks have failed, each with its kind and
/// message; returns their ids, too.
async fn failing(
    name: &str,
    folder: &std::path::Path,
    tasks: &[(&'static str, &str)],
) -> (Scheduler, Vec<u64>) {
    let fail = async |message: String| Err::<(), _>(TaskError::permanent(message));
    let handlers = Handlers::new().on("mail", fail).on("<paint>", fail);
    let scheduler = Scheduler::builder(name)
        .node(Node::local("here", handlers).max_workers(1))
        .store(Store::file(folder.join("store")))
        .no_client();
    let scheduler = scheduler.start().await.unwrap();
    let mut ids = Vec::new();
    for (kind, message) in tasks {
        let task = Execute::named(*kind, &(*message).to_owned()).unwrap();
        let status = scheduler.execute_and_wait(task).await.unwrap();
        ids.push(status.id.get());
    }
    (scheduler, ids)
}

const TASKS: [(&str, &str); 4] = [
    ("mail", "refused by 10.0.0.1"),
    ("mail", "refused by 10.0.0.2"),
    ("mail", "no such <b>mailbox</b>"),
    ("<paint>", "refused by 10.0.0.3"),
];

#[actix::test]
async fn one_and_a_group_are_forgotten_after_being_asked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (scheduler, ids) = failing("dashboard-forget", folder.path(), &TASKS).await;
    let app = serve!(board(&scheduler));
    let failures = async || {
        let told = json(ask!(app, get("/tasks/api/failures", "read"))).await;
        told["failures"].as_array().unwrap().len()
    };
    let page = text(ask!(app, get("/tasks/failures", "operate"))).await;
    let group = format!("confirm?action=forget&amp;id={}%2C{}", ids[1], ids[0]);
    assert!(page.contains(&format!("href=\"{group}\"")), "{page}");
    assert!(page.contains("Forget all 2"), "{page}");
    let page = text(ask!(
        app,
        get(
            &format!("/tasks/{}", group.replace("&amp;", "&")),
            "operate"
        )
    ))
    .await;
    assert!(page.contains("<b>2</b> failed tasks are named"), "{page}");
    assert_eq!(failures().await, 4, "to be asked changes nothing");
    let body = format!(
        "token={}&id={}%2C{}&back=failures",
        token(&page),
        ids[1],
        ids[0]
    );
    let answer = ask!(app, post_form("/tasks/act/forget", "operate", &body));
    let to = location(&answer).strip_prefix("../").unwrap();
    let page = text(ask!(app, get(&format!("/tasks/{to}"), "read"))).await;
    assert!(page.contains("2 of 2 tasks are forgotten."), "{page}");
    assert!(!page.contains("confirm?"), "{page}");
    assert_eq!(failures().await, 2);
    // The page of a task leads there, too, and one that is not kept cannot be forgotten.
    let page = text(ask!(
        app,
        get(&format!("/tasks/task?id={}", ids[2]), "operate")
    ))
    .await;
    let one = format!("confirm?action=forget&amp;id={}", ids[2]);
    assert!(page.contains(&one), "{page}");
    let forget = |id: u64| {
        let body = format!(r#"{{"id":{id}}}"#);
        post_json("/tasks/api/actions/forget", "operate", &body)
    };
    let told = json(ask!(app, forget(ids[2]))).await;
    assert_eq!(told["done"], format!("The task t{} is forgotten.", ids[2]));
    assert_eq!(ask!(app, forget(ids[2])).status(), StatusCode::NOT_FOUND);
    assert_eq!(failures().await, 1);
    finish(scheduler).await;
}

#[actix::test]
async fn all_that_match_are_counted_first_and_never_without_a_filter() {
    let folder = tempfile::tempdir().unwrap();
    let (scheduler, _) = failing("dashboard-forget-all", folder.path(), &TASKS).await;
    let app = serve!(board(&scheduler));
    let page = text(ask!(app, get("/tasks/failures", "operate"))).await;
    assert!(!page.contains("all that match"), "no filter is set: {page}");
    let path = "/tasks/failures?kind=%3Cpaint%3E&message=refused";
    let page = text(ask!(app, get(path, "operate"))).await;
    assert_eq!(page.matches("<tr data-failure=").count(), 1, "{page}");
    let all = "confirm?action=forget_all&amp;kind=%3Cpaint%3E&amp;message=refused";
    assert!(page.contains(all), "{page}");
    let page = text(ask!(
        app,
        get(
            "/tasks/confirm?action=forget_all&message=refused&hours=2",
            "operate"
        )
    ))
    .await;
    assert!(
        page.contains("<b>3</b> failed tasks of 2 kinds match"),
        "{page}"
    );
    let (_, until) = page.split_once(r#"name="until" value=""#).unwrap();
    let until = until.split_once('"').unwrap().0;
    for refused in ["", "&until=2000000000"] {
        let path = format!("/tasks/confirm?action=forget_all{refused}");
        let answer = ask!(app, get(&path, "operate"));
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{refused}");
    }
    let act = |action: &str, body: &str| {
        let path = format!("/tasks/api/actions/{action}");
        post_json(&path, "operate", body)
    };
    for action in ["forget_all", "execute_again_all"] {
        for body in ["{}", r#"{"until":2000000000}"#] {
            let answer = ask!(app, act(action, body));
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{action} {body}");
        }
    }
    let told = json(ask!(
        app,
        act("execute_again_all", r#"{"message":"mailbox"}"#)
    ))
    .await;
    assert_eq!(told["done"], "1 task was handed in again.");
    // What failed after the page was made is not meant.
    let early = r#"{"message":"refused","until":1000000000}"#;
    let told = json(ask!(app, act("forget_all", early))).await;
    assert_eq!(told["done"], "0 failed tasks are forgotten.");
    let page = text(ask!(app, get("/tasks/failures", "operate"))).await;
    let body = format!(
        "token={}&message=refused&hours=2&until={until}&back=failures",
        token(&page)
    );
    let answer = ask!(app, post_form("/tasks/act/forget_all", "operate", &body));
    assert!(location(&answer).contains("failures?note="));
    let told = json(ask!(
        app,
        get("/tasks/api/failures?message=refused", "read")
    ))
    .await;
    assert_eq!(told["failures"], Value::Array(Vec::new()));
    let told = json(ask!(app, get("/tasks/api/failures?kind=mail", "read"))).await;
    assert!(!told["failures"].as_array().unwrap().is_empty());
    finish(scheduler).await;
}
