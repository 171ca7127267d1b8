//! Clients: when what they are told counts as handled, and how long they are held.

use std::collections::BTreeMap;
use std::sync::mpsc;

use actix::prelude::*;
use callboard::{Client, Execute, Handlers, Node, Scheduler, TaskEvent, TaskId, TaskStatus};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cluster::{Listener, brisk, execute, finish, until};
use crate::processes::PATIENCE;

async fn start(name: &str, client: impl Into<Client>) -> Scheduler {
    let handlers = Handlers::new().on("echo", async |n: u64| Ok(n));
    Scheduler::builder(name)
        .client(client)
        .configure(brisk)
        .node(Node::local("here", handlers))
        .start()
        .await
        .unwrap()
}

fn echo(n: u64) -> Execute {
    Execute::named("echo", &n).unwrap()
}

/// Answers each status with a future that ends when it is told to.
struct Slow(UnboundedSender<(TaskId, oneshot::Sender<()>)>);

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Slow {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, status: TaskStatus, _: &mut Context<Self>) -> Self::Result {
        let (end, ended) = oneshot::channel();
        // The test has heard enough when it has dropped the other side.
        let _ = self.0.send((status.id, end));
        Box::pin(async move { drop(ended.await) }.into_actor(self))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Die;

impl Handler<Die> for Slow {
    type Result = ();

    fn handle(&mut self, _: Die, context: &mut Context<Self>) {
        context.stop();
    }
}

#[actix::test]
async fn g1_a_status_is_handled_when_the_future_of_its_handler_has_ended_and_not_before() {
    let (sender, mut began) = unbounded_channel();
    let slow = Slow(sender).start();
    let scheduler = start("futures", slow.clone().recipient()).await;
    execute(&scheduler, (0..100).map(echo)).await;
    let mut open = BTreeMap::new();
    while open.len() < 100 {
        let (id, end) = timeout(PATIENCE, began.recv()).await.unwrap().unwrap();
        open.insert(id, end);
    }
    // The last of them ends, and every third; the others go on.
    let ids: Vec<_> = open.keys().copied().collect();
    let (ended, others): (Vec<_>, Vec<_>) = ids
        .iter()
        .enumerate()
        .partition(|(at, _)| *at == ids.len() - 1 || at % 3 == 0);
    for (_, id) in &ended {
        open.remove(id).unwrap().send(()).unwrap();
    }
    until(&scheduler, "what has ended is confirmed", |stats| {
        stats.unconfirmed_statuses == others.len()
    })
    .await;
    slow.send(Die).await.unwrap();
    let mut next = Listener::start();
    scheduler.set_client(next.recipient()).await.unwrap();
    let given = next.take(others.len()).await;
    assert!(given.iter().all(TaskStatus::is_given_again));
    let mut given: Vec<_> = given.iter().map(|status| status.id).collect();
    given.sort_unstable();
    let others: Vec<_> = others.into_iter().map(|(_, id)| *id).collect();
    assert_eq!(given, others);
    finish(scheduler).await;
}

/// One of several threads that handle statuses; the first status waits.
struct Threaded(UnboundedSender<mpsc::Sender<()>>);

impl Actor for Threaded {
    type Context = SyncContext<Self>;
}

impl Handler<TaskStatus> for Threaded {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut SyncContext<Self>) {
        match status.output::<u64>().unwrap() {
            0 => {
                let (end, ended) = mpsc::channel();
                self.0.send(end).unwrap();
                // Its end is said by dropping it, too.
                let _ = ended.recv();
            }
            13 => panic!("a handler of a status panics"),
            _ => {}
        }
    }
}

#[actix::test]
async fn g1_what_one_of_several_threads_handles_is_not_confirmed_by_what_the_others_have() {
    let (sender, mut waits) = unbounded_channel();
    let threads = SyncArbiter::start(3, move || Threaded(sender.clone()));
    let scheduler = start("threads", threads.recipient()).await;
    for n in 0..30 {
        scheduler.execute(echo(n)).await.unwrap();
    }
    let end = timeout(PATIENCE, waits.recv()).await.unwrap().unwrap();
    // One handler panics, which ends its thread; the others go on, and so the status counts as
    // handled.
    until(&scheduler, "all are handled but one", |stats| {
        stats.totals.completed == 30 && stats.unconfirmed_statuses == 1
    })
    .await;
    end.send(()).unwrap();
    until(&scheduler, "all are handled", |stats| {
        stats.unconfirmed_statuses == 0
    })
    .await;
    finish(scheduler).await;
}

/// Says when it ends.
struct Mortal(Option<oneshot::Sender<()>>);

impl Actor for Mortal {
    type Context = Context<Self>;
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            let _ = ended.send(());
        }
    }
}

impl Handler<TaskStatus> for Mortal {
    type Result = ();

    fn handle(&mut self, _: TaskStatus, _: &mut Context<Self>) {}
}

impl Handler<TaskEvent> for Mortal {
    type Result = ();

    fn handle(&mut self, _: TaskEvent, _: &mut Context<Self>) {}
}

#[actix::test]
async fn a_client_of_single_tasks_is_let_go_when_they_have_settled_and_it_was_told() {
    let current = Listener::<TaskStatus>::start();
    let scheduler = start("mortal", current.recipient()).await;
    let with: [fn(Execute, Addr<Mortal>) -> Execute; 4] = [
        |execute, it| execute.client(it.recipient()),
        |execute, it| execute.client(Client::in_groups(&it)),
        |execute, it| execute.watch(it.recipient()),
        // Refused: it has no kind.
        |_, it| {
            let refused = Execute::named("", &0_u64).unwrap();
            refused.client(it.clone().recipient()).watch(it.recipient())
        },
    ];
    for with in with {
        let mut ends = Vec::new();
        for n in 0..20 {
            let (ended, end) = oneshot::channel();
            let mortal = Mortal(Some(ended)).start();
            // Its answer does not matter here, nor the refused task.
            drop(scheduler.execute(with(echo(n), mortal)).await);
            ends.push(end);
        }
        for end in ends {
            timeout(PATIENCE, end).await.expect("it ends").unwrap();
        }
    }
    finish(scheduler).await;
}

#[actix::test]
async fn a_client_that_was_let_go_may_be_named_again() {
    let mut current = Listener::<TaskStatus>::start();
    let mut own = Listener::<TaskStatus>::start();
    let scheduler = start("again", current.recipient()).await;
    for n in 0..20 {
        scheduler
            .execute(echo(n).client(own.recipient()))
            .await
            .unwrap();
        assert_eq!(own.next().await.output::<u64>().unwrap(), n);
        until(&scheduler, "it has confirmed", |stats| {
            stats.unconfirmed_statuses == 0
        })
        .await;
    }
    assert_eq!(current.left(), 0);
    // Set anew, the client of before is let go too, and hears nothing more.
    scheduler.set_client(own.recipient()).await.unwrap();
    scheduler.execute(echo(20)).await.unwrap();
    assert_eq!(own.next().await.output::<u64>().unwrap(), 20);
    assert_eq!(current.left(), 0);
    finish(scheduler).await;
}
