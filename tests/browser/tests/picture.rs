//! The picture of the README.
//!
//! Owns: when the dashboard is worth a picture, and where that goes. Does not know: how a page is
//! made.
//!
//! ```sh
//! cargo test --manifest-path tests/browser/Cargo.toml --test picture -- --ignored picture
//! ```

use callboard_browser::{shop, with_browser};

/// How wide it is.
const WIDTH: u64 = 1280;

/// The README is read over slow lines, too.
const MOST_BYTES: usize = 200_000;

#[actix_rt::test]
#[ignore = "makes the picture of the README"]
async fn picture() {
    let board = shop::start().await;
    let busy = shop::keep_busy(&board);
    with_browser(async |browser| {
        browser.prefer("light").await;
        browser.goto(&board.page("tasks/")).await;
        browser.until_live().await;
        let line = "document.querySelector('#plots-Minutes polyline').getAttribute('points')";
        let points = format!("{line}.trim().split(' ').length");
        // In steps, each shorter than a script may take. With a sixtieth the plot has room for
        // three minutes.
        for step in [20, 40, 55] {
            if step == 40 {
                board.scheduler.mark("v2.4.1");
            }
            browser.until(&format!("{points} >= {step}")).await;
        }
        // Some wait, as at each peak: the last one is now.
        browser
            .until("document.querySelectorAll('#due tbody tr').length >= 2")
            .await;
        browser.whole_picture(WIDTH, ".side", "dashboard").await;
        let wrong = "document.querySelectorAll('.problems li').length";
        assert_eq!(
            browser.value(wrong).await,
            0,
            "something is wrong with the shop"
        );
    })
    .await;
    drop(busy);
    board.end().await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let picture = std::fs::read(root.join("target/browser-pictures/dashboard.png"));
    let picture = picture.expect("it was taken");
    assert!(picture.len() <= MOST_BYTES, "{} bytes", picture.len());
    std::fs::write(root.join("docs/dashboard.png"), picture).expect("it can be written");
}
