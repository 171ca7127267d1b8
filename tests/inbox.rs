//! The queue between threads, and the clock.

use std::time::Duration;

use callboard::clock::Clock;
use callboard::inbox::Inbox;
use futures_util::FutureExt;

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

#[test]
fn the_process_clock_starts_at_the_wall_clock_and_never_goes_back() {
    let before = Clock::Process.now();
    let wall = std::time::SystemTime::now();
    let off = wall
        .duration_since(before.to_system_time())
        .unwrap_or_else(|error| error.duration());
    assert!(off < Duration::from_secs(60), "{off:?}");
    assert!(Clock::Process.now() >= before);
}

#[tokio::test(start_paused = true)]
async fn the_other_clock_is_tokios() {
    let before = Clock::Tokio.now();
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(Clock::Tokio.now().since(before), Duration::from_secs(3600));
}
