//! What each command does, who may, and what needs to be meant.

use callboard::dashboard::Access;
use callboard::{Execute, Limit};
use serde_json::Value;

use crate::{callboard, finish, judge, printed, refused, run, scheduler, serve, text};

/// A task that nobody has accepted so far.
const NOBODY: &str = "t18446744073709551615";

fn json(line: &str) -> Value {
    assert_eq!(line.lines().count(), 1, "{line}");
    serde_json::from_str(line).unwrap()
}

#[actix::test]
async fn every_command_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-commands", folder.path()).await;
    let served = serve(&[&scheduler], "staging", judge);
    let url = &served.url;
    let failing = Execute::named("fail", &"no image 7").unwrap();
    let failed = scheduler.execute_and_wait(failing).await.unwrap().id;
    let wait = || Execute::named("wait", &()).unwrap();
    let first = scheduler.execute(wait().key("a")).await.unwrap();
    let second = scheduler.execute(wait()).await.unwrap();

    let told = printed(url, &["stats"]).await;
    assert!(told.contains("accepted          3\n"), "{told}");
    assert_eq!(
        json(&printed(url, &["stats", "--json"]).await)["stats"]["totals"]["executed"],
        3
    );
    let told = printed(url, &["kinds"]).await;
    assert!(told.lines().any(|line| line.starts_with("wait ")), "{told}");
    let told = printed(url, &["tasks"]).await;
    assert_eq!(told.lines().count(), 3, "{told}");
    let told = printed(url, &["tasks", "kind:wait", "key:a", "--json"]).await;
    assert_eq!(json(&told)["tasks"][0]["id"], first.get());
    let told = printed(url, &["tasks", "--limit", "1"]).await;
    assert!(
        told.ends_with("There may be more: see --limit.\n"),
        "{told}"
    );
    let told = printed(url, &["explain", &second.to_string()]).await;
    assert!(told.contains("why       "), "{told}");
    let told = printed(url, &["explain", &failed.to_string()]).await;
    assert!(told.contains("no image 7"), "{told}");
    let told = printed(url, &["nodes"]).await;
    assert!(told.lines().nth(1).unwrap().starts_with("here"), "{told}");

    printed(url, &["pause", "wait"]).await;
    assert_eq!(scheduler.stats().await.unwrap().pauses.kinds, ["wait"]);
    printed(url, &["resume", "wait"]).await;
    printed(url, &["pause", "--all"]).await;
    let pauses = scheduler.stats().await.unwrap().pauses;
    assert!(pauses.all && pauses.kinds.is_empty());
    printed(url, &["resume", "--all"]).await;
    let limits = [
        "limit",
        "wait",
        "--concurrency",
        "4",
        "--rate",
        "9",
        "--period",
        "60",
        "--burst",
        "3",
        "--group-concurrency",
        "2",
    ];
    printed(url, &limits).await;
    let expected = Limit::concurrency(4)
        .rate(9, std::time::Duration::from_secs(60))
        .burst(3)
        .each_group(Limit::concurrency(2));
    assert_eq!(scheduler.stats().await.unwrap().limits[0].limit, expected);
    printed(url, &["limit", "wait", "--none"]).await;
    assert!(scheduler.stats().await.unwrap().limits.is_empty());

    let told = printed(url, &["failures"]).await;
    assert!(
        told.lines().nth(1).unwrap().ends_with("no image 7"),
        "{told}"
    );
    let told = printed(url, &["failures", "--groups"]).await;
    assert!(
        told.lines().nth(1).unwrap().ends_with("no image #"),
        "{told}"
    );
    for left_out in [["--kind", "other"], ["--message", "no picture"]] {
        let told = printed(url, &["failures", left_out[0], left_out[1]]).await;
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let told = printed(url, &["mark", "v1.4.2", "--json"]).await;
    assert!(json(&told)["done"].is_string());
    let told = json(&printed(url, &["stats", "--json"]).await);
    assert_eq!(told["actions"]["mark"]["done"], 1);

    let told = refused(url, "sees-all", &["cancel", NOBODY], 7).await;
    assert!(told.contains(NOBODY), "{told}");
    let both = [first.to_string(), second.to_string()];
    let told = printed(url, &["cancel", &both[0], &both[1]]).await;
    assert_eq!(told.lines().count(), 2, "{told}");
    assert_eq!(scheduler.stats().await.unwrap().totals.cancelled, 2);
    let none = ["execute-again", "--message", "no picture"];
    let told = refused(url, "sees-all", &none, 5).await;
    assert!(told.contains("would run 0 failed tasks again"), "{told}");
    let all = ["execute-again", "--kind", "fail", "--hours", "1"];
    let told = refused(url, "sees-all", &all, 5).await;
    assert!(told.contains("would run 1 failed task again"), "{told}");
    let told = printed(url, &[&all[..], &["--yes"]].concat()).await;
    assert_eq!(told, "1 task was handed in again.\n");
    for wrong in [
        &["execute-again"][..],
        &["execute-again", "1", "--kind", "fail"],
    ] {
        let output = run(url, "sees-all", wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let told = printed(url, &["execute-again", &failed.to_string()]).await;
    assert!(
        told.contains(&format!("repeats the task {failed}")),
        "{told}"
    );
    refused(url, "sees-all", &["explain", NOBODY], 7).await;
    refused(url, "sees-all", &["drain", "nobody"], 7).await;
    printed(url, &["drain", "here", "--wait"]).await;
    finish(scheduler, served).await;
}

#[actix::test]
async fn what_cannot_be_done_is_told_although_the_rest_is() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-part", folder.path()).await;
    let served = serve(&[&scheduler], "", judge);
    let id = scheduler
        .execute(Execute::named("wait", &()).unwrap())
        .await
        .unwrap();
    let output = run(
        &served.url,
        "operates",
        &["cancel", NOBODY, &id.to_string()],
    )
    .await;
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stdout).contains(&id.to_string()));
    assert!(text(&output.stderr).contains(NOBODY));
    finish(scheduler, served).await;
}

