//! What WebDriver has no command for: the size of the page, its colours, keys.
//!
//! Owns: the commands of the developer tools, which the driver passes on. Does not know: what is
//! looked at.

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use serde_json::{Value, json};
use url::{ParseError, Url};

use crate::Browser;

/// A command of the Chrome DevTools Protocol.
#[derive(Debug)]
struct Command(Value);

impl WebDriverCompatibleCommand for Command {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.0.to_string()))
    }
}

impl Browser {
    async fn tell(&self, command: &str, params: Value) {
        let command = Command(json!({ "cmd": command, "params": params }));
        let told = self.client.issue_cmd(command).await;
        told.expect("the browser does it");
    }

    /// Makes the page look as on a screen of this size, without bars to scroll.
    pub async fn size(&self, width: u64, height: u64) {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true,
        });
        self.tell("Emulation.setDeviceMetricsOverride", params)
            .await;
        self.until(&format!("screen.width === {width}")).await;
    }

    /// Takes a picture of the page from its top to the end of this part.
    pub async fn whole_picture(&self, width: u64, to: &str, name: &str) {
        self.size(width, 800).await;
        let end = format!("document.querySelector('{to}').getBoundingClientRect().bottom");
        let end = self
            .value(&format!("Math.ceil({end} + window.scrollY)"))
            .await;
        self.size(width, end.as_u64().expect("a height") + 20).await;
        self.picture(name).await;
    }

    /// Prefers this scheme of colours: `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let params = json!({ "features": [feature] });
        self.tell("Emulation.setEmulatedMedia", params).await;
        let prefers = format!("window.matchMedia('(prefers-color-scheme: {scheme})').matches");
        self.until(&prefers).await;
    }

    /// Presses these keys, one after the other.
    pub async fn press(&self, keys: &str) {
        let mut presses = KeyActions::new("keyboard".to_owned());
        for value in keys.chars() {
            presses = presses.then(KeyAction::Down { value });
            presses = presses.then(KeyAction::Up { value });
        }
        let pressed = self.client.perform_actions(presses).await;
        pressed.expect("the keys can be pressed");
    }

    /// Presses the key that leads to the next control.
    pub async fn tab(&self) {
        self.press(&Key::Tab).await;
    }

    /// Presses the key that uses a control.
    pub async fn enter(&self) {
        self.press(&Key::Enter).await;
    }
}
