//! What every page has: its frame, and the parts of which pages are made.
//!
//! Owns: the frame, how links are written, and buttons. Does not know: what stands on each page.
//!
//! Whatever comes from outside is text: `maud` escapes it, and [`words`] shows the characters that
//! are not seen.

use std::fmt::Write;
use std::time::SystemTime;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Access;
use super::actions::Action;
use super::asked::Asked;
use super::assets::{self, Asset};
use super::guard;
use super::text::{ago, span, words};
use super::watch::Moment;
use super::wrong::Wrong;
use crate::task::TaskId;

pub mod confirm;
pub mod failures;
pub mod kinds;
mod life;
pub mod nodes;
pub mod overview;
pub mod task;
pub mod tasks;

/// How many letters of a name are shown.
const NAME: usize = 120;

/// The pages that the navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tab {
    Overview,
    Kinds,
    Nodes,
    Tasks,
    Failures,
}

impl Tab {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [
        Self::Overview,
        Self::Kinds,
        Self::Nodes,
        Self::Tasks,
        Self::Failures,
    ];

    /// Returns its address below the scope.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Overview => "",
            Self::Kinds => "kinds",
            Self::Nodes => "nodes",
            Self::Tasks => "tasks",
            Self::Failures => "failures",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Kinds => "Kinds",
            Self::Nodes => "Nodes",
            Self::Tasks => "Tasks",
            Self::Failures => "Failures",
        }
    }

    /// Returns whether it moves by itself. A search or a look into the store is made when somebody
    /// asks for it.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Overview | Self::Kinds | Self::Nodes)
    }

    /// Returns the tab with this address.
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tab| tab.path() == path)
    }
}

/// For whom a page is made.
#[derive(Clone, Debug)]
pub struct Reader {
    pub access: Access,
    /// What stands before every address: what leads from the page to the scope.
    pub base: String,
    /// What stands behind every address: the scheduler, if it is not the first.
    pub scheduler: Option<String>,
    /// `None` in what is sent to many; the page puts its own in.
    pub token: Option<String>,
}

impl Reader {
    /// Returns for whom the page of a request is made.
    pub fn of(asked: &Asked<'_>) -> Self {
        let tail = asked.req.match_info().unprocessed();
        Self {
            access: asked.access,
            base: base(asked.req.uri().path(), tail),
            scheduler: asked.query.text("scheduler").map(str::to_owned),
            token: Some(guard::token(&asked.user(), SystemTime::now())),
        }
    }

    /// Returns an address below the scope, with these fields.
    pub fn link(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let mut address = format!("{}{path}", self.base);
        if address.is_empty() {
            address.push_str("./");
        }
        let scheduler = self.scheduler.as_deref().map(|name| ("scheduler", name));
        let all = fields.iter().copied().chain(scheduler);
        for ((name, value), mark) in all.zip(std::iter::once('?').chain(std::iter::repeat('&'))) {
            let _ = write!(address, "{mark}{name}=");
            quote(&mut address, value);
        }
        address
    }

    fn asset(&self, asset: &Asset) -> String {
        self.link(asset.path, &[("v", asset.mark())])
    }

    /// Returns a button that acts, for those who may press it. It leads back to a page.
    pub fn button(
        &self,
        action: Action,
        label: &str,
        fields: &[(&str, &str)],
        back: &str,
    ) -> Markup {
        self.form(action, fields, back, html! { button { (label) } })
    }

    /// Returns a form that acts, for those who may send it.
    pub fn form(
        &self,
        action: Action,
        fields: &[(&str, &str)],
        back: &str,
        inner: Markup,
    ) -> Markup {
        if self.access < action.least() {
            return html! {};
        }
        let address = self.link(&format!("act/{}", action.name()), &[]);
        html! {
            form method="post" action=(address) data-action=(action.name()) {
                input type="hidden" name="token" value=(self.token.as_deref().unwrap_or(""));
                input type="hidden" name="back" value=(back);
                @for (name, value) in fields {
                    input type="hidden" name=(name) value=(value);
                }
                (inner)
            }
        }
    }

    /// Returns a link to a page that asks once more, for those who may do it then.
    pub fn asks_twice(&self, action: Action, label: &str, field: (&str, &str)) -> Markup {
        if self.access < action.least() {
            return html! {};
        }
        let address = self.link("confirm", &[("action", action.name()), field]);
        html! { a.button href=(address) data-action=(action.name()) { (label) } }
    }
}

/// Returns what leads from a path to the scope, whose part of the path is all before `tail`. A
/// browser takes a relative address from the last slash on.
pub fn base(path: &str, tail: &str) -> String {
    match tail.matches('/').count() {
        // The address of the scope itself, without a final slash.
        0 => match path.rsplit('/').next() {
            Some(last) if !last.is_empty() => format!("./{last}/"),
            _ => String::new(),
        },
        slashes => "../".repeat(slashes - 1),
    }
}

/// Writes a value so that it can stand in an address.
fn quote(to: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

/// Returns a name, in a direction of its own.
pub fn name(text: &str) -> Markup {
    html! { bdi { (words(text, NAME)) } }
}

/// Returns the state of a scheduler in a few words, for a title.
pub fn state(moment: &Moment) -> String {
    match moment.problems.len() {
        0 => "all well".to_owned(),
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    }
}

/// Which page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One that the navigation leads to.
    Tab(Tab),
    /// That of a task.
    Task(TaskId),
    /// One that is made for this request alone.
    Apart,
}

