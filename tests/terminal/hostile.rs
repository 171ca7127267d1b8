//! Names and messages that would do something to a terminal.

use callboard::{Execute, Handlers, Node, Scheduler, Store, TaskContext, TaskError};

use crate::{finish, judge, run, serve, text};

/// Clears a screen in two ways, turns the direction, rings, deletes, and ends a line.
const HOSTILE: &str = "\u{1b}[2J\u{9b}2J\u{202e}\u{7}\u{7f}\r\nx\u{e0041}";

#[actix::test]
async fn no_name_and_no_message_does_anything_to_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let handlers = Handlers::new()
        .on("fail", async |message: String| {
            Err::<(), _>(TaskError::permanent(message))
        })
        .on("retry", async |message: String, cx: TaskContext| {
            cx.note(&message);
            Err::<(), _>(TaskError::retry(message))
        });
    let scheduler = Scheduler::builder("terminal-hostile")
        .node(Node::local("here", handlers).max_workers(2))
        .store(Store::file(folder.path().join("store")))
        .no_client()
        .start()
        .await
        .unwrap();
    let served = serve(&[&scheduler], HOSTILE, judge);
    let long = HOSTILE.repeat(300);
    let failing = Execute::named("fail", &long).unwrap();
    let failed = scheduler
        .execute_and_wait(failing)
        .await
        .unwrap()
        .id
        .to_string();
    let retried = Execute::named("retry", &HOSTILE).unwrap();
    let retried = scheduler.execute(retried).await.unwrap().to_string();
    let all: [&[&str]; 12] = [
        &["stats"],
        &["nodes"],
        &["kinds"],
        &["tasks"],
        &["explain", &failed],
        &["explain", &retried],
        &["failures"],
        &["failures", "--groups"],
        &["pause", HOSTILE],
        &["mark", HOSTILE],
        &["tasks", HOSTILE],
        &["top", "--frames", "1"],
    ];
    for args in all {
        for json in [&[][..], &["--json"]] {
            let args = [args, json].concat();
            let output = run(&served.url, "sees-all", &args).await;
            let told = text(&output.stdout) + &text(&output.stderr);
            assert!(!told.is_empty(), "{args:?}");
            let acts = |letter: char| {
                letter != '\n' && (letter.is_control() || "\u{202e}\u{e0041}".contains(letter))
            };
            assert!(!told.contains(acts), "{args:?}: {told:?}");
        }
    }
    loop {
        let told = run(&served.url, "sees-all", &["explain", &retried]).await;
        let told = text(&told.stdout);
        let noted = told
            .lines()
            .filter(|line| line.starts_with("note "))
            .count();
        if noted > 0 && told.lines().any(|line| line.starts_with("attempt ")) {
            break;
        }
    }
    let told = run(&served.url, "sees-all", &["explain", &failed]).await;
    assert!(text(&told.stdout).contains(r"\u{1b}[2J\u{9b}2J\u{202e}"));
    finish(scheduler, served).await;
}
