//! Several schedulers at one node.

use super::*;
use crate::engine::node::{MAX_SCHEDULERS, Machines, Serves};
use crate::testing::Driven;

pub(super) struct Fleet {
    pub(super) node: Driven<Machines>,
    now: Timestamp,
    links: u64,
}

impl Fleet {
    pub(super) fn new(spec: NodeSpec) -> Self {
        Self::serving(spec, &[])
    }

    fn serving(spec: NodeSpec, only: &[&str]) -> Self {
        Self::with(spec, only, None)
    }

    pub(super) fn with(spec: NodeSpec, only: &[&str], max_workers: Option<u32>) -> Self {
        let only = only.iter().map(|&name| name.to_owned()).collect();
        Self {
            node: Driven::new(
                Machines::new(spec, Serves { only, max_workers }),
                Checks::EachStep,
            ),
            now: Timestamp(1_000_000_000_000),
            links: 0,
        }
    }

    fn event(&mut self, event: NodeEvent) -> Vec<NodeAction> {
        self.node.handle(self.now, event);
        self.node.effects(self.now)
    }

    pub(super) fn after(&mut self, span: Duration) -> Vec<NodeAction> {
        self.at(self.now + span)
    }

    pub(super) fn at(&mut self, now: Timestamp) -> Vec<NodeAction> {
        self.now = now;
        self.node.effects(now)
    }

    fn open(&mut self, dialled: Option<&str>) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        let dialled = dialled.map(str::to_owned);
        self.event(NodeEvent::LinkOpened {
            link,
            dialled,
            address: String::new(),
        });
        link
    }

    pub(super) fn say(&mut self, link: LinkId, message: ToNode) -> Vec<NodeAction> {
        self.event(NodeEvent::Message { link, message })
    }

    pub(super) fn cut(&mut self, link: LinkId) -> Vec<NodeAction> {
        let reason = "cut".to_owned();
        self.event(NodeEvent::LinkClosed { link, reason })
    }

    /// Says hello as this scheduler, on a link that it has opened or that leads to it.
    fn greet(
        &mut self,
        scheduler: &str,
        scheduler_id: u64,
        dialled: Option<&str>,
    ) -> (LinkId, Vec<NodeAction>) {
        let link = self.open(dialled);
        let actions = self.say(link, hello(scheduler, scheduler_id));
        (link, actions)
    }

    /// Says hello in this term of a scheduler with a store.
    pub(super) fn greet_in(
        &mut self,
        scheduler: &str,
        scheduler_id: u64,
        term: u64,
    ) -> (LinkId, Vec<NodeAction>) {
        let link = self.open(None);
        let actions = self.say(link, hello_in(scheduler, scheduler_id, term));
        (link, actions)
    }

    /// Brings a link of this term up.
    pub(super) fn serve_in(&mut self, scheduler: &str, scheduler_id: u64, term: u64) -> LinkId {
        let (link, actions) = self.greet_in(scheduler, scheduler_id, term);
        assert!(closed(&actions).is_empty(), "{actions:?}");
        let actions = self.say(link, ToNode::Welcome(Box::new(welcome())));
        assert!(closed(&actions).is_empty(), "{actions:?}");
        link
    }

    /// Brings a link of this scheduler up.
    pub(super) fn serve(
        &mut self,
        scheduler: &str,
        scheduler_id: u64,
        dialled: Option<&str>,
    ) -> LinkId {
        let (link, actions) = self.greet(scheduler, scheduler_id, dialled);
        assert!(closed(&actions).is_empty(), "{actions:?}");
        let actions = self.say(link, ToNode::Welcome(Box::new(welcome())));
        assert!(closed(&actions).is_empty(), "{actions:?}");
        link
    }

    /// Assigns a run as a scheduler, and returns the workers on which any starts by that.
    pub(super) fn start(&mut self, link: LinkId, number: u64) -> Vec<WorkerId> {
        let actions = self.say(link, ToNode::Assign(vec![at_once(number)]));
        started(&actions)
    }

    pub(super) fn ended(&mut self, worker: WorkerId, number: u64) -> Vec<NodeAction> {
        self.event(NodeEvent::Ended {
            worker,
            dispatch: d(number),
            end: done(),
            ran: Duration::from_millis(3),
            overrun: false,
        })
    }

    fn served(&self) -> Vec<&str> {
        self.node.served().collect()
    }
}

fn started(actions: &[NodeAction]) -> Vec<WorkerId> {
    let starts = actions.iter().filter_map(|action| match action {
        NodeAction::Start { worker, .. } => Some(*worker),
        _ => None,
    });
    starts.collect()
}

