//! What is no dashboard, answers nothing, too much or too late, and readers who go.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use actix_web::rt::task::spawn_blocking;
use callboard::Execute;

use crate::{callboard, finish, judge, refused, scheduler, serve, text};

/// Answers everybody by this.
fn answering(answer: impl Fn(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            answer(&mut stream);
        }
    });
    at
}

fn saying(head: &str, body: &str) -> SocketAddr {
    let length = body.len();
    let all = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}");
    answering(move |stream| {
        let _ = stream.write_all(all.as_bytes());
    })
}

async fn says(at: SocketAddr, status: i32, parts: &[&str]) {
    let url = format!("http://{at}/tasks");
    let told = refused(&url, "secret-token", &["stats", "--timeout", "1"], status).await;
    for part in parts {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("secret-token"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told:?}");
}

#[actix::test]
async fn nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    says(at, 3, &["nothing answers", "Does the application run"]).await;
}

#[actix::test]
async fn who_answers_too_late_is_not_waited_for() {
    // Kept open: nothing comes, or a little from time to time.
    let (held, holds) = std::sync::mpsc::channel();
    let silent = answering(move |stream| held.send(stream.try_clone().unwrap()).unwrap());
    says(silent, 3, &["within 1 s", "--timeout"]).await;
    drop(holds);
    let begun = answering(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{");
        // Until the other side goes.
        let _ = stream.read(&mut [0]);
    });
    says(begun, 3, &["within 1 s"]).await;
}

#[actix::test]
async fn what_is_no_dashboard_is_told_from_one() {
    let hint = "the address must be that of a dashboard";
    let hint = &hint.replace("the address", "The address");
    says(
        saying("200 OK", "<html>"),
        6,
        &["does not answer in JSON", hint],
    )
    .await;
    says(saying("200 OK", "{}"), 6, &["cannot read", hint]).await;
    says(saying("404 Not Found", "nothing here"), 6, &["404", hint]).await;
    says(
        saying("404 Not Found", r#"{"error":"no"}"#),
        6,
        &["/api", hint],
    )
    .await;
    says(saying("500 Internal Server Error", ""), 6, &["500", hint]).await;
    says(
        saying("502 Bad Gateway", r#"{"error":"\u001b[2J"}"#),
        1,
        &[r"\u{1b}[2J"],
    )
    .await;
    says(saying("401 Unauthorized", ""), 4, &["Is the token right"]).await;
    let other = answering(|stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
    });
    says(other, 6, &["does not speak HTTP", hint]).await;
}

#[actix::test]
async fn a_redirect_is_told_and_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = elsewhere.local_addr().unwrap();
    let head = format!("302 Found\r\nlocation: http://{target}/api");
    says(
        saying(&head, ""),
        6,
        &["leads elsewhere", &target.to_string(), "--at"],
    )
    .await;
    elsewhere.set_nonblocking(true).unwrap();
    let asked = elsewhere.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock));
}

#[actix::test]
async fn an_answer_without_end_is_given_up() {
    let endless = answering(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n\"");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let url = format!("http://{endless}/tasks");
    let told = refused(&url, "", &["stats"], 6).await;
    assert!(told.contains("more than 64 MiB"), "{told}");
}

#[actix::test]
async fn whoever_reads_its_lines_may_have_enough_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-pipe", folder.path()).await;
    scheduler.pause_all().await.unwrap();
    let tasks = (0..3000u64).map(|n| Execute::named("double", &n).unwrap());
    for answer in scheduler.execute_many(tasks.collect()).await {
        answer.unwrap();
    }
    let served = serve(&[&scheduler], "", judge);
    let url = served.url.clone();
    let output = spawn_blocking(move || {
        let args = ["tasks", "--limit", "3000", "--json", "--at", &url];
        let mut child = callboard(&args)
            .env("CALLBOARD_TOKEN", "reads")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 8];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(first[0], b'{');
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
    finish(scheduler, served).await;
}
