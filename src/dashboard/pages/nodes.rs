//! The nodes, as rows of worker cells.
//!
//! Owns: what stands there. Does not know: what an action does.

use maud::{Markup, html};

use super::{Body, Reader, ago, live, name, raw, span, state, words};
use crate::dashboard::actions::Action;
use crate::dashboard::watch::Moment;
use crate::stats::{NodeState, NodeStats, Stats};

/// How many nodes one page shows.
const NODES: usize = 200;

/// How many cells a node has at most; of more workers each cell stands for several.
const CELLS: u32 = 60;

/// How many kinds and labels are named.
const NAMED: usize = 12;

/// Makes the page.
pub fn body(reader: &Reader, moment: &Moment) -> Body {
    let stats = &moment.snapshot.stats;
    let main = html! {
        h1 { "Nodes" }
        div.wide #nodes data-part="values" { (table(reader, moment)) }
        @if stats.nodes.len() > NODES {
            p { "The first " (NODES) " of " (stats.nodes.len()) " nodes are shown; "
                code { "api/nodes" } " has all." }
        }
    };
    Body {
        state: state(moment),
        main,
    }
}

/// Returns the names and cells of the first nodes.
pub fn cells_table(reader: &Reader, stats: &Stats, most: usize) -> Markup {
    if stats.nodes.is_empty() {
        return html! { p { "No node is named, and none has joined." } };
    }
    html! {
        table {
            thead { tr { th { "node" } th { "state" } th { "workers" } } }
            tbody {
                @for (at, node) in stats.nodes.iter().take(most).enumerate() {
                    tr {
                        th scope="row" { (name(&node.name)) (row_id(at, node)) }
                        td { (state_of(at, node)) }
                        td { (cells(at, node)) }
                    }
                }
            }
        }
        @if stats.nodes.len() > most {
            p { a href=(reader.link("nodes", &[])) {
                (stats.nodes.len() - most) " nodes more"
            } }
        }
    }
}

/// Tells the script which node a row is of, and in which state: with another one it has other
/// buttons, and the script makes the rows anew.
fn row_id(at: usize, node: &NodeStats) -> Markup {
    html! { span hidden data-live=(format!("node-{at}-{:?}-{}", node.state, node.name)) {} }
}

/// Returns the table of the first nodes.
pub fn table(reader: &Reader, moment: &Moment) -> Markup {
    let stats = &moment.snapshot.stats;
    if stats.nodes.is_empty() {
        return html! { p { "No node is named, and none has joined." } };
    }
    html! {
        table {
            thead {
                tr {
                    th { "node" } th { "state" } th { "workers" } th { "load" }
                    th { "link" } th.offers { "offers" } th.does { "does" }
                }
            }
            tbody {
                @for (at, node) in stats.nodes.iter().take(NODES).enumerate() {
                    tr data-node=(node.name) {
                        th scope="row" { (name(&node.name)) (row_id(at, node)) }
                        td { (state_of(at, node)) }
                        td { (cells(at, node)) }
                        td { (load(at, node)) }
                        td { (link(at, moment, node)) }
                        td.offers { (offers(node)) }
                        td.does { (hands(reader, node)) }
                    }
                }
            }
        }
    }
}

fn state_of(at: usize, node: &NodeStats) -> Markup {
    let (class, word) = match node.state {
        NodeState::Connecting => ("warning", "connecting"),
        NodeState::Up => ("good", "up"),
        NodeState::Draining => ("warning", "draining"),
        NodeState::Unreachable => ("warning", "unreachable"),
        NodeState::Lost => ("bad", "lost"),
    };
    html! {
        span data-live=(format!("state-{at}")) {
            b class=(class) { (word) }
            @if !node.reason.is_empty() { " " span.soft { (words(&node.reason, 300)) } }
        }
    }
}

/// Returns the cells of a node: what runs, what is taken by runs that were given up, what is idle,
/// and what was sent ahead.
fn cells(at: usize, node: &NodeStats) -> Markup {
    let all = node.workers.max(node.running + node.taken);
    let each = all.div_ceil(CELLS).max(1);
    let of = |workers: u32| workers.div_ceil(each).min(CELLS) as usize;
    let idle = all.saturating_sub(node.running + node.taken) / each;
    let cell = |class: &str, many: usize| format!(r#"<i class="cell {class}"></i>"#).repeat(many);
    let shown = [
        cell("busy", of(node.running)),
        cell("taken", of(node.taken)),
        cell("idle", idle.min(CELLS) as usize),
        cell("ahead", of(node.prefetched)),
    ];
    let told = format!(
        "{} of {} workers run, {} are taken, {} tasks were sent ahead",
        node.running, node.workers, node.taken, node.prefetched
    );
    html! {
        span.cells data-live=(format!("cells-{at}")) {
            span.cells role="img" aria-label=(told) title=(told) { (raw(shown.concat())) }
        }
        @if each > 1 { span.soft { "each is " (each) } }
    }
}

fn load(at: usize, node: &NodeStats) -> Markup {
    html! {
        (live(&format!("load-{at}"), format!("{} of {}", node.running, node.workers)))
        br;
        span.soft { (live(&format!("settled-{at}"), node.settled)) " settled" }
    }
}

fn link(at: usize, moment: &Moment, node: &NodeStats) -> Markup {
    let heard = node.last_heard.map(|heard| ago(heard, moment.at));
    html! {
        span data-live=(format!("heard-{at}")) {
            "heard " (heard.unwrap_or_else(|| "never".to_owned()))
        }
        br;
        span.soft data-live=(format!("trip-{at}")) {
            @if let Some(trip) = node.round_trip { "round trip " (span(trip)) }
            @if let Some(incarnation) = node.incarnation { " incarnation " (incarnation) }
        }
    }
}

fn offers(node: &NodeStats) -> Markup {
    html! {
        @for kind in node.kinds.iter().take(NAMED) { (name(kind.as_str())) " " }
        @if node.kinds.len() > NAMED { "and " (node.kinds.len() - NAMED) " more" }
        @if !node.labels.is_empty() {
            br;
            span.soft {
                "labels: "
                @for label in node.labels.iter().take(NAMED) { (name(label)) " " }
            }
        }
    }
}

fn hands(reader: &Reader, node: &NodeStats) -> Markup {
    let named = [("node", &*node.name)];
    let id = format!("workers of {}", words(&node.name, 60));
    html! {
        @if node.state == NodeState::Up {
            (reader.button(Action::Drain, "Drain", &named, "nodes"))
        }
        (reader.form(Action::Workers, &named, "nodes", html! {
            input type="number" name="workers" min="0" max="1000000" required
                value=(node.workers) aria-label=(id);
            button { "Set workers" }
        }))
        (reader.asks_twice(Action::Remove, "Remove", named[0]))
        @if matches!(node.state, NodeState::Lost | NodeState::Unreachable) {
            " " (reader.asks_twice(Action::DeclareDead, "Declare dead", named[0]))
        }
    }
}
