//! The dashboard in a real browser: what a person sees, and what a click does.
//!
//! Owns: what must be seen. Does not know: how a page is made.

use callboard::{Execute, Outcome};
use callboard_browser::board::{Board, HURT, NODES};
use callboard_browser::{PATIENCE, with_browser};
use fantoccini::Locator;
use serde_json::Value;

/// The pages that the navigation leads to, and whether they move.
const PAGES: [(&str, bool); 5] = [
    ("", true),
    ("kinds", true),
    ("nodes", true),
    ("tasks", false),
    ("failures", false),
];

#[actix_rt::test]
async fn each_page_opens_while_nodes_work_and_its_numbers_move() {
    let board = Board::start("numbers").await;
    let busy = board.keep_busy();
    with_browser(async |browser| {
        for (path, moves) in PAGES {
            browser.goto(&board.page(&format!("tasks/{path}"))).await;
            assert_ne!(
                browser
                    .value("document.querySelector('h1').textContent")
                    .await,
                ""
            );
            let title = browser.client.title().await.unwrap();
            assert!(title.ends_with("numbers \u{2013} staging"), "{title}");
            if moves {
                browser.until_live().await;
            }
            browser.picture(&format!("page-{path}")).await;
        }
        browser.goto(&board.page("tasks")).await;
        let accepted = "Number(document.querySelector('[data-live=executed]').textContent)";
        let before = browser.value(accepted).await;
        browser.until(&format!("{accepted} > {before}")).await;
        let rows = browser
            .value("document.querySelectorAll('#nodes tbody tr').length")
            .await;
        assert_eq!(rows, NODES);
        browser
            .until("document.querySelectorAll('#nodes .cell.busy').length > 20")
            .await;
        browser.picture("overview").await;
        // On a telephone nothing has to be moved sideways but wide tables, in a box of their own.
        browser.client.set_window_size(500, 900).await.unwrap();
        browser
            .until("document.documentElement.scrollWidth <= window.innerWidth")
            .await;
        browser.picture("narrow").await;
    })
    .await;
    drop(busy);
    board.end().await;
}

#[actix_rt::test]
async fn a_click_drains_a_node_cancels_a_task_and_runs_a_failed_one_again() {
    let board = Board::start("clicks").await;
    with_browser(async |browser| {
        browser.goto(&board.page("tasks/nodes")).await;
        let row = "tr[data-node=node-07]";
        browser
            .click(&format!("{row} form[data-action=drain] button"))
            .await;
        // A script ends with its page: it begins once the next one is there.
        let wait = browser.client.wait().at_most(PATIENCE);
        wait.for_element(Locator::Css(".note")).await.unwrap();
        let says = format!("/draining|left/.test(document.querySelector('{row}').textContent)");
        browser.until(&says).await;

        let task = Execute::named("wait", &()).unwrap();
        let waited = board.scheduler.execute_and_wait(task);
        let clicked = async {
            let found = "document.querySelector('form[data-action=cancel] button')";
            while browser.value(&format!("{found} === null")).await == true {
                browser.goto(&board.page("tasks/tasks?q=kind:wait")).await;
            }
            browser.picture("search").await;
            browser.click("form[data-action=cancel] button").await;
        };
        let (status, ()) = futures_util::join!(waited, clicked);
        assert_eq!(status.unwrap().outcome, Outcome::Cancelled);

        let fails = Execute::named("fail", &"no such file").unwrap();
        let failed = board.scheduler.execute_and_wait(fails).await.unwrap();
        assert!(matches!(failed.outcome, Outcome::Failed(_)), "{failed:?}");
        board.failing.notified().await;
        browser.goto(&board.page("tasks/failures")).await;
        browser.picture("failures").await;
        browser.click("[data-failure] form button").await;
        board.failing.notified().await;
    })
    .await;
    board.end().await;
}

#[actix_rt::test]
async fn a_hostile_name_and_message_are_text() {
    let board = Board::start("hostile").await;
    with_browser(async |browser| {
        let message = format!("{}\u{202e}{}", HURT, "x".repeat(4096));
        let fails = Execute::named("fail", &message).unwrap();
        let failed = board.scheduler.execute_and_wait(fails).await.unwrap();
        let hostile = Execute::named(HURT, &()).unwrap();
        let done = board.scheduler.execute_and_wait(hostile).await.unwrap();
        let ids = [failed.id, done.id].map(|id| format!("task?id={}", id.get()));
        let pages = PAGES.iter().map(|(path, _)| (*path).to_owned());
        for path in pages.chain(ids) {
            browser.goto(&board.page(&format!("tasks/{path}"))).await;
            assert_eq!(
                browser.value("window.hurt === undefined").await,
                true,
                "{path}"
            );
            let own = "document.querySelectorAll('script, img').length";
            assert_eq!(browser.value(own).await, 1, "{path}");
        }
        browser.goto(&board.page("tasks/failures")).await;
        let text = browser
            .value("document.querySelector('main').textContent")
            .await;
        let text = text.as_str().unwrap();
        // Numbers are folded, so that the same failure of many tasks is one.
        assert!(text.contains("<script>window.hurt=#</script>"), "{text}");
        assert!(
            !text.contains('\u{202e}'),
            "what is not seen is written out"
        );
        browser.picture("hostile").await;
    })
    .await;
    board.end().await;
}

#[actix_rt::test]
async fn nothing_changes_without_the_token_and_who_may_only_look_sees_no_button() {
    let board = Board::start("tokens").await;
    with_browser(async |browser| {
        browser.goto(&board.page("tasks/")).await;
        let post = |token: &str| {
            format!(
                "fetch('act/pause_all', {{ method: 'POST', body: new URLSearchParams({{ token: \
                 {token} }}) }}).then((answer) => answer.status)"
            )
        };
        for wrong in ["''", "'0000000000000000ff'"] {
            assert_eq!(browser.resolved(&post(wrong)).await, 403);
        }
        assert!(!board.scheduler.stats().await.unwrap().pauses.all);
        let token = "document.querySelector('meta[name=callboard-token]').content";
        assert_eq!(browser.resolved(&post(token)).await, 200);
        assert!(board.scheduler.stats().await.unwrap().pauses.all);

        for (path, _) in PAGES {
            browser.goto(&board.page(&format!("look/{path}"))).await;
            let forms = "document.querySelectorAll('form[method=post], [data-action]').length";
            assert_eq!(browser.value(forms).await, 0, "{path}");
        }
        assert_eq!(browser.resolved(&post(token)).await, 403);
        browser.goto(&board.page("closed/")).await;
        let shown = browser.value("document.body.textContent").await;
        assert!(shown.as_str().unwrap().contains("access"), "{shown}");
    })
    .await;
    board.end().await;
}

#[actix_rt::test]
async fn eight_tabs_are_live_and_those_behind_let_go() {
    let board = Board::start("tabs").await;
    with_browser(async |browser| {
        for _ in 0..8 {
            let tab = browser.client.new_window(true).await.unwrap();
            browser.client.switch_to_window(tab.handle).await.unwrap();
            browser.goto(&board.page("tasks/")).await;
            // Over HTTP/1.1 a browser has six connections to a server.
            browser.until_live().await;
        }
        let listeners = browser.resolved("fetch('api/stats').then((answer) => answer.status)");
        assert_eq!(listeners.await, Value::from(200));
    })
    .await;
    board.end().await;
}
