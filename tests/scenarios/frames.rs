//! Limits of frames that differ on the two sides of a link.

use bytes::Bytes;
use callboard::error::StartError;
use callboard::stats::NodeState;
use callboard::{Cause, Execute, NodeHandle, Outcome, Scheduler};

use crate::cluster::{connect, find, finish};
use crate::processes::handlers::handlers;

const SMALL: usize = 128 << 10;
/// What fits into such frames.
const FITS: usize = 64 << 10;

async fn node(name: &str, max_frame: Option<usize>) -> NodeHandle {
    callboard::node(name)
        .handlers(handlers().on("length", async |bytes: Bytes| Ok(bytes.len())))
        .max_workers(1)
        .threads(1)
        .configure_link(|link| link.max_frame = max_frame.unwrap_or(link.max_frame))
        .listen("127.0.0.1:0")
        .start()
        .await
        .unwrap()
}

#[actix::test]
async fn g9_an_output_that_the_scheduler_does_not_take_fails_its_task_and_not_the_link() {
    let node = node("frames-large", None).await;
    let scheduler = Scheduler::builder("frames-small")
        .node(connect(&node))
        .configure(|config| config.max_frame = SMALL)
        .require_all_nodes()
        .start()
        .await
        .unwrap();
    let bulk = |bytes: usize| Execute::named("bulk", &bytes).unwrap();
    let status = scheduler.execute_and_wait(bulk(FITS + 1)).await.unwrap();
    let Outcome::Failed(failure) = &status.outcome else {
        panic!("{status:?}");
    };
    assert_eq!(failure.cause, Cause::OutputTooLarge);
    assert!(
        failure.message.contains("`max_frame` on the scheduler"),
        "{failure}"
    );
    // The codec of the output takes a few bytes.
    let status = scheduler.execute_and_wait(bulk(FITS - 16)).await.unwrap();
    assert!(
        matches!(status.outcome, Outcome::Completed(_)),
        "{status:?}"
    );
    let stats = scheduler.stats().await.unwrap();
    assert_eq!(find(&stats, "frames-large").unwrap().state, NodeState::Up);
    assert_eq!(stats.totals.rerouted, 0);
    finish(scheduler).await;
    node.stop().await;
}

#[actix::test]
async fn g13_a_node_that_does_not_take_the_args_that_may_come_is_refused_in_words() {
    let node = node("frames-low", Some(SMALL)).await;
    let builder = |name| Scheduler::builder(name).node(connect(&node));
    let error = builder("frames-high").start().await.unwrap_err();
    assert!(matches!(error, StartError::Unreachable(_)));
    let words = "raise `max_frame` on the node (`configure_link`), or lower `max_task_args`";
    assert!(error.to_string().contains(words), "{error}");

    // As the words say; the limit of the frames themselves may differ.
    let scheduler = builder("frames-lowered")
        .configure(|config| config.max_task_args = FITS)
        .require_all_nodes()
        .start()
        .await
        .unwrap();
    let args = Bytes::from(vec![7; FITS - 16]);
    let execute = Execute::named("length", &args).unwrap();
    let status = scheduler.execute_and_wait(execute).await.unwrap();
    assert_eq!(status.output::<usize>(), Ok(FITS - 16));
    finish(scheduler).await;
    node.stop().await;
}
