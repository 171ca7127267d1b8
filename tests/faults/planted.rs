//! The judge, judged: broken promises, planted in what a scenario writes down, each of which it has
//! to find.
//!
//! Owns: a few small histories. Does not know: processes, or a network. Run before every scenario,
//! since a judge that finds nothing looks like a library that breaks nothing.

use std::time::Duration;

use crate::cluster::{Fate, Shape};
use crate::judge::{Course, Figures, again, exclusive, rerouted};
use crate::record::{Effect, Reroute, Run, Told};

const LEASE: Duration = Duration::from_secs(2);
const SECOND: u64 = 1_000_000_000;

/// Panics in words if the judge lets one of them pass, or finds one where there is none.
pub fn try_the_judge() {
    try_repeats();
    let healthy = Fate::default();
    let slept = |seconds: u64| Fate {
        frozen: vec![(SECOND, (1 + seconds) * SECOND)],
        ..Fate::default()
    };
    let (short, long) = (slept(0), slept(3));
    let begun_late = "start 3, start 2";
    let step_late = "start 1, start 3, step 1";
    for (what, effects, fate, right) in [
        (
            "one after another",
            "start 1, step 1, end 1, start 3",
            &healthy,
            true,
        ),
        ("two at once", "start 1, start 3", &healthy, false),
        ("a superseded run that begins", begun_late, &healthy, false),
        ("the same on waking", begun_late, &long, false),
        (
            "a late step of a healthy process",
            step_late,
            &healthy,
            false,
        ),
        ("a late step after a short sleep", step_late, &short, false),
        ("a last step on waking", step_late, &long, true),
    ] {
        let mut figures = Figures::default();
        exclusive(1, &effects_of(effects), |_| fate, LEASE, &mut figures);
        assert_eq!(
            figures.broken.is_empty(),
            right,
            "{what}: {:?}",
            figures.broken
        );
    }
    let within = Some(Duration::from_millis(50));
    for (what, after, reroute_within, right) in [
        ("in time", Some(40), within, true),
        ("on a loaded machine", Some(200), within, true),
        ("too late", Some(400), within, false),
        ("too late, and after the heal", Some(2_000), within, false),
        ("never", None, within, false),
        ("where none is promised", None, None, true),
    ] {
        let course = Course {
            faults: vec![(SECOND, vec!["node1".to_owned()])],
            healed: Some(2 * SECOND),
            reroute_within,
            ..Course::default()
        };
        let reroute = after.map(|millis: u64| Reroute {
            at: SECOND + millis * 1_000_000,
            node: "node1".to_owned(),
        });
        let told = Told {
            reroutes: Vec::from_iter(reroute),
            ..Told::default()
        };
        let mut figures = Figures::default();
        rerouted(&told, &course, &mut figures);
        figures.broken.append(&mut figures.missed);
        assert_eq!(
            figures.broken.is_empty(),
            right,
            "{what}: {:?}",
            figures.broken
        );
    }
}

/// Does the same for runs of an attempt that had been begun before.
fn try_repeats() {
    let shape = Shape::BRISK;
    let millis = |span: u64| SECOND + span * 1_000_000;
    // The first task of a scenario is none that is exclusive; the number of the other one is.
    for (what, number, silent, longest, late) in [
        ("nothing lasted long", 0, 700, 600, false),
        ("a cut that was too long", 0, 2_000, 1_400, true),
        ("a link that was late", 0, 2_400, 600, true),
        ("a link that was late, yet in time", 0, 2_200, 600, false),
        ("the same, and exclusive", 17, 2_200, 600, true),
        ("a cut in time for an exclusive one", 17, 1_700, 700, false),
        ("and too long for it", 17, 1_700, 900, true),
    ] {
        let run = |dispatch, start| Run {
            process: "node1-2".to_owned(),
            task: 1,
            dispatch,
            attempt: 1,
            start,
            end: None,
        };
        let runs = [run(1, millis(0)), run(2, millis(silent))];
        let told = Told {
            accepted: [(1, number)].into(),
            heard: [("node1".to_owned(), vec![millis(0), millis(silent)])].into(),
            ..Told::default()
        };
        let course = Course {
            no_second_runs: true,
            longest: Duration::from_millis(longest),
            ..Course::default()
        };
        let mut figures = Figures::default();
        again(&runs, &told, shape, 150, &course, &mut figures);
        let found = (figures.broken.len(), figures.missed.len());
        let expected = if late { (0, 1) } else { (1, 0) };
        assert_eq!(found, expected, "{what}: {figures:?}");
    }
}

/// Effects from words, a run's at as many seconds as its number says, and a half.
fn effects_of(words: &str) -> Vec<Effect> {
    let effects = words.split(", ").map(|effect| {
        let (what, dispatch) = effect.split_once(' ').unwrap();
        let dispatch = dispatch.parse().unwrap();
        Effect {
            what: what.to_owned(),
            at: SECOND / 2 + dispatch * SECOND,
            dispatch,
        }
    });
    effects.collect()
}
