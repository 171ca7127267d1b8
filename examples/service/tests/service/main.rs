//! The service, from end to end: real processes, which are killed.
//!
//! Owns: what it must answer. Does not know: how it works within.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use process::{BINARY, JSON, Place, Service, answer, lines, read, signal};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

mod process;

/// How many files there are, and how large: enough to be killed in the middle of them.
const FILES: u64 = 200;
const SMALLEST: u64 = 4 << 20;
const STEP: u64 = 64 << 10;

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Makes files of zeros, each of another length, which take no room on the disk. Returns the
/// digest of each.
fn zeros(folder: &Path) -> BTreeMap<String, String> {
    fs::create_dir(folder).unwrap();
    let mut hash = Sha256::new();
    hash.update(vec![0; SMALLEST as usize]);
    let files = (0..FILES).map(|number| {
        let file = File::create_new(folder.join(format!("{number}"))).unwrap();
        file.set_len(SMALLEST + number * STEP).unwrap();
        let digest = hex(hash.clone());
        hash.update([0; STEP as usize]);
        (format!("many/{number}"), digest)
    });
    files.collect()
}

fn count(progress: &Value, name: &str) -> u64 {
    progress[name].as_u64().unwrap()
}

fn is_over(progress: &Value) -> bool {
    let ended = ["done", "failed", "cancelled"].map(|name| count(progress, name));
    ended.iter().sum::<u64>() == count(progress, "files")
}

fn has_begun(progress: &Value) -> bool {
    count(progress, "done") > 0
}

/// Follows a job to its end: every digest has come and is right, and each was told once.
fn all_come(service: &Service, place: &Place, job: u64, digests: &BTreeMap<String, String>) {
    let progress = service.follow(job, is_over);
    assert_eq!(count(&progress, "done"), FILES, "{progress}");
    let told = service.results(job);
    let files = told["files"].as_array().unwrap().iter();
    let files = files.map(|file| {
        let digest = file["ended"]["digest"].as_str().unwrap();
        (file["path"].as_str().unwrap().to_owned(), digest.to_owned())
    });
    assert_eq!(&files.collect::<BTreeMap<_, _>>(), digests);
    let kept = lines(&place.kept(job, "done"));
    let ended = kept
        .iter()
        .filter(|line| line.starts_with("{\"ended\""))
        .count();
    assert_eq!(ended as u64, FILES);
}