/// Returns the link that each report goes out on, in short.
pub(super) fn told_on(actions: &[NodeAction]) -> Vec<(LinkId, String)> {
    let mut told = Vec::new();
    for action in actions {
        if let NodeAction::Send {
            link,
            message: ToScheduler::Reports(reports),
        } = action
        {
            told.extend(reports.iter().map(|report| (*link, in_short(report))));
        }
    }
    told
}

#[test]
fn two_schedulers_have_workers_and_runs_of_their_own() {
    let mut fleet = Fleet::new(spec(1));
    let a = fleet.serve("a", 1, None);
    let b = fleet.serve("b", 1, None);
    assert_eq!(fleet.served(), ["a", "b"]);
    // The same numbers, for a scheduler knows nothing of another.
    let [of_a] = fleet.start(a, 1)[..] else {
        panic!()
    };
    let [of_b] = fleet.start(b, 1)[..] else {
        panic!()
    };
    assert_ne!(of_a, of_b);
    assert_eq!(fleet.node.running(), 2);
    assert_eq!(
        told_on(&fleet.ended(of_b, 1)),
        [(b, "completed #1".to_owned())]
    );
    assert_eq!(fleet.node.occupied().collect::<Vec<_>>(), [of_a]);
    assert_eq!(
        told_on(&fleet.ended(of_a, 1)),
        [(a, "completed #1".to_owned())]
    );
}

#[test]
fn what_one_scheduler_does_touches_no_run_of_another() {
    let mut fleet = Fleet::new(spec(2));
    let a = fleet.serve("a", 1, None);
    let b = fleet.serve("b", 1, None);
    fleet.start(a, 1);
    let [of_b] = fleet.start(b, 1)[..] else {
        panic!()
    };
    // Its next start discards its own work, and its end stops it.
    fleet.cut(a);
    let a = fleet.serve("a", 2, None);
    fleet.say(a, ToNode::End);
    let running: Vec<_> = fleet.node.occupied().collect();
    assert!(running.contains(&of_b), "{running:?}");
    assert_eq!(
        told_on(&fleet.ended(of_b, 1)),
        [(b, "completed #1".to_owned())]
    );
}

#[test]
fn each_address_that_is_joined_is_dialled_and_its_scheduler_served() {
    let mut fleet = Fleet::new(joining(&["here", "there"]));
    assert_eq!(dialled(&fleet.after(Duration::ZERO)), ["here", "there"]);
    fleet.serve("a", 1, Some("here"));
    let b = fleet.serve("b", 1, Some("there"));
    assert_eq!(fleet.served(), ["a", "b"]);
    fleet.cut(b);
    assert_eq!(dialled(&fleet.after(Duration::from_secs(1))), ["there"]);
    // Where another scheduler is found, it is that which is served.
    fleet.serve("c", 1, Some("there"));
    assert_eq!(fleet.served(), ["a", "b", "c"]);
}

#[test]
fn of_two_addresses_of_one_scheduler_the_second_is_for_when_the_first_breaks() {
    let mut fleet = Fleet::new(joining(&["here", "there"]));
    fleet.after(Duration::ZERO);
    let first = fleet.serve("a", 1, Some("here"));
    let (second, actions) = fleet.greet("a", 1, Some("there"));
    assert_eq!(closed(&actions), [second]);
    for _ in 0..4 {
        fleet.event(NodeEvent::Heard { link: first });
        assert!(dialled(&fleet.after(HEARTBEAT)).is_empty());
    }
    let mut dials = Vec::new();
    for actions in [fleet.cut(first), fleet.after(Duration::from_millis(500))] {
        dials.extend(dialled(&actions).into_iter().map(str::to_owned));
    }
    dials.sort();
    assert_eq!(dials, ["here", "there"]);
    fleet.serve("a", 1, Some("there"));
}

#[test]
fn only_those_who_may_come_are_served() {
    let mut fleet = Fleet::serving(spec(1), &["a", "b"]);
    let (link, actions) = fleet.greet("c", 1, None);
    let name = "c".to_owned();
    assert_eq!(refusals(&actions), [&LinkRefusal::NotServed { name }]);
    assert_eq!(closed(&actions), [link]);
    fleet.serve("b", 1, None);
}

