//! What a user may write, and what becomes of it.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::tests::lone_node::LoneNode;
use crate::engine::message::{End, Report, Terms};
use crate::error::HandlersError;
use crate::execute::Execute;
use crate::handlers::{Call, Handlers, Task, TaskContext, TaskError};
use crate::status::Cause;

#[derive(Serialize, Deserialize)]
struct Double {
    number: u64,
}

impl Task for Double {
    const KIND: &'static str = "double";
    type Output = u64;

    async fn run(self, _: TaskContext) -> Result<u64, TaskError> {
        // Held over an await: the future is not `Send`.
        let number = Rc::new(Cell::new(self.number));
        tokio::task::yield_now().await;
        Ok(number.get() * 2)
    }
}

async fn function(n: u64) -> Result<u64, TaskError> {
    Ok(n)
}

async fn function_with_context(n: u64, cx: TaskContext) -> Result<u64, TaskError> {
    Ok(n + u64::from(cx.attempt()))
}

fn blocking_function(n: u64) -> Result<u64, TaskError> {
    Ok(n)
}

struct Offset(u64);

fn every_shape() -> Handlers {
    let captured = String::from("captured");
    Handlers::new()
        .task::<Double>()
        .on("closure", async |n: u64| Ok(n))
        .on("context", async |n: u64, cx: TaskContext| {
            Ok(n + cx.data::<Offset>()?.0)
        })
        .on("function", function)
        .on("function context", function_with_context)
        .on("future", |n: u64| async move { Ok(n) })
        .on("question mark", async |text: String| {
            let n: u64 = text.parse()?;
            Ok(n)
        })
        .on("lends", async move |n: usize| {
            tokio::task::yield_now().await;
            Ok(captured.len() + n)
        })
        .on("unit", async |(): ()| Ok(()))
        .on("bytes", async |raw: Bytes| Ok(raw))
        .on_blocking("blocking", |n: u64| Ok(n))
        .on_blocking("blocking context", |n: u64, cx: TaskContext| {
            Ok(n + cx.data::<Offset>()?.0)
        })
        .on_blocking("blocking function", blocking_function)
        .on_blocking("blocking question mark", |text: String| {
            let n: u64 = text.parse()?;
            Ok(n)
        })
        .data(Offset(100))
}

