//! Who looks at the dashboard otherwise: in the dark, on a telephone, with a keyboard alone.
//!
//! Owns: what they must be able to read and reach. Does not know: how a page is made.

use callboard::{Execute, Outcome};
use callboard_browser::board::Board;
use callboard_browser::{Browser, with_browser};
use serde_json::Value;

/// How wide a telephone is.
const PHONE: u64 = 390;

/// The pages that the navigation leads to.
const PAGES: [&str; 5] = ["", "kinds", "nodes", "tasks", "failures"];

/// What can be reached with a keyboard, in order.
const CONTROLS: &str = "[...document.querySelectorAll('a[href], button, input:not([type=hidden]), \
                        select, summary')].filter((it) => it.checkVisibility())";

/// What of the text on a page is too faint to be read (WCAG 2.2, AA), and how much text there is.
const FAINT: &str = r"(() => {
    const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
    const part = (it) => (it <= 10.31 ? it / 3294.6 : ((it / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const behind = (element) => {
        const colour = numbers(getComputedStyle(element).backgroundColor);
        return colour[3] === 0 ? behind(element.parentElement) : colour;
    };
    const faint = [];
    let texts = 0;
    const look = (element, text, colour) => {
        texts += 1;
        const lights = [light(numbers(colour)), light(behind(element))].sort((a, b) => a - b);
        const ratio = (lights[1] + 0.05) / (lights[0] + 0.05);
        if (ratio < 4.5) faint.push(`${text}: ${ratio}`);
    };
    for (const element of document.querySelectorAll('body *')) {
        if (!element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const own = [...element.childNodes].find((it) => it.nodeType === 3 && it.data.trim());
        if (own) look(element, own.data, element instanceof SVGElement ? style.fill : style.color);
        const hint = element.placeholder;
        if (hint) look(element, hint, getComputedStyle(element, '::placeholder').color);
    }
    return { faint, texts };
})()";

/// Fills a board; returns its pages, each by a name.
async fn filled(board: &Board) -> Vec<(String, String)> {
    let fails = Execute::named("fail", &"line 17 has no price").unwrap();
    let failed = board.scheduler.execute_and_wait(fails).await.unwrap();
    let waits = Execute::named("wait", &()).unwrap();
    let waits = waits.key("stock-2026").group("stock");
    let waiting = board.scheduler.execute(waits).await.unwrap();
    let tasks = [("task", waiting), ("task-failed", failed.id)];
    let tasks = tasks.map(|(name, id)| (name.to_owned(), format!("task?id={}", id.get())));
    let pages = PAGES.map(|path| match path {
        "" => ("overview".to_owned(), String::new()),
        path => (path.to_owned(), path.to_owned()),
    });
    pages.into_iter().chain(tasks).collect()
}

#[actix_rt::test]
async fn every_text_can_be_read_in_the_light_and_in_the_dark() {
    let board = Board::start("colours").await;
    let busy = board.keep_busy();
    let pages = filled(&board).await;
    // Something is wrong, so that its colours are seen, too.
    board.scheduler.pause("wait").await.unwrap();
    with_browser(async |browser| {
        for scheme in ["light", "dark"] {
            for (name, path) in &pages {
                browser.goto(&board.page(&format!("tasks/{path}"))).await;
                browser.prefer(scheme).await;
                let told = browser.value(FAINT).await;
                assert_eq!(told["faint"], Value::Array(Vec::new()), "{name}, {scheme}");
                assert!(told["texts"].as_u64().unwrap() > 10, "{name}: {told}");
                browser.picture(&format!("{scheme}-{name}")).await;
            }
        }
    })
    .await;
    drop(busy);
    board.end().await;
}

#[actix_rt::test]
async fn a_page_is_no_wider_than_a_telephone() {
    let board = Board::start("telephone").await;
    let busy = board.keep_busy();
    let pages = filled(&board).await;
    with_browser(async |browser| {
        for (name, path) in &pages {
            browser.goto(&board.page(&format!("tasks/{path}"))).await;
            browser
                .whole_picture(PHONE, "main", &format!("phone-{name}"))
                .await;
            // What is wide, such as a table, moves in a box of its own.
            let width = "document.documentElement.scrollWidth";
            assert_eq!(browser.value(width).await, PHONE, "{name}");
        }
    })
    .await;
    drop(busy);
    board.end().await;
}

/// Goes on to the next control until it is this one.
async fn tab_to(browser: &Browser, css: &str) {
    let controls = browser.value(&format!("{CONTROLS}.length")).await;
    for _ in 0..controls.as_u64().unwrap() {
        browser.tab().await;
        let is_it = format!("document.activeElement.matches('{css}')");
        if browser.value(&is_it).await == true {
            return;
        }
    }
    panic!("no control is {css}");
}

#[actix_rt::test]
async fn the_keyboard_reaches_every_control_in_order_and_shows_where_it_is() {
    let board = Board::start("keyboard").await;
    let pages = filled(&board).await;
    with_browser(async |browser| {
        for (name, path) in &pages {
            browser.goto(&board.page(&format!("tasks/{path}"))).await;
            let controls = browser.value(&format!("{CONTROLS}.length")).await;
            let controls = controls.as_u64().unwrap();
            assert!(controls > 5, "{name}: {controls}");
            for at in 0..controls {
                browser.tab().await;
                let reached = format!("{CONTROLS}.indexOf(document.activeElement)");
                assert_eq!(browser.value(&reached).await, at, "{name}");
                // Scrolled into view, by less than a pixel perhaps.
                let seen = "(() => {
                    const style = getComputedStyle(document.activeElement);
                    const box = document.activeElement.getBoundingClientRect();
                    const is_seen = box.top > -1 && box.left > -1
                        && box.bottom < innerHeight + 1 && box.right < innerWidth + 1;
                    const { outlineStyle, outlineWidth } = style;
                    return is_seen && outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2
                        ? 'seen' : { box, outlineStyle, outlineWidth, innerHeight, innerWidth };
                })()";
                assert_eq!(browser.value(seen).await, "seen", "{name}: {at}");
            }
        }
        browser.picture("focus").await;
        // The first of them leads past the navigation.
        browser.goto(&board.page("tasks/")).await;
        browser.tab().await;
        browser.picture("skip").await;
        browser.enter().await;
        browser.tab().await;
        let within = "document.activeElement.closest('main') !== null";
        assert_eq!(browser.value(within).await, true);
    })
    .await;
    board.end().await;
}

