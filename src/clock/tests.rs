//! Both clocks against what they are made from.

use super::*;

#[test]
fn the_process_clock_starts_at_the_wall_clock_and_never_goes_back() {
    let before = Clock::Process.now();
    let wall = SystemTime::now();
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