fn completed<T: serde::de::DeserializeOwned>(end: &End) -> T {
    match end {
        End::Completed(output) => rmp_serde::from_slice(output).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn handlers_of_every_shape_run() {
    let mut node = LoneNode::start(every_shape(), 2, 2).await;
    let seven = &Double { number: 7 };
    assert_eq!(completed::<u64>(&node.end_of("double", seven).await), 14);
    for (kind, expected) in [
        ("closure", 7),
        ("context", 107),
        ("function", 7),
        ("function context", 8),
        ("future", 7),
        ("lends", 15),
        ("blocking", 7),
        ("blocking context", 107),
        ("blocking function", 7),
    ] {
        let end = node.end_of(kind, 7u64).await;
        assert_eq!(completed::<u64>(&end), expected, "{kind}");
    }
    for kind in ["question mark", "blocking question mark"] {
        assert_eq!(completed::<u64>(&node.end_of(kind, "7").await), 7, "{kind}");
        let End::Again { failure, .. } = node.end_of(kind, "seven").await else {
            panic!("an error that took `?` is a retry");
        };
        assert_eq!(failure.message, "invalid digit found in string");
    }
    completed::<()>(&node.end_of("unit", ()).await);
    node.stop().await;
}

#[actix::test]
async fn bytes_pass_untouched() {
    let mut node = LoneNode::start(every_shape(), 1, 1).await;
    let raw = Bytes::from_static(b"\xff not MessagePack");
    let mut assignment = node.assignment("bytes", ());
    assignment.args = Execute::named("bytes", &raw).unwrap().args().clone();
    let dispatch = node.assign(assignment);
    assert_eq!(node.end(dispatch).await.0, End::Completed(raw.into()));
    node.stop().await;
}

#[actix::test]
async fn args_may_grow_and_what_does_not_fit_is_told_without_a_retry() {
    #[derive(Serialize)]
    struct Newer {
        number: u64,
        unknown: bool,
    }
    let newer = Newer {
        number: 4,
        unknown: true,
    };
    let mut node = LoneNode::start(every_shape(), 1, 1).await;
    assert_eq!(completed::<u64>(&node.end_of("double", newer).await), 8);
    for kind in ["double", "closure", "blocking"] {
        let End::Failed(failure) = node.end_of(kind, "words").await else {
            panic!("args of another type cannot be retried");
        };
        assert_eq!(failure.cause, Cause::Codec);
    }
    node.stop().await;
}

#[test]
fn a_kind_registered_twice_is_an_error_at_start() {
    let handlers = Handlers::new()
        .on("a", function)
        .on_blocking("a", blocking_function);
    let error = handlers.validate().unwrap_err();
    assert_eq!(error, HandlersError::Duplicate { kind: "a".into() });
    let error = Handlers::new().on("", function).validate().unwrap_err();
    assert_eq!(error, HandlersError::InvalidKind { kind: "".into() });
    assert_eq!(every_shape().validate(), Ok(()));
}

#[test]
fn handlers_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    shared(&every_shape());
    shared(&TaskContext::for_test());
}

#[derive(Debug)]
struct Layer(&'static str, Option<Box<Layer>>);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Layer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

#[test]
fn the_sources_of_an_error_are_joined() {
    let error = || {
        let inner = Layer("c", None);
        let middle = Layer("b", Some(Box::new(inner)));
        Layer("a", Some(Box::new(middle)))
    };
    fn fails(error: Layer) -> Result<(), TaskError> {
        Err(error)?;
        Ok(())
    }
    assert_eq!(fails(error()).unwrap_err().message(), "a: b: c");
    let permanent = TaskError::permanent(error());
    assert_eq!(permanent.to_string(), "a: b: c");
    assert!(permanent.is_permanent());
    let later = TaskError::retry_after(Duration::from_secs(9), "later");
    assert_eq!(later.wait(), Some(Duration::from_secs(9)));
    assert!(!TaskError::retry(String::from("again")).is_permanent());
}

#[test]
fn missing_data_is_named_and_not_retried() {
    let cx = TaskContext::for_test();
    let error = cx.data::<Offset>().err().unwrap();
    assert!(error.is_permanent());
    assert!(error.message().contains("Offset"), "{error}");
    let cx = TaskContext::for_test_with(&Handlers::new().data(Offset(3)));
    assert_eq!(cx.data::<Offset>().unwrap().0, 3);
}

#[tokio::test]
async fn cancelled_wakes_whoever_waits() {
    let cx = TaskContext::for_test();
    let waits = tokio::spawn({
        let cx = cx.clone();
        async move { cx.cancelled().await }
    });
    tokio::task::yield_now().await;
    cx.cancel();
    waits.await.unwrap();
    cx.cancelled().await;
    assert!(cx.is_cancelled());
}

#[test]
fn a_caller_needs_no_body_and_an_execute_stays_small() {
    struct Remote;
    impl Serialize for Remote {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
    impl Call for Remote {
        const KIND: &'static str = "remote";
        type Output = u64;
    }
    assert_eq!(Execute::new(&Remote).unwrap().kind().as_str(), "remote");
    let typed = Execute::new(&Double { number: 1 })
        .unwrap()
        .label("gpu")
        .key("k");
    assert_eq!(typed.kind().as_str(), "double");
    assert!(size_of::<Execute>() <= 72);
}

#[actix::test]
async fn progress_and_notes_reach_the_node_and_are_bounded() {
    let steps = async |n: u64, cx: TaskContext| {
        for step in 0..n {
            cx.progress(&step)?;
        }
        Ok(())
    };
    let notes = async |n: usize, cx: TaskContext| {
        for length in 0..n {
            cx.note("\u{e9}".repeat(100 * length));
        }
        Ok(())
    };
    let handlers = Handlers::new().on("steps", steps).on("notes", notes);
    let mut node = LoneNode::start(handlers, 1, 1).await;
    let watched = Terms {
        watched: true,
        ..Terms::default()
    };
    completed::<()>(&node.end_of("steps", 3u64).await);
    let dispatch = node.call_with("steps", 3u64, watched.clone());
    for step in 0..3u64 {
        match node.report().await {
            Report::Progress { value, .. } => {
                assert_eq!(rmp_serde::from_slice::<u64>(&value).unwrap(), step);
            }
            other => panic!("{other:?}"),
        }
    }
    node.end(dispatch).await;

    let dispatch = node.call_with("steps", 1_000u64, watched);
    let mut told = 0;
    while let Report::Progress { .. } = node.report().await {
        told += 1;
    }
    assert!((1..500).contains(&told), "{dispatch} told {told}");

    let dispatch = node.call("notes", 1_000usize);
    let mut lengths = Vec::new();
    while let Report::Note { text, .. } = node.report().await {
        lengths.push(text.len());
    }
    assert!(
        (32..500).contains(&lengths.len()),
        "{dispatch} noted {lengths:?}"
    );
    assert_eq!(lengths[..4], [0, 200, 256, 256]);
    node.stop().await;
}

#[actix::test]
async fn a_context_says_what_the_attempt_is() {
    let handlers = Handlers::new().on("who", async |(): (), cx: TaskContext| {
        let left = cx
            .time_left()
            .ok_or_else(|| TaskError::permanent("no deadline"))?;
        Ok((
            cx.id().get(),
            cx.dispatch().get(),
            cx.attempt(),
            cx.kind().to_string(),
            cx.node().to_owned(),
            left <= Duration::from_secs(60),
        ))
    });
    let mut node = LoneNode::start(handlers, 1, 1).await;
    let mut assignment = node.assignment("who", ());
    let number = assignment.task.get();
    assignment.attempt = 3;
    assignment.terms = Some(Box::new(Terms {
        deadline: Some(Duration::from_secs(60)),
        ..Terms::default()
    }));
    let dispatch = node.assign(assignment);
    let (end, _) = node.end(dispatch).await;
    let said: (u64, u64, u32, String, String, bool) = completed(&end);
    let expected = (
        number,
        number,
        3,
        "who".to_owned(),
        "alone".to_owned(),
        true,
    );
    assert_eq!(said, expected);
    node.stop().await;
}

#[test]
fn shared_data_is_one_value() {
    let handlers = Handlers::new().data(Offset(1));
    let (one, two) = (handlers.clone(), handlers.data(Offset(2)));
    let of = |handlers: &Handlers| {
        TaskContext::for_test_with(handlers)
            .data::<Offset>()
            .unwrap()
    };
    assert_eq!((of(&one).0, of(&two).0), (1, 2));
    assert!(Arc::ptr_eq(&of(&one), &of(&one)));
}