impl Place {
    /// Returns where its content comes from anew, if it moves by itself.
    fn live(self, reader: &Reader) -> Option<String> {
        let base = ("base", reader.base.as_str());
        match self {
            Self::Tab(tab) if tab.is_live() => {
                Some(reader.link("live", &[("page", tab.path()), base]))
            }
            Self::Task(id) => {
                let id = id.get().to_string();
                Some(reader.link("live", &[("page", "task"), ("id", &id), base]))
            }
            Self::Tab(_) | Self::Apart => None,
        }
    }
}

/// A page without its frame.
pub struct Body {
    /// What the title begins with.
    pub state: String,
    pub main: Markup,
}

/// Answers with a page.
pub fn page(asked: &Asked<'_>, reader: &Reader, place: Place, body: &Body) -> HttpResponse {
    framed(asked, reader, place, body, StatusCode::OK)
}

/// Answers a form or a page that was not served.
pub fn wrong(asked: &Asked<'_>, wrong: &Wrong) -> HttpResponse {
    let reader = Reader::of(asked);
    let body = Body {
        state: "not done".to_owned(),
        main: html! {
            h1 { "This was not done" }
            p.bad { (words(&wrong.words, 1000)) }
            p { a href=(reader.link("", &[])) { "To the overview" } }
        },
    };
    framed(asked, &reader, Place::Apart, &body, wrong.status)
}

fn framed(
    asked: &Asked<'_>,
    reader: &Reader,
    place: Place,
    body: &Body,
    status: StatusCode,
) -> HttpResponse {
    let scheduler = asked.watch.name();
    let title = asked.board.title.as_ref();
    let live = place.live(reader);
    let note = asked.query.number("note").ok().flatten();
    let note = note.and_then(|note| asked.watch.noted(note));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="callboard-token" content=(reader.token.as_deref().unwrap_or(""));
                title {
                    (body.state) " \u{2013} " (words(scheduler, NAME))
                    @if let Some((title, _)) = title { " \u{2013} " (words(title, NAME)) }
                }
                link rel="stylesheet" href=(reader.asset(&assets::STYLE));
                script defer src=(reader.asset(&assets::SCRIPT)) {}
            }
            body data-live=[live.as_ref()] {
                a.skip href="#main" { "To the content" }
                header class=(title.map_or("grey", |(_, colour)| colour.class())) {
                    @if let Some((title, _)) = title { strong.environment { (words(title, NAME)) } }
                    span.scheduler { (name(scheduler)) }
                    (others(asked, reader))
                    span #live role="status" {
                        @if live.is_some() { "reload to see what is new" }
                        @else { "as of now, not live: reload to see what is new" }
                    }
                }
                nav aria-label="Pages" {
                    @for to in Tab::ALL {
                        a href=(reader.link(to.path(), &[]))
                          aria-current=[(place == Place::Tab(to)).then_some("page")] { (to.title()) }
                    }
                }
                @if let Some(note) = note { p.note role="status" { (words(&note, 1000)) } }
                main #main { (body.main) }
            }
        }
    };
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .body(page.into_string())
}

/// Returns links to the other schedulers.
fn others(asked: &Asked<'_>, reader: &Reader) -> Markup {
    if asked.board.watches.len() < 2 {
        return html! {};
    }
    html! {
        ul.schedulers aria-label="Schedulers" {
            @for watch in &asked.board.watches {
                @let other = watch.name();
                @let to = Reader { scheduler: Some(other.to_owned()), ..reader.clone() };
                li { a href=(to.link("", &[])) { (name(other)) } }
            }
        }
    }
}

/// Returns a cell of a table that the script writes anew when it changes.
pub fn live(id: &str, value: impl std::fmt::Display) -> Markup {
    html! { span data-live=(id) { (value.to_string()) } }
}

/// Returns nothing, or what is given: for attributes that are made by hand.
pub fn raw(text: String) -> Markup {
    PreEscaped(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_leads_back_to_the_scope() {
        for (path, tail, expected) in [
            ("/tasks", "", "./tasks/"),
            ("/tasks/", "/", ""),
            ("/tasks/nodes", "/nodes", ""),
            ("/tasks/nodes/", "/nodes/", "../"),
            ("/tasks/act/pause", "/act/pause", "../"),
            ("/a:b", "", "./a:b/"),
            // Mounted at the root.
            ("/", "/", ""),
        ] {
            assert_eq!(base(path, tail), expected, "{path}");
        }
    }

    #[test]
    fn a_hostile_name_is_seen_as_what_it_is() {
        let shown = name("<script>\"'").into_string();
        assert_eq!(shown, "<bdi>&lt;script&gt;&quot;'</bdi>");
    }

    #[test]
    fn what_stands_in_an_address_is_quoted() {
        let reader = Reader {
            access: Access::Read,
            base: String::new(),
            scheduler: Some("a&b".to_owned()),
            token: None,
        };
        assert_eq!(reader.link("", &[]), "./?scheduler=a%26b");
        let link = reader.link("kinds", &[("kind", "\u{e9} =")]);
        assert_eq!(link, "kinds?kind=%C3%A9%20%3D&scheduler=a%26b");
    }
}
