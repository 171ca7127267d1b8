//! Whether all is well, for what asks regularly.
//!
//! Owns: what counts as well, in one word for everybody and at length for those who may read. Does
//! not know: who asks.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::{Value, json};

use super::{Access, Board};
use crate::stats::{NodeState, Stats, StoreState};

/// Answers for all schedulers at once: 200 if each of them runs and can take tasks in, 503 if not.
pub async fn answer(board: &Board, access: Access) -> HttpResponse {
    let mut worst = "ok";
    let mut all = Vec::new();
    for watch in &board.watches {
        let name = watch.name();
        let (word, told) = match watch.moment().await {
            Ok(moment) => {
                let word = word_of(&moment.snapshot.stats);
                let mut told = told(&moment.snapshot.stats);
                told["problems"] = json!(moment.problems);
                (word, told)
            }
            Err(wrong) => ("stopped", json!({ "reason": wrong.words })),
        };
        if word != "ok" {
            worst = word;
        }
        let mut one = json!({ "scheduler": name, "status": word });
        if let (Some(one), Value::Object(told)) = (one.as_object_mut(), told) {
            one.extend(told);
        }
        all.push(one);
    }
    let body = if access >= Access::Read {
        json!({ "status": worst, "schedulers": all })
    } else {
        json!({ "status": worst })
    };
    let status = match worst {
        "ok" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    HttpResponse::build(status).json(body)
}

fn word_of(stats: &Stats) -> &'static str {
    let failing = stats
        .store
        .as_ref()
        .is_some_and(|store| store.state != StoreState::Healthy);
    if failing { "failing" } else { "ok" }
}

fn told(stats: &Stats) -> Value {
    let up = stats.nodes.iter().filter(|it| it.state == NodeState::Up);
    json!({
        "nodes": stats.nodes.len(),
        "nodes_up": up.count(),
        "pending": stats.pending,
        "running": stats.running,
        "store": stats.store.as_ref().map(|store| &store.state),
    })
}
