//! What is pushed is taken whole, in order, and at the cost of one wake-up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use futures_util::FutureExt;

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_batch_costs_one_wake_up() {
    let inbox = Inbox::new();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(inbox.poll_ready(&mut cx).is_pending());
    inbox.push(1);
    inbox.extend([2, 3]);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(inbox.poll_ready(&mut cx).is_ready());
    let mut taken = Vec::new();
    assert!(inbox.take(&mut taken));
    assert_eq!(taken, [1, 2, 3]);
    assert!(!inbox.take(&mut taken));
    assert!(inbox.poll_ready(&mut cx).is_pending());
    inbox.push(4);
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
}

#[test]
fn a_closed_inbox_wakes_and_still_gives_what_it_has() {
    let inbox = Inbox::new();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(inbox.poll_ready(&mut cx).is_pending());
    inbox.push(1);
    inbox.close();
    inbox.push(2);
    assert!(inbox.is_closed());
    assert!(inbox.poll_ready(&mut cx).is_ready());
    let mut taken = vec![0];
    assert!(inbox.take(&mut taken));
    assert_eq!(taken, [0, 1]);
}

#[test]
fn nothing_pushed_from_many_threads_is_lost() {
    let inbox = Inbox::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let inbox = inbox.clone();
            std::thread::spawn(move || (0..1000).for_each(|n| inbox.push(n)))
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let taken = runtime.block_on(async {
        let mut taken = Vec::new();
        while taken.len() < 4000 {
            inbox.ready().await;
            inbox.take(&mut taken);
        }
        taken
    });
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(taken.iter().sum::<u32>(), 4 * (999 * 1000 / 2));
}

#[test]
fn what_is_pushed_is_taken_whole_and_in_order() {
    let inbox = Inbox::new();
    let mut taken = Vec::new();
    assert!(!inbox.take(&mut taken));
    assert!(inbox.ready().now_or_never().is_none());
    inbox.push(1);
    inbox.extend([2, 3]);
    assert!(inbox.ready().now_or_never().is_some());
    assert!(inbox.take(&mut taken));
    inbox.push(4);
    assert!(inbox.take(&mut taken));
    assert_eq!(taken, [1, 2, 3, 4]);
}

#[tokio::test]
async fn closing_wakes_and_drops_what_comes_later() {
    let inbox = Inbox::new();
    let waits = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.ready().await }
    });
    tokio::task::yield_now().await;
    inbox.push(1);
    inbox.close();
    waits.await.unwrap();
    inbox.push(2);
    let mut taken = Vec::new();
    inbox.take(&mut taken);
    assert_eq!(taken, [1]);
    assert!(inbox.is_closed());
}

#[tokio::test]
async fn nothing_is_lost_between_threads() {
    const EACH: u64 = 20_000;
    let inbox = Inbox::new();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let inbox = inbox.clone();
            std::thread::spawn(move || (0..EACH).for_each(|n| inbox.push(n)))
        })
        .collect();
    let (mut sum, mut count, mut batch) = (0, 0, Vec::new());
    while count < 2 * EACH {
        inbox.ready().await;
        inbox.take(&mut batch);
        count += batch.len() as u64;
        sum += batch.drain(..).sum::<u64>();
    }
    assert_eq!(sum, EACH * (EACH - 1));
    for thread in threads {
        thread.join().unwrap();
    }
}
