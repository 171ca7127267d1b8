//! What happens in a random history, and how it is drawn.

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Open(bool),
    /// Opens a link and says hello and welcome on it.
    Serve((u64, u64), Word),
    Cut(Index),
    Say(Index, Word),
    End(Index, End, bool),
    Unstart(Index),
    /// Whether the node's machine hears its workers late.
    Lag(bool),
    Nonsense(u32, u64),
    Stall(u32, bool),
    Workers(u32),
    DialFailed,
    Drain,
    Stop,
    Pass(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Word {
    /// Of the scheduler "a" or another, this id and term.
    Hello(bool, (u64, u64)),
    /// What is acknowledged, the workers, how many leases the rest outlives one, what to stop.
    Welcome(u64, Option<u32>, u32, Vec<u64>),
    Refuse(bool),
    Assign(Vec<(u64, u16, bool, i8, bool)>),
    Retract(u64),
    Cancel(u64),
    Acknowledge(u64),
    AcknowledgeAll,
    Answer(u64),
    AnswerLast,
    Workers(u32),
    Wants(u32),
    Drain,
    Leave,
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(done()),
        1 => Just(End::Completed(Payload::from(&[0; 300]))),
        1 => Just(End::Stopped),
    ]
}

fn hellos() -> impl Strategy<Value = Word> {
    (prop::bool::weighted(0.8), ids()).prop_map(|(a, id)| Word::Hello(a, id))
}

/// Draws an id and a term.
fn ids() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![9 => Just((0, 1)), 1 => Just((0, 0)), 1 => Just((0, 2)), 1 => Just((1, 1))]
}

fn welcomes() -> impl Strategy<Value = Word> {
    let workers = prop::option::weighted(0.2, 0..4u32);
    let outlive = prop_oneof![3 => Just(0), 1 => Just(4)];
    let stop = prop::collection::vec(1..40u64, 0..3);
    (0..3u64, workers, outlive, stop)
        .prop_map(|(acked, workers, outlive, stop)| Word::Welcome(acked, workers, outlive, stop))
}

fn words() -> impl Strategy<Value = Word> {
    let assignment = (1..40u64, 0..3u16, any::<bool>(), -1..2i8, any::<bool>());
    let assign = prop::collection::vec(assignment, 1..6).prop_map(Word::Assign);
    // What breaks the protocol is rare, or no link would last.
    let odd = prop_oneof![
        hellos(),
        welcomes(),
        any::<bool>().prop_map(Word::Refuse),
        (0..20u64).prop_map(Word::Acknowledge),
        (0..5u64).prop_map(Word::Answer),
        Just(Word::Leave),
        Just(Word::Drain),
    ];
    prop_oneof![
        12 => assign,
        3 => (1..40u64).prop_map(Word::Retract),
        3 => (1..40u64).prop_map(Word::Cancel),
        4 => Just(Word::AcknowledgeAll),
        4 => Just(Word::AnswerLast),
        1 => (0..5u32).prop_map(Word::Workers),
        1 => (0..5u32).prop_map(Word::Wants),
        1 => odd,
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Open),
        8 => (ids(), welcomes()).prop_map(|(id, welcome)| Step::Serve(id, welcome)),
        3 => any::<Index>().prop_map(Step::Cut),
        40 => (any::<Index>(), words()).prop_map(|(link, word)| Step::Say(link, word)),
        20 => (any::<Index>(), ends(), prop::bool::weighted(0.2))
            .prop_map(|(run, end, overrun)| Step::End(run, end, overrun)),
        4 => any::<Index>().prop_map(Step::Unstart),
        6 => any::<bool>().prop_map(Step::Lag),
        1 => (0..9u32, 0..40u64).prop_map(|(worker, number)| Step::Nonsense(worker, number)),
        4 => (0..6u32, any::<bool>()).prop_map(|(worker, stalled)| Step::Stall(worker, stalled)),
        2 => (0..5u32).prop_map(Step::Workers),
        4 => Just(Step::DialFailed),
        16 => (1..4000u64).prop_map(Step::Pass),
        1 => prop_oneof![3 => Just(Step::DialFailed), 1 => Just(Step::Drain), 1 => Just(Step::Stop)],
    ]
}