#[test]
fn every_digest_comes_once_whoever_is_killed() {
    let place = Place::new();
    let digests = zeros(&place.root().join("many"));
    let mut service = place.start();
    // So that the one that is killed has work.
    let up = "callboard_nodes{scheduler=\"service\",state=\"up\"} 2";
    while !service.ask("GET /metrics", "", b"").1.contains(up) {}
    let job = service.begin("many");
    service.follow(job, has_begun);
    let killed = service.workers[0].clone();
    signal("-KILL", killed.1);
    all_come(&service, &place, job, &digests);
    let (_, metrics) = service.ask("GET /metrics", "", b"");
    let lost = "callboard_reroutes_total{scheduler=\"service\",reason=\"lost\"} ";
    let lost = metrics.lines().find_map(|line| line.strip_prefix(lost));
    assert!(lost.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
    // Another has taken its place.
    while service.workers.len() < 3 {
        service.hear();
    }
    assert_eq!(service.workers[2].0, killed.0);

    // The service itself. Its workers end with it.
    let job = service.begin("many");
    service.follow(job, has_begun);
    signal("-KILL", service.process());
    service.until_all_have_ended();
    let kept = lines(&place.kept(job, "done")).len() as u64;
    assert!((1..FILES).contains(&kept), "it was killed with {kept} done");
    let service = place.start();
    all_come(&service, &place, job, &digests);
}

#[test]
fn ctrl_c_leaves_no_process_behind_and_the_next_start_goes_on() {
    let place = Place::new();
    let digests = zeros(&place.root().join("many"));
    let service = place.start();
    let job = service.begin("many");
    service.follow(job, has_begun);
    // Whoever follows does not hold the end up.
    let request = format!("GET /jobs/{job}/events");
    let follower = service.send(&request, "localhost", "", b"");
    signal("-INT", service.process());
    let status = service.until_all_have_ended();
    assert!(status.success(), "{status}");
    drop(follower);
    let service = place.start();
    all_come(&service, &place, job, &digests);
}

#[test]
fn what_is_cancelled_stays_so_over_a_restart() {
    let place = Place::new();
    zeros(&place.root().join("many"));
    let service = place.start();
    let job = service.begin("many");
    service.follow(job, has_begun);
    let (status, said) = service.ask(&format!("DELETE /jobs/{job}"), "", b"");
    let progress = &read(&said)["progress"];
    assert_eq!((status, is_over(progress)), (200, true), "{said}");
    assert!(count(progress, "cancelled") > 0, "{said}");
    // Killed when a second one was written down as cancelled, and its tasks were not so far.
    service.act("pause_all");
    let second = service.begin("many");
    while unfinished(&service) < FILES as usize {}
    signal("-KILL", service.process());
    service.until_all_have_ended();
    fs::write(place.kept(second, "done"), "\"cancelled\"\n").unwrap();
    let service = place.start();
    assert_eq!(&service.results(job)["progress"], progress);
    assert_eq!(&service.follow(job, is_over), progress);
    let progress = service.follow(second, is_over);
    assert_eq!(count(&progress, "cancelled"), FILES);
    while unfinished(&service) > 0 {}
}

/// Returns how many tasks have not settled.
fn unfinished(service: &Service) -> usize {
    let (_, tasks) = service.ask("GET /tasks/api/tasks?limit=1000", "", b"");
    read(&tasks)["tasks"].as_array().unwrap().len()
}

#[test]
fn an_upload_is_a_job_and_has_a_bound() {
    let place = Place::new();
    let service = place.start();
    let most = 1 << 20;
    let bytes = vec![7; most];
    let (status, said) = service.ask("POST /jobs/upload", BINARY, &bytes);
    assert_eq!(status, 202, "{said}");
    let job = read(&said)["job"].as_u64().unwrap();
    service.follow(job, is_over);
    let file = &service.results(job)["files"][0];
    let digest = hex(Sha256::new().chain_update(&bytes));
    assert_eq!(file["ended"]["digest"], digest);
    assert_eq!(file["path"], "upload");
    assert!(
        !place.kept(job, "upload").exists(),
        "it is not needed any more"
    );

    // One that says how large it is, and one that does not.
    let long = format!("{BINARY}content-length: {}\r\n", most + 1);
    let refused = (413, "an upload has at most 1 MiB\n".to_owned());
    assert_eq!(service.ask("POST /jobs/upload", &long, b""), refused);
    let mut chunk = format!("{:x}\r\n", most + 1).into_bytes();
    chunk.extend(vec![7; most + 1]);
    let chunked = format!("{BINARY}transfer-encoding: chunked\r\n");
    assert_eq!(service.ask("POST /jobs/upload", &chunked, &chunk), refused);
    let (_, jobs) = service.ask("GET /jobs", "", b"");
    assert_eq!(read(&jobs)["jobs"].as_array().unwrap().len(), 1, "{jobs}");
    let kept = place.kept(job, "files");
    let kept = fs::read_dir(kept.parent().unwrap()).unwrap();
    assert_eq!(kept.count(), 2, "the files and the digests of the one job");

    // It was killed before it had removed the upload.
    drop(service);
    fs::write(place.kept(job, "upload"), &bytes).unwrap();
    let _service = place.start();
    assert!(!place.kept(job, "upload").exists());
}

#[test]
fn only_what_is_below_the_root_is_read() {
    let place = Place::new();
    let root = place.root();
    fs::create_dir(root.join("empty")).unwrap();
    fs::create_dir(root.join("few")).unwrap();
    fs::write(root.join("few/one"), "1").unwrap();
    symlink("/etc", root.join("few/etc")).unwrap();
    symlink("/etc/passwd", root.join("few/passwd")).unwrap();
    symlink("nowhere", root.join("few/dangling")).unwrap();
    let service = place.start();
    for (path, wrong) in [
        ("..", "is not below"),
        ("data/jobs", "is not below"),
        ("empty/../..", "is not below"),
        ("/etc", "is not below"),
        ("few/etc", "is not below"),
        ("nowhere", "No such file"),
        ("few/one", "Not a directory"),
    ] {
        let body = serde_json::json!({ "path": path }).to_string();
        let (status, said) = service.ask("POST /jobs/directory", JSON, body.as_bytes());
        assert_eq!(
            (status, said.contains(wrong)),
            (400, true),
            "{path}: {said}"
        );
    }
    let job = service.begin("empty");
    assert_eq!(count(&service.follow(job, is_over), "files"), 0);
    // Links are not followed.
    let job = service.begin("few");
    assert_eq!(count(&service.follow(job, is_over), "done"), 1);
    assert_eq!(service.results(job)["files"][0]["path"], "few/one");

    // A file that is gone when its turn comes.
    service.act("pause_all");
    let job = service.begin("few");
    fs::remove_file(root.join("few/one")).unwrap();
    service.act("resume_all");
    assert_eq!(count(&service.follow(job, is_over), "failed"), 1);
    let told = service.results(job)["files"][0]["ended"]["failed"].to_string();
    assert!(told.contains("No such file"), "{told}");
}

#[test]
fn only_this_machine_may_ask() {
    let place = Place::new();
    let service = place.start();
    for path in ["tasks", "metrics", "jobs"] {
        let request = format!("GET /{path}");
        let (status, said) = service.ask(&request, "", b"");
        assert_eq!(status, 200, "{said}");
        // As a page from elsewhere would, whose name leads here.
        let stream = service.send(&request, "elsewhere.example", "", b"");
        assert_eq!(answer(stream).0, 403, "{path}");
    }
    // What a form of another page can send.
    for path in ["directory", "upload"] {
        let request = format!("POST /jobs/{path}");
        let form = "content-type: text/plain\r\n";
        let (status, said) = service.ask(&request, form, b"{\"path\":\".\"}");
        assert!([400, 415].contains(&status), "{path}: {said}");
    }
    let (_, jobs) = service.ask("GET /jobs", "", b"");
    assert_eq!(read(&jobs)["jobs"], Value::Array(Vec::new()));
    for request in [
        "GET /jobs/1",
        "GET /jobs/1/events",
        "DELETE /jobs/1",
        "GET /jobs/one",
    ] {
        assert_eq!(service.ask(request, "", b"").0, 404, "{request}");
    }
}

#[test]
fn the_oldest_job_that_is_over_makes_room() {
    let place = Place::new();
    fs::create_dir(place.root().join("empty")).unwrap();
    fs::write(place.root().join("one"), "1").unwrap();
    let service = place.start();
    service.act("pause_all");
    // What the service itself writes there is left out.
    let under_way = service.begin(".");
    let oldest = service.begin("empty");
    for _ in 2..100 {
        service.begin("empty");
    }
    assert_eq!(service.results(oldest)["job"], oldest);
    service.begin("empty");
    let (status, said) = service.ask(&format!("GET /jobs/{oldest}"), "", b"");
    assert_eq!(status, 404, "{said}");
    service.act("resume_all");
    assert_eq!(count(&service.follow(under_way, is_over), "done"), 1);
}

#[test]
fn two_services_do_not_share_what_they_keep() {
    let place = Place::new();
    let _service = place.start();
    let second = place.command().output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another service uses it"), "{said}");
}