#[test]
fn as_many_as_can_be_are_served_and_the_next_when_one_is_away() {
    let mut fleet = Fleet::new(spec(1));
    let names: Vec<_> = (0..MAX_SCHEDULERS)
        .map(|number| format!("s{number}"))
        .collect();
    let links: Vec<_> = names
        .iter()
        .map(|name| fleet.serve(name, 1, None))
        .collect();
    let refused = |actions: &[NodeAction]| {
        let limit = MAX_SCHEDULERS;
        assert_eq!(
            refusals(actions),
            [&LinkRefusal::TooManySchedulers { limit }]
        );
    };
    refused(&fleet.greet("next", 1, None).1);
    fleet.cut(links[3]);
    refused(&fleet.greet("next", 1, None).1);
    for _ in 0..8 {
        for link in links.iter().filter(|link| **link != links[3]) {
            fleet.event(NodeEvent::Heard { link: *link });
        }
        fleet.after(HEARTBEAT);
    }
    fleet.serve("next", 1, None);
    assert!(!fleet.served().contains(&"s3"));
}

#[test]
fn a_drain_covers_all_schedulers() {
    let mut fleet = Fleet::new(spec(1));
    let a = fleet.serve("a", 1, None);
    let b = fleet.serve("b", 1, None);
    let [of_b] = fleet.start(b, 1)[..] else {
        panic!()
    };
    let actions = fleet.event(NodeEvent::Drain);
    let goodbyes = |actions: &[NodeAction]| sent(actions).contains(&&ToScheduler::Goodbye);
    assert!(goodbyes(&actions) && gone(&actions).is_none());
    assert_eq!(closed(&actions), [a]);
    fleet.ended(of_b, 1);
    let actions = fleet.say(b, ToNode::Acknowledge(1));
    assert!(goodbyes(&actions));
    assert_eq!(gone(&actions), Some(&Gone::Drained));
    assert!(fleet.node.is_gone());
}

#[test]
fn a_node_that_drains_takes_no_scheduler_that_it_does_not_serve() {
    let mut fleet = Fleet::new(spec(1));
    let a = fleet.serve("a", 1, None);
    fleet.start(a, 1);
    fleet.event(NodeEvent::Drain);
    let (_, actions) = fleet.greet("b", 1, None);
    assert_eq!(refusals(&actions), [&LinkRefusal::Stopping]);
    // One that it serves may come back for what it has not heard.
    let (_, actions) = fleet.greet("a", 1, None);
    assert!(refusals(&actions).is_empty());
}

#[test]
fn the_end_of_its_scheduler_is_not_the_end_of_a_node() {
    let mut fleet = Fleet::new(joining(&["here"]));
    fleet.after(Duration::ZERO);
    let link = fleet.serve("a", 1, Some("here"));
    fleet.start(link, 1);
    let actions = fleet.say(link, ToNode::End);
    assert!(gone(&actions).is_none());
    let note = NodeNote::SchedulerEnded {
        scheduler: "a".to_owned(),
        waits: true,
    };
    let noted = |action: &NodeAction| matches!(action, NodeAction::Note(it) if *it == note);
    assert!(actions.iter().any(noted), "{actions:?}");
    let [worker] = fleet.node.occupied().collect::<Vec<_>>()[..] else {
        panic!()
    };
    let actions = fleet.event(NodeEvent::Ended {
        worker,
        dispatch: d(1),
        end: End::Stopped,
        ran: Duration::from_millis(3),
        overrun: false,
    });
    assert!(sent(&actions).contains(&&ToScheduler::Goodbye));
    assert!(gone(&actions).is_none());
    assert_eq!(dialled(&fleet.after(Duration::from_secs(1))), ["here"]);
    let link = fleet.serve("a", 2, Some("here"));
    assert_eq!(fleet.start(link, 1).len(), 1);
}

#[test]
fn who_wants_so_ends_with_the_scheduler() {
    let mut fleet = Fleet::new(NodeSpec {
        end_with_scheduler: true,
        ..joining(&["here"])
    });
    fleet.after(Duration::ZERO);
    let link = fleet.serve("a", 1, Some("here"));
    let actions = fleet.say(link, ToNode::End);
    assert_eq!(gone(&actions), Some(&Gone::Dismissed));
}

#[test]
fn one_scheduler_that_dismisses_a_node_leaves_it_to_the_others() {
    let mut fleet = Fleet::new(joining(&["here", "there"]));
    fleet.after(Duration::ZERO);
    let a = fleet.serve("a", 1, Some("here"));
    let b = fleet.serve("b", 1, Some("there"));
    assert!(gone(&fleet.say(a, ToNode::Drain)).is_none());
    assert_eq!(fleet.start(b, 1).len(), 1);
    // The start that had it drained has no use for it; the next one may have.
    let (_, actions) = fleet.greet("a", 1, None);
    assert_eq!(refusals(&actions), [&LinkRefusal::Stopping]);
    fleet.serve("a", 2, None);
    assert_eq!(fleet.served(), ["a", "b"]);
}

