//! Messages in few words, for a reader of a trace.
//!
//! Owns: the wording. Does not know: anything else.

use std::fmt::Write;

use callboard::__internals::engine::message::{End, HeldRun, Report, ToNode, ToScheduler};

pub fn to_node(message: &ToNode) -> String {
    match message {
        ToNode::Assign(assignments) => {
            let mut text = "assign".to_owned();
            for it in assignments {
                let prefetched = if it.prefetched { " prefetched" } else { "" };
                let _ = write!(
                    text,
                    " {}{}(try {}{prefetched})",
                    it.task, it.dispatch, it.attempt
                );
            }
            text
        }
        other => format!("{other:?}"),
    }
}

pub fn to_scheduler(message: &ToScheduler) -> String {
    match message {
        ToScheduler::Reports(reports) => {
            let reports: Vec<String> = reports.iter().map(report).collect();
            format!("reports {}", reports.join(", "))
        }
        ToScheduler::Holding(holding) => {
            let runs: Vec<String> = holding.runs.iter().map(held).collect();
            let reports: Vec<String> = holding.reports.iter().map(report).collect();
            format!(
                "holding {} | {} last={}",
                runs.join(" "),
                reports.join(", "),
                holding.last
            )
        }
        ToScheduler::Hello(hello) => {
            format!(
                "hello {} {:?} workers={} draining={} probe={:?}",
                hello.node, hello.incarnation, hello.workers, hello.draining, hello.probe
            )
        }
        other => format!("{other:?}"),
    }
}

fn held(run: &HeldRun) -> String {
    format!("{}{}:{:?}", run.task, run.dispatch, run.state)
}

fn report(report: &Report) -> String {
    match report {
        Report::Ended {
            seq,
            task,
            dispatch,
            end,
            overrun,
            ..
        } => {
            let end = match end {
                End::Completed(_) => "completed".to_owned(),
                End::Again { after, .. } => format!("again after {after:?}"),
                other => format!("{other:?}"),
            };
            let overrun = if *overrun { " overrun" } else { "" };
            format!("({seq}) {task}{dispatch} {end}{overrun}")
        }
        other => format!("{other:?}"),
    }
}

/// Returns the number of workers that a message sets.
pub fn workers_said(message: &ToNode) -> Option<u32> {
    match message {
        ToNode::Workers(workers) => Some(*workers),
        ToNode::Welcome(welcome) => welcome.workers,
        _ => None,
    }
}