#[actix::test]
async fn the_token_decides_and_is_no_argument() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-token", folder.path()).await;
    let served = serve(&[&scheduler], "", judge);
    let url = &served.url;
    let told = refused(url, "", &["stats"], 4).await;
    assert!(told.contains("set CALLBOARD_TOKEN"), "{told}");
    let told = refused(url, "wrong", &["stats"], 4).await;
    assert!(told.contains("Is the token right"), "{told}");
    refused(url, "reads", &["pause", "double"], 4).await;
    assert!(scheduler.stats().await.unwrap().pauses.kinds.is_empty());
    run(url, "operates", &["pause", "double"]).await;
    assert_eq!(scheduler.stats().await.unwrap().pauses.kinds, ["double"]);
    let file = folder.path().join("token");
    std::fs::write(&file, "operates\n").unwrap();
    let from_file = ["resume", "double", "--token-file", file.to_str().unwrap()];
    let output = run(url, "wrong", &from_file).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for bad in ["", "two words\n"] {
        std::fs::write(&file, bad).unwrap();
        refused(url, "operates", &from_file, 2).await;
    }
    assert_eq!(
        run(url, "", &["stats", "--token", "sees-all"])
            .await
            .status
            .code(),
        Some(2)
    );
    let told = refused("http://ada:secret@127.0.0.1/", "", &["stats"], 2).await;
    assert!(!told.contains("secret"), "{told}");
    finish(scheduler, served).await;
}