#[test]
fn a_blocked_thread_is_told_to_all_and_blamed_on_whose_run_it_is() {
    let mut fleet = Fleet::new(spec(2));
    let a = fleet.serve("a", 1, None);
    let b = fleet.serve("b", 1, None);
    let [of_a] = fleet.start(a, 1)[..] else {
        panic!()
    };
    let [of_b] = fleet.start(b, 7)[..] else {
        panic!()
    };
    let actions = fleet.event(NodeEvent::Stalled {
        workers: vec![of_b, of_a],
    });
    let blamed = actions.iter().filter_map(|action| match action {
        NodeAction::Note(NodeNote::Stalled { task }) => task.as_ref().map(|(task, _)| *task),
        _ => None,
    });
    assert_eq!(blamed.collect::<Vec<_>>(), [TaskId::new(7)]);
}

#[test]
fn g7_a_scheduler_that_comes_while_a_thread_is_blocked_has_nothing_started_there() {
    let mut fleet = Fleet::new(spec(2));
    let a = fleet.serve("a", 1, None);
    let [of_a] = fleet.start(a, 1)[..] else {
        panic!()
    };
    let workers = vec![of_a];
    fleet.event(NodeEvent::Stalled {
        workers: workers.clone(),
    });
    let b = fleet.serve("b", 1, None);
    let [of_b] = fleet.start(b, 7)[..] else {
        panic!()
    };
    assert_ne!(of_b.within_seat(), of_a.within_seat());
    fleet.event(NodeEvent::Resumed { workers });
    let [second] = fleet.start(b, 8)[..] else {
        panic!()
    };
    assert_eq!(second.within_seat(), of_a.within_seat());
}

/// Counts how many runs of a scheduler start one after the other before its results, which nobody
/// acknowledges, fill their budget.
fn kept(fleet: &mut Fleet, link: LinkId) -> u64 {
    let mut count = 0;
    while let [worker] = fleet.start(link, count + 1)[..] {
        count += 1;
        fleet.ended(worker, count);
    }
    count
}

#[test]
fn the_budget_of_kept_results_is_that_of_the_process_and_no_scheduler_takes_the_share_of_another() {
    let spec = || {
        let mut spec = spec(1);
        spec.config.max_kept_bytes = 64 << 10;
        spec
    };
    let mut alone = Fleet::new(spec());
    let link = alone.serve("a", 1, None);
    let all = kept(&mut alone, link);
    let mut fleet = Fleet::new(spec());
    let links = [fleet.serve("a", 1, None), fleet.serve("b", 1, None)];
    for link in links {
        let half = kept(&mut fleet, link);
        assert!(half.abs_diff(all / 2) <= 1, "{half} of {all}");
    }
}

#[test]
fn a_node_of_the_own_process_ends_with_its_link() {
    let local = || NodeSpec {
        local: true,
        ..spec(1)
    };
    let ends = |actions: &[NodeAction]| gone(actions).is_some();
    // Before its scheduler has said hello.
    let mut fleet = Fleet::new(local());
    assert!(!ends(&fleet.after(Duration::ZERO)));
    let link = fleet.open(None);
    assert!(ends(&fleet.cut(link)));
    // Before it has welcomed the node.
    let mut fleet = Fleet::new(local());
    let (link, _) = fleet.greet("orders", 1, None);
    assert!(ends(&fleet.cut(link)));
    // When it was told to leave before the welcome, and refuses that.
    let mut fleet = Fleet::new(local());
    let (link, _) = fleet.greet("orders", 1, None);
    assert!(ends(&fleet.say(link, ToNode::Leave)));
    // Once it is up, and a run has to be waited for.
    let mut fleet = Fleet::new(local());
    let link = fleet.serve("orders", 1, None);
    let worker = fleet.start(link, 1)[0];
    let actions = fleet.cut(link);
    assert!(
        !ends(&actions) && stopped(&actions) == [(0, 1)],
        "{actions:?}"
    );
    assert!(ends(&fleet.ended(worker, 1)));
    // Others are found again.
    let mut fleet = Fleet::new(spec(1));
    let (link, _) = fleet.greet("orders", 1, None);
    assert!(!ends(&fleet.cut(link)));
}