#[actix_rt::test]
async fn a_task_is_found_and_cancelled_without_a_mouse() {
    let board = Board::start("search").await;
    let waits = Execute::named("wait", &()).unwrap();
    let waits = board.scheduler.execute_and_wait(waits.key("stock-2026"));
    let board = &board;
    let cancels = with_browser(async |browser| {
        // The task is on its way, and a page that does not have it yet is opened again.
        let button = "form[data-action=cancel] button";
        let missing = format!("document.querySelector('{button}') === null");
        browser.goto(&board.page("tasks/tasks")).await;
        while browser.value(&missing).await == true {
            browser.client.refresh().await.unwrap();
        }
        tab_to(browser, "input[name=q]").await;
        browser.press("key:stock-2026").await;
        browser.enter().await;
        browser.until("location.search.startsWith('?q=key')").await;
        tab_to(browser, button).await;
        browser.enter().await;
        browser
            .until("document.querySelector('.note') !== null")
            .await;
    });
    let (status, ()) = futures_util::join!(waits, cancels);
    assert_eq!(status.unwrap().outcome, Outcome::Cancelled);
}

#[actix_rt::test]
async fn the_title_says_what_is_wrong() {
    let board = Board::start("titles").await;
    with_browser(async |browser| {
        browser.goto(&board.page("tasks/")).await;
        browser.until("document.title.startsWith('all well')").await;
        board.scheduler.pause_all().await.unwrap();
        browser
            .until("document.title.startsWith('1 problem')")
            .await;
    })
    .await;
    board.end().await;
}
