//! **What it shows.** How to test handlers, a client, and the whole, without a cluster.
//!
//! **How to run it.** `cargo test --example testing`; `cargo run --example testing` only says so.
//!
//! **What you will see.** Four tests that wait for nothing but what they test.

use actix::prelude::*;
use callboard::{TaskContext, TaskError, TaskStatus};

/// Greets, with a greeting from the shared data of its node: the handler under test.
async fn greet(name: String, cx: TaskContext) -> Result<String, TaskError> {
    if name.is_empty() {
        return Err(TaskError::permanent("nobody to greet"));
    }
    Ok(format!("{}, {name}", cx.data::<String>()?))
}

/// Works until it is to end.
async fn listen(_: (), cx: TaskContext) -> Result<&'static str, TaskError> {
    cx.cancelled().await;
    Ok("left in time")
}

/// The client under test: counts what has failed.
#[derive(Default)]
struct Failures(usize);

impl Actor for Failures {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Failures {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        self.0 += usize::from(!status.outcome.is_completed());
    }
}

fn main() {
    // Named, so that they count as used without the tests.
    let _ = (greet, listen, Failures::default);
    println!("run it with: cargo test --example testing");
}

#[cfg(test)]
mod tests {
    use callboard::status::Ending;
    use callboard::{Cause, Execute, Failure, Handlers, Node, Outcome, Scheduler, Shutdown};

    use super::*;

    fn handlers() -> Handlers {
        Handlers::new().on("greet", greet).data("hello".to_owned())
    }

    #[actix::test]
    async fn a_handler_is_a_function() {
        let cx = TaskContext::for_test_with(&handlers());
        assert_eq!(greet("pit".into(), cx).await, Ok("hello, pit".into()));
        let refused = greet(String::new(), TaskContext::for_test()).await;
        assert!(refused.is_err_and(|error| error.is_permanent()));
    }

    #[actix::test]
    async fn a_cancelled_handler_leaves() {
        let cx = TaskContext::for_test();
        let listening = listen((), cx.clone());
        cx.cancel();
        assert_eq!(listening.await, Ok("left in time"));
    }

    #[actix::test]
    async fn a_client_counts_failures() {
        let mut client = Failures::default();
        let failed = Outcome::Failed(Failure::new(Cause::Timeout, "too slow"));
        let status = TaskStatus::new(Ending::for_test("greet", failed));
        client.handle(status, &mut Context::new());
        assert_eq!(client.0, 1);
    }

    #[actix::test]
    async fn the_whole_runs_on_this_thread() {
        let scheduler = Scheduler::builder("testing")
            .node(Node::local("here", handlers()))
            .no_client()
            .on_current_arbiter()
            .start()
            .await
            .expect("nothing is listened at or dialled");
        let greeted = Execute::named("greet", &"pit").expect("text can be encoded");
        let status = scheduler
            .execute_and_wait(greeted)
            .await
            .expect("it is accepted");
        assert_eq!(status.output(), Ok("hello, pit".to_owned()));
        scheduler.shutdown(Shutdown::Now).await.expect("it runs");
    }
}
