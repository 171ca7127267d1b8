//! The power is cut at each operation of the disk.

use fastrand::Rng;

use super::disk::{Disk, DiskOpener};
use super::{WHO, append, batches};
use crate::store::TaskLog;
use crate::store::table::TableLog;

fn log(disk: &Disk) -> TableLog<DiskOpener> {
    TableLog::new(DiskOpener(disk.clone()))
}

/// Appends until the power is cut. Returns the last batch that was acknowledged.
fn work(disk: &Disk, first: u64) -> u64 {
    let mut log = log(disk);
    let mut acknowledged = first - 1;
    if log.claim(&WHO).is_ok() {
        for number in first..first + 6 {
            if append(&mut log, number).is_err() {
                break;
            }
            acknowledged = number;
            if number % 3 == 0 && log.truncate(number - 1).is_err() {
                break;
            }
        }
    }
    acknowledged
}

/// Checks what is there: all that was acknowledged and not truncated, and nothing by half. Returns
/// the last batch.
fn check(disk: &Disk, acknowledged: u64) -> u64 {
    let mut log = log(disk);
    let claim = log.claim(&WHO).expect("what was cut opens again");
    let found = batches(&mut log);
    let last = found.last().copied().unwrap_or(0);
    assert_eq!(claim.last, last);
    assert!(
        (acknowledged..=acknowledged + 1).contains(&last),
        "{acknowledged} was acknowledged, and {last} is the last that is there"
    );
    assert!(
        found.windows(2).all(|two| two[0] + 1 == two[1]),
        "{found:?}"
    );
    last
}

#[test]
fn g1_what_was_acknowledged_survives_a_power_cut_at_any_moment_twice_in_a_row() {
    let begun = Disk::default();
    assert_eq!(work(&begun, 1), 6);
    let mut rng = Rng::with_seed(13);
    let begun = begun.after_crash(&mut rng);
    let mut cuts = 0;
    for operations in 1.. {
        let disk = begun.after_crash(&mut rng);
        disk.cut_after(operations);
        let acknowledged = work(&disk, 7);
        let dark = disk.is_dark();
        let disk = disk.after_crash(&mut rng);
        let last = check(&disk, acknowledged);
        // Another one, while it recovers or a little later.
        disk.cut_after(1 + rng.u32(..60));
        let acknowledged = work(&disk, last + 1);
        let disk = disk.after_crash(&mut rng);
        check(&disk, acknowledged);
        cuts += 2;
        if !dark {
            break;
        }
    }
    assert!(cuts > 100, "only {cuts} cuts");
}