#[actix::test]
async fn a_dashboard_that_is_open_to_this_machine_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-loopback", folder.path()).await;
    let served = serve(&[&scheduler], "", Access::loopback);
    let output = run(&served.url, "", &["pause", "double"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(scheduler.stats().await.unwrap().pauses.kinds, ["double"]);
    finish(scheduler, served).await;
}

#[actix::test]
async fn what_harms_production_has_to_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-production", folder.path()).await;
    let served = serve(&[&scheduler], "Production", judge);
    let url = &served.url;
    let failing = Execute::named("fail", &"x").unwrap();
    let failed = scheduler
        .execute_and_wait(failing)
        .await
        .unwrap()
        .id
        .to_string();
    let waiting = Execute::named("wait", &()).unwrap();
    let id = scheduler.execute(waiting).await.unwrap().to_string();
    let all: [&[&str]; 6] = [
        &["cancel", &id],
        &["execute-again", &failed],
        &["pause", "double"],
        &["pause", "--all"],
        &["limit", "double", "--concurrency", "1"],
        &["drain", "here"],
    ];
    for harmful in all {
        let told = refused(url, "operates", harmful, 5).await;
        assert!(
            told.contains(" would ") && told.contains("terminal-production"),
            "{told}"
        );
    }
    let stats = scheduler.stats().await.unwrap();
    assert_eq!((stats.totals.executed, stats.totals.cancelled), (2, 0));
    assert!(!stats.pauses.all && stats.pauses.kinds.is_empty() && stats.limits.is_empty());
    assert_eq!(format!("{:?}", stats.nodes[0].state), "Up");
    for harmful in all {
        let meant = [harmful, &["--yes"]].concat();
        printed(url, &meant).await;
    }
    let stats = scheduler.stats().await.unwrap();
    assert_eq!((stats.totals.executed, stats.totals.cancelled), (3, 1));
    printed(url, &["mark", "x"]).await;
    printed(url, &["resume", "--all"]).await;
    finish(scheduler, served).await;
}

#[actix::test]
async fn one_of_several_schedulers_is_chosen_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let one = scheduler("terminal-one", folder.path()).await;
    let two = scheduler("terminal-two", folder.path()).await;
    let served = serve(&[&one, &two], "", judge);
    let url = &served.url;
    let told = refused(url, "operates", &["pause", "double"], 2).await;
    assert!(told.contains("terminal-one, terminal-two"), "{told}");
    let told = refused(url, "operates", &["stats", "--scheduler", "three"], 7).await;
    assert!(told.contains("terminal-one, terminal-two"), "{told}");
    printed(url, &["pause", "double", "--scheduler", "terminal-two"]).await;
    assert!(one.stats().await.unwrap().pauses.kinds.is_empty());
    assert_eq!(two.stats().await.unwrap().pauses.kinds, ["double"]);
    let told = printed(url, &["stats", "--scheduler", "terminal-two"]).await;
    assert!(
        told.starts_with("scheduler         terminal-two\n"),
        "{told}"
    );
    finish(one, served).await;
    two.shutdown(callboard::Shutdown::Now).await.unwrap();
}

#[test]
fn without_an_address_nothing_is_asked() {
    for (args, part) in [
        (&["stats"][..], "CALLBOARD_URL"),
        (&["stats", "--at", "tasks"], "http://127.0.0.1:8080/tasks"),
        (&["limit", "mail"], "--concurrency"),
        (&["pause"], "--all"),
        (&["cancel", "nine"], "`t` and a number"),
    ] {
        let output = callboard(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(part),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[actix::test]
async fn all_that_match_are_counted_and_cancelled_only_if_that_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-matching", folder.path()).await;
    let served = serve(&[&scheduler], "staging", judge);
    let url = &served.url;
    for n in 0..1500u32 {
        let nobody_runs_it = Execute::named("waits", &n).unwrap();
        scheduler.execute(nobody_runs_it).await.unwrap();
    }
    let all = ["cancel", "--matching", "kind:waits"];
    let told = refused(url, "sees-all", &all, 5).await;
    assert!(told.contains("would cancel 1500 tasks"), "{told}");
    assert_eq!(scheduler.stats().await.unwrap().totals.cancelled, 0);
    printed(url, &[&all[..], &["--yes"]].concat()).await;
    while scheduler.stats().await.unwrap().totals.cancelled < 1500 {
        tokio::task::yield_now().await;
    }
    for wrong in [
        &["cancel"][..],
        &["cancel", "1", "--matching", "kind:waits"],
    ] {
        let output = run(url, "sees-all", wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    refused(
        url,
        "sees-all",
        &["cancel", "--matching", "age>x", "--yes"],
        1,
    )
    .await;
    finish(scheduler, served).await;
}
