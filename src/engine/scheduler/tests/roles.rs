//! What a node may say is only what it was asked for. Anything else closes its link, is counted,
//! and disturbs nothing else.

use std::time::Duration;

use bytes::Bytes;

use super::{Board, STOPS};
use crate::config::{FRAME_OVERHEAD, SchedulerConfig};
use crate::engine::message::{
    Beat, End, HeldRun, HeldState, Holding, MAX_NOTE_BYTES, MAX_PROGRESS_BYTES, NodeHello, Report,
    ToScheduler,
};
use crate::engine::{Action, Event, LinkId, Note, Origin, Reach};
use crate::payload::Payload;
use crate::stats::NodeState;
use crate::task::{Dispatch, TaskId};
use crate::trail::TaskTrail;

/// An honest node with a task of its own, and the link of one that is about to break the protocol.
struct Stage {
    board: Board,
    honest: LinkId,
    task: TaskId,
    evil: LinkId,
}

impl Stage {
    fn new() -> Self {
        let mut board = Board::new();
        let honest = board.join("honest", 1, Vec::new());
        let task = board.submit(STOPS);
        assert_eq!(board.assignment(task).0, honest);
        let evil = board.join("evil", 2, Vec::new());
        Self {
            board,
            honest,
            task,
            evil,
        }
    }

    fn run(&self) -> Dispatch {
        self.board.assignment(self.task).1.dispatch
    }

    /// Says it, and sees what comes of it.
    fn breaks_by(mut self, message: ToScheduler, words: &str) {
        let evil = self.evil;
        self.board.say(evil, message);
        self.was_a_breach(words, 1);
    }

    fn was_a_breach(mut self, words: &str, of_the_node: u64) {
        let closed = std::mem::take(&mut self.board.closed);
        let [(link, reason)] = &closed[..] else {
            panic!("one link is closed, not {closed:?}");
        };
        assert_eq!(*link, self.evil);
        assert!(reason.contains(words), "{reason}");
        let stats = self.board.machine.stats(self.board.now);
        assert_eq!(stats.totals.violations, 1);
        for node in &stats.nodes {
            let (state, violations) = match &*node.name {
                "honest" => (NodeState::Up, 0),
                _ => (node.state, of_the_node),
            };
            assert_eq!((node.state, node.violations), (state, violations));
        }
        assert_eq!(self.board.machine.check(), Ok(()));
        // The honest node's task is where it was, and ends as it says.
        assert_eq!(stats.running, 1);
        let output = Payload::from(b"done");
        let run = self.board.assignment(self.task).1;
        self.board
            .end_of(self.honest, &run, End::Completed(output.clone()), false);
        let [status] = &self.board.told[..] else {
            panic!("one ending, not {:?}", self.board.told);
        };
        assert_eq!(status.output::<Bytes>(), Ok(output.into_bytes()));
        assert_eq!(
            self.board.machine.stats(self.board.now).totals.violations,
            1
        );
    }
}

fn reports(report: Report) -> ToScheduler {
    ToScheduler::Reports(vec![report])
}

fn ended(task: TaskId, dispatch: Dispatch) -> Report {
    Report::Ended {
        seq: 1,
        task,
        dispatch,
        end: End::Completed(Payload::from(b"lie")),
        ran: Duration::from_millis(1),
        overrun: false,
    }
}

#[test]
fn g11_a_node_that_reports_what_another_runs_loses_its_link_alone() {
    let about = |told: fn(TaskId, Dispatch) -> Report| {
        let stage = Stage::new();
        let message = reports(told(stage.task, stage.run()));
        stage.breaks_by(message, "another node has");
    };
    about(ended);
    about(|task, dispatch| Report::Started { task, dispatch });
    about(|task, dispatch| Report::Returned {
        seq: 1,
        task,
        dispatch,
    });
    about(|task, dispatch| Report::Progress {
        task,
        dispatch,
        value: Payload::new(),
    });
    about(|task, dispatch| Report::Note {
        task,
        dispatch,
        text: "here".into(),
    });
    about(|task, dispatch| Report::Freed {
        seq: 1,
        task,
        dispatch,
    });
}

