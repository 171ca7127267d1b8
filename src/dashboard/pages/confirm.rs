//! The page that asks once more before something that is hard to take back.
//!
//! Owns: what it says of each. Does not know: how it is done.

use maud::html;

use super::{Body, Reader, name};
use crate::dashboard::actions::Action;
use crate::dashboard::asked::Asked;
use crate::dashboard::text::counted;
use crate::dashboard::watch::Moment;
use crate::dashboard::wrong::Wrong;
use crate::stats::NodeStats;

/// Makes the page.
///
/// # Errors
///
/// There is nothing to be asked, or the asker may not do it.
pub fn body(asked: &Asked<'_>, reader: &Reader, moment: &Moment) -> Result<Body, Wrong> {
    let action = Action::named(asked.query.required("action")?);
    let action = action.ok_or_else(|| Wrong::not_found("there is no such action"))?;
    if asked.access < action.least() {
        return Err(Wrong::forbidden(
            "this needs more access than the application gives to this request",
        ));
    }
    let wanted = asked.query.required("node")?;
    let node = moment
        .snapshot
        .stats
        .nodes
        .iter()
        .find(|it| *it.name == *wanted);
    let node = node.ok_or_else(|| Wrong::not_found(format_args!("no node is named {wanted:?}")))?;
    let (title, says, label) = match action {
        Action::Remove => ("Remove a node", removal(node), "Remove the node"),
        Action::DeclareDead => ("Declare a node dead", death(node), "It is dead"),
        _ => return Err(Wrong::request("this is done without being asked twice")),
    };
    let fields = [("node", wanted)];
    let main = html! {
        h1 { (title) ": " (name(wanted)) }
        @for line in says { p { (line) } }
        (reader.form(action, &fields, "nodes", html! { button.sure { (label) } }))
        p { a href=(reader.link("nodes", &[])) { "Leave it as it is" } }
    };
    Ok(Body {
        state: title.to_owned(),
        main,
    })
}

fn removal(node: &NodeStats) -> Vec<String> {
    vec![
        format!(
            "{} there and {} sent ahead: they go elsewhere at once and may run \
             twice, the exclusive ones when nothing of them can still run.",
            counted(node.running.into(), "task runs", "tasks run"),
            counted(node.prefetched.into(), "was", "were")
        ),
        "The node is told to leave. To let it finish what runs, drain it instead.".to_owned(),
    ]
}

fn death(node: &NodeStats) -> Vec<String> {
    vec![
        format!(
            "You give your word that no process of this node is alive. It frees {} workers, and \
             what waits for the end of a run there goes on at once: exclusive tasks, keys and \
             limits.",
            node.running + node.taken
        ),
        "If the process lives after all, an exclusive task may run twice at once.".to_owned(),
    ]
}
