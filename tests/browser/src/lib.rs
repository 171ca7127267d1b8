//! A browser, and a dashboard for it to look at.
//!
//! Owns: how both are started and ended, and how a test waits for what a page shows. Does not
//! know: what must be seen there.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub mod board;
mod devtools;
pub mod shop;

/// How long a page may take to show what it should.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often the driver is started before it counts as broken.
const TRIES: usize = 10;

/// A browser with one window, and its driver.
pub struct Browser {
    pub client: Client,
    _driver: Child,
    _profile: tempfile::TempDir,
}

/// Opens a browser, does this with it, and closes it, whatever comes of it.
pub async fn with_browser(act: impl AsyncFnOnce(&Browser)) {
    let browser = Browser::open().await;
    let ended = AssertUnwindSafe(act(&browser)).catch_unwind().await;
    // Before its driver is dropped, which would leave it behind.
    let closed = browser.client.clone().close().await;
    closed.expect("the browser closes");
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

impl Browser {
    async fn open() -> Self {
        let (driver, port) = start_driver().await;
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let options = json!({
            "args": [
                "--headless=new",
                // It runs as root in a container, and shows nothing but this page.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--window-size=1280,1400",
                format!("--user-data-dir={}", profile.path().display()),
            ],
        });
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        let timeouts = json!({ "script": PATIENCE.as_millis() as u64 });
        capabilities.insert("timeouts".to_owned(), timeouts);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a session of the browser");
        Self {
            client,
            _driver: driver,
            _profile: profile,
        }
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    /// Waits until an expression of JavaScript holds in the page.
    pub async fn until(&self, condition: &str) {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const look = () => ({condition}) ? done(true) : setTimeout(look, 20);
             look();"
        );
        let held = self.client.execute_async(&script, Vec::new()).await;
        if let Err(error) = held {
            let shown = self.client.source().await.unwrap_or_default();
            panic!("it never holds that {condition}: {error}\n{shown}");
        }
    }

    /// Returns what an expression of JavaScript gives in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        let value = self.client.execute(&script, Vec::new()).await;
        value.expect("the expression can be evaluated")
    }

    /// Returns what a promise of JavaScript resolves to in the page.
    pub async fn resolved(&self, promise: &str) -> Value {
        let script = format!("({promise}).then(arguments[arguments.length - 1]);");
        let value = self.client.execute_async(&script, Vec::new()).await;
        value.expect("the promise resolves")
    }

    pub async fn click(&self, css: &str) {
        let wait = self.client.wait().at_most(PATIENCE);
        let found = wait.for_element(Locator::Css(css)).await;
        let found = found.unwrap_or_else(|error| panic!("{css} is not there: {error}"));
        found.click().await.expect("it can be clicked");
    }

    /// Waits until the page says that it is live.
    pub async fn until_live(&self) {
        self.until("document.getElementById('live').textContent === 'live'")
            .await;
    }

    /// Takes a picture for a person to look at.
    pub async fn picture(&self, name: &str) {
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let folder = target.join("browser-pictures");
        std::fs::create_dir_all(&folder).expect("a directory for pictures");
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(folder.join(format!("{name}.png")), picture).expect("it can be written");
    }
}

/// Starts the driver; returns it and the port at which it listens.
///
/// It takes a free port of IPv4, and ends at once if that of IPv6 is not free too. So it is tried
/// again.
async fn start_driver() -> (Child, u16) {
    let mut said = Vec::new();
    for _ in 0..TRIES {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is installed, as by Debian's chromium-driver");
        let stdout = driver.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.expect("its output can be read") {
            let port = line.split_once("started successfully on port ");
            if let Some((_, port)) = port {
                let port = port.trim_end_matches('.').parse().expect("a port");
                // Its pipe stays open, or it would end at its next line.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return (driver, port);
            }
            said.push(line);
        }
    }
    panic!("chromedriver does not start: {said:#?}");
}