#[test]
fn g11_a_run_of_its_own_under_another_task_is_a_breach() {
    let mut stage = Stage::new();
    let own = (0..2).find_map(|_| {
        let task = stage.board.submit(STOPS);
        let (link, run) = stage.board.assignment(task);
        (link == stage.evil).then_some(run)
    });
    let run = own.expect("the evil node has a task");
    let lie = Report::Ended {
        seq: 1,
        task: stage.task,
        dispatch: run.dispatch,
        end: End::Stopped,
        ran: Duration::from_millis(1),
        overrun: true,
    };
    stage.board.say(stage.evil, reports(lie));
    assert_eq!(stage.board.machine.unknown_runs.count(), 0);
    assert_eq!(stage.board.machine.check(), Ok(()));
    let (link, reason) = &stage.board.closed[0];
    assert_eq!(*link, stage.evil);
    assert!(reason.contains("under another task"), "{reason}");
}

#[test]
fn g11_a_stall_accuses_no_task_that_its_node_never_had() {
    let mut stage = Stage::new();
    for (link, named) in [(stage.honest, Some(stage.task)), (stage.evil, None)] {
        let stalled = Report::Stalled {
            workers: 1,
            task: Some(stage.task),
        };
        let message = reports(stalled);
        let now = stage.board.now;
        let event = Event::Message { link, message };
        stage.board.machine.handle(now, event);
        let note = stage.board.machine.actions.iter().find_map(|it| match it {
            Action::Note(note) => match &**note {
                Note::NodeStalled { task, .. } => Some(task.as_ref().map(|(task, _)| *task)),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(note, Some(named));
        stage.board.settle_down();
    }
}

#[test]
fn g7_a_stall_is_noted_when_it_begins_with_its_task_and_kind_and_not_when_its_handler_ends() {
    let mut stage = Stage::new();
    let (task, run) = (stage.task, stage.run());
    let stalled = |workers, task| Report::Stalled { workers, task };
    let mut notes = |report: Report| {
        let (link, now) = (stage.honest, stage.board.now);
        let message = reports(report);
        stage
            .board
            .machine
            .handle(now, Event::Message { link, message });
        let actions = std::mem::take(&mut stage.board.machine.actions);
        let tasks = actions.into_iter().filter_map(|it| match it {
            Action::Note(note) => match *note {
                Note::NodeStalled { task, .. } => Some(task),
                _ => None,
            },
            _ => None,
        });
        tasks.collect::<Vec<_>>()
    };
    // The only worker of its thread is occupied, so that none is free and stalled.
    let blamed = Some((task, STOPS.into()));
    assert_eq!(notes(stalled(0, Some(task))), [blamed]);
    // Its handler ends, and its worker is free before its thread has answered.
    assert_eq!(notes(ended(task, run)), []);
    assert_eq!(notes(stalled(1, Some(task))), []);
    assert_eq!(notes(stalled(0, None)), []);
    // Another one, whose task is not known.
    assert_eq!(notes(stalled(1, None)), [None]);
}

#[test]
fn g11_who_has_not_said_hello_breaks_no_rule_in_the_name_of_the_node_that_was_dialled() {
    let mut board = Board::new();
    let reach = Reach::Dial("there".to_owned());
    let node = board.machine.add_node(board.now, "honest".into(), reach);
    let origin = Origin::Dialled(node.expect("the name is free"));
    let link = LinkId(1);
    board.event(Event::LinkOpened {
        link,
        origin,
        peer: String::new(),
    });
    let reason = "no frame".to_owned();
    board.event(Event::Malformed { link, reason });
    let stats = board.machine.stats(board.now);
    assert_eq!(stats.totals.violations, 1);
    assert_eq!(stats.nodes[0].violations, 0);
}

#[test]
fn g11_a_node_that_holds_what_another_runs_loses_its_link_alone() {
    let mut stage = Stage::new();
    let runs = vec![HeldRun {
        task: stage.task,
        dispatch: stage.run(),
        state: HeldState::Running,
    }];
    stage.board.cut(stage.evil);
    stage.evil = stage.board.join("evil", 2, runs);
    stage.was_a_breach("another node has", 1);
}

#[test]
fn g11_a_run_that_was_never_assigned_is_a_breach() {
    for number in [0, 2, u64::MAX] {
        let stage = Stage::new();
        let task = stage.task;
        let message = reports(ended(task, Dispatch::new(number)));
        stage.breaks_by(message, "never assigned");
        let freed = Report::Freed {
            seq: 1,
            task,
            dispatch: Dispatch::new(number),
        };
        Stage::new().breaks_by(reports(freed), "never assigned");
    }
}

#[test]
fn g11_beats_out_of_order_are_a_breach() {
    for (number, answered) in [(0, 0), (1, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        let beat = Beat {
            number,
            answered,
            round_trip: None,
        };
        Stage::new().breaks_by(ToScheduler::Beat(beat), "out of order");
    }
    let mut stage = Stage::new();
    let beat = Beat {
        number: u64::MAX,
        answered: 0,
        round_trip: None,
    };
    stage.board.say(stage.evil, ToScheduler::Beat(beat));
    stage.breaks_by(ToScheduler::Beat(beat), "out of order");
}

#[test]
fn g11_what_comes_out_of_turn_is_a_breach() {
    let mut stage = Stage::new();
    let hello = stage.board.hello("evil", 2);
    stage.breaks_by(
        ToScheduler::Hello(Box::new(hello)),
        "a hello while the link was up",
    );

    let holding = ToScheduler::Holding(Holding::default());
    Stage::new().breaks_by(holding, "what it holds while the link was up");

    for early in [
        ToScheduler::Goodbye,
        ToScheduler::Beat(Beat {
            number: 1,
            answered: 0,
            round_trip: None,
        }),
        reports(Report::Ready),
        ToScheduler::Holding(Holding::default()),
    ] {
        let mut stage = Stage::new();
        // It has not said its name, so the breach is nobody's.
        stage.evil = stage.board.open();
        stage.board.say(stage.evil, early);
        stage.was_a_breach("waiting for its hello", 0);
    }
}

#[test]
fn g11_a_holding_without_an_end_is_waited_for_and_holds_up_nobody() {
    let mut stage = Stage::new();
    stage.board.cut(stage.evil);
    stage.evil = stage.board.open();
    let hello = stage.board.hello("evil", 2);
    stage
        .board
        .say(stage.evil, ToScheduler::Hello(Box::new(hello)));
    for _ in 0..100 {
        stage
            .board
            .say(stage.evil, ToScheduler::Holding(Holding::default()));
    }
    assert!(stage.board.closed.is_empty());
    let held = stage.board.submit(STOPS);
    assert_eq!(stage.board.assignment(held).0, stage.honest);
    stage.board.end(held, End::Completed(Payload::new()), false);
    assert_eq!(stage.board.told.len(), 1);
    // Silent, it is closed, which is no breach.
    stage.board.wait(Duration::from_secs(6));
    let closed = stage
        .board
        .closed
        .iter()
        .find(|closed| closed.0 == stage.evil);
    assert!(closed.is_some_and(|(_, reason)| reason.contains("silent")));
    let totals = stage.board.machine.stats(stage.board.now).totals;
    assert_eq!(totals.violations, 0);
}

#[test]
fn g11_a_node_that_drains_cannot_take_it_back() {
    let mut stage = Stage::new();
    stage.board.say(stage.evil, reports(Report::Draining));
    stage.breaks_by(reports(Report::Ready), "though it drains");
}

#[test]
fn g11_a_progress_or_a_note_beyond_its_bound_is_a_breach() {
    for note in [false, true] {
        let mut stage = Stage::new();
        let task = stage.board.submit(STOPS);
        let (link, run) = stage.board.assignment(task);
        assert_eq!(link, stage.evil, "the least loaded");
        let dispatch = run.dispatch;
        let report = if note {
            let text = "x".repeat(MAX_NOTE_BYTES + 1).into();
            Report::Note {
                task,
                dispatch,
                text,
            }
        } else {
            let value = vec![0; MAX_PROGRESS_BYTES + 1].into();
            Report::Progress {
                task,
                dispatch,
                value,
            }
        };
        stage.board.say(stage.evil, reports(report));
        let stats = stage.board.machine.stats(stage.board.now);
        assert_eq!(stats.totals.violations, 1);
        assert_eq!(stage.board.closed.len(), 1);
        assert_eq!(stage.board.machine.trail(task), TaskTrail::default());
    }
}

#[test]
fn g11_what_cannot_be_read_is_counted_once() {
    let mut stage = Stage::new();
    let (link, reason) = (stage.evil, "no kind of frame".to_owned());
    stage.board.event(Event::Malformed { link, reason });
    let reason = "closed".to_owned();
    stage.board.event(Event::LinkClosed { link, reason });
    stage.was_a_breach("no kind of frame", 1);
}

#[test]
fn g11_a_hello_that_is_out_of_bounds_is_a_breach_of_nobody() {
    let mut stage = Stage::new();
    stage.evil = stage.board.open();
    let mut hello = stage.board.hello("", 2);
    hello.node = String::new();
    stage
        .board
        .say(stage.evil, ToScheduler::Hello(Box::new(hello)));
    stage.was_a_breach("its name is empty", 0);
}

#[test]
fn g11_a_name_that_could_forge_a_line_of_a_log_is_a_breach() {
    let forged = "evil\n2026-11-24 WARN all is well";
    for change in [
        |hello: &mut NodeHello, forged: &str| hello.node = forged.to_owned(),
        |hello: &mut NodeHello, forged: &str| hello.kinds[0].kind = forged.to_owned(),
        |hello: &mut NodeHello, forged: &str| hello.labels = [forged.to_owned()].into(),
    ] {
        let mut board = Board::new();
        let mut hello = board.hello("other", 3);
        change(&mut hello, forged);
        let link = board.open();
        board.say(link, ToScheduler::Hello(Box::new(hello)));
        let [(closed, reason)] = &board.closed[..] else {
            panic!("one link is closed, not {:?}", board.closed);
        };
        assert_eq!(*closed, link);
        assert!(!reason.contains('\n'), "{reason}");
        let stats = board.machine.stats(board.now);
        assert_eq!((stats.totals.violations, stats.nodes.len()), (1, 0));
    }
}

#[test]
fn g13_a_node_that_does_not_take_the_largest_args_is_refused_and_not_remembered() {
    let needs = (SchedulerConfig::default().max_task_args + FRAME_OVERHEAD) as u64;
    for (max_frame, refused) in [
        (Some(needs - 1), true),
        (Some(0), true),
        (Some(needs), false),
        // An older version does not say.
        (None, false),
    ] {
        let mut board = Board::new();
        let mut hello = board.hello("other", 3);
        hello.max_frame = max_frame;
        let link = board.open();
        board.say(link, ToScheduler::Hello(Box::new(hello)));
        let said = board
            .closed
            .iter()
            .any(|(_, reason)| reason.contains("raise `max_frame`"));
        assert_eq!(said, refused, "{max_frame:?}: {:?}", board.closed);
        let stats = board.machine.stats(board.now);
        assert_eq!(stats.nodes.is_empty(), refused);
        assert_eq!(stats.totals.violations, 0);
    }
}
