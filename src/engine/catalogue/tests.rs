//! The catalogue against a model that looks through all tasks and nodes.

use proptest::prelude::*;

use super::*;
use crate::engine::message::KindOffer;
use crate::engine::placement::Room;
use crate::engine::tasks::Task;
use crate::engine::tasks::tests::task;

const NODES: u32 = 4;
/// How a task is placed, and for whom.
const WAYS: [(PlacementRule, Hearer); 6] = [
    (PlacementRule::Prefetch, Hearer::Client),
    (PlacementRule::FreeWorkerOnly, Hearer::Client),
    (PlacementRule::Isolated, Hearer::Client),
    (PlacementRule::Prefetch, Hearer::Callers),
    (PlacementRule::FreeWorkerOnly, Hearer::Callers),
    (PlacementRule::Isolated, Hearer::Callers),
];

fn kind(number: usize) -> TaskKind {
    TaskKind::from(format!("kind {number}").as_str())
}

/// Returns the labels of which the bits are set.
fn labels(bits: u8) -> Labels {
    let all = [(1, "gpu"), (2, "ssd")].into_iter();
    all.filter(|(bit, _)| bits & bit != 0)
        .map(|(_, label)| label.to_owned())
        .collect()
}

/// Returns the kinds of which the bits are set; those with an odd number block.
fn offer(bits: u8) -> Vec<KindOffer> {
    let offer = |number: usize| KindOffer {
        kind: kind(number).as_str().to_owned(),
        blocking: number % 2 == 1,
    };
    let all = (0..3).filter(|number| bits & (1 << number) != 0);
    all.map(offer).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Offer(u32, u8, u8),
    Clear(u32),
    Present(u32, bool),
    Room(u32, Option<u32>),
    Join(usize, u8, usize, i8),
    Enqueue(usize),
    Dequeue(usize),
    Change(usize, usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let room = proptest::option::of(0..3u32);
    prop_oneof![
        2 => (0..NODES, 0..8u8, 0..4u8).prop_map(|(node, kinds, labels)| Step::Offer(node, kinds, labels)),
        1 => (0..NODES).prop_map(Step::Clear),
        3 => (0..NODES, any::<bool>()).prop_map(|(node, present)| Step::Present(node, present)),
        2 => (0..NODES, room).prop_map(|(node, room)| Step::Room(node, room)),
        4 => (0..3usize, 0..4u8, 0..WAYS.len(), -1..2i8)
            .prop_map(|(kind, labels, way, priority)| Step::Join(kind, labels, way, priority)),
        4 => (0..20usize).prop_map(Step::Enqueue),
        2 => (0..20usize).prop_map(Step::Dequeue),
        1 => (0..20usize, 0..WAYS.len()).prop_map(|(at, way)| Step::Change(at, way)),
        2 => (0..20usize).prop_map(Step::Leave),
    ]
}

#[derive(Clone, Default)]
struct NodeModel {
    kinds: u8,
    labels: u8,
    present: bool,
    free: bool,
}

#[derive(Clone)]
struct TaskModel {
    slot: Slot,
    kind: usize,
    labels: u8,
    way: usize,
    turn: Turn,
    queued: bool,
}

impl TaskModel {
    fn may_run_on(&self, node: &NodeModel) -> bool {
        node.kinds & (1 << self.kind) != 0 && node.labels & self.labels == self.labels
    }
}

#[derive(Default)]
struct Model {
    catalogue: Catalogue,
    tasks: Tasks,
    nodes: Vec<NodeModel>,
    all: Vec<TaskModel>,
    next: u64,
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        model.nodes.resize(NODES as usize, NodeModel::default());
        (0..NODES).for_each(|node| model.catalogue.enter_node(node));
        model
    }

    fn class(&self, at: usize) -> ClassId {
        self.tasks.get(self.all[at].slot).class
    }

    fn has_node(&self, task: &TaskModel) -> bool {
        let mut present = self.nodes.iter().filter(|node| node.present);
        present.any(|node| task.may_run_on(node))
    }

    fn set_present(&mut self, node: u32, present: bool) {
        let had: Vec<_> = self.all.iter().map(|task| self.has_node(task)).collect();
        self.nodes[node as usize].present = present;
        let lost = (0..self.all.len()).filter(|&at| {
            let task = &self.all[at];
            task.queued && had[at] && !self.has_node(task)
        });
        let expected: BTreeSet<_> = lost.map(|at| self.class(at)).collect();
        let lost = self.catalogue.set_present(node, present);
        assert_eq!(lost.len(), expected.len());
        assert_eq!(BTreeSet::from_iter(lost), expected);
    }

    /// Finds the task of this number in turn that waits, or that does not.
    fn find(&self, at: usize, queued: bool) -> Option<usize> {
        let some = (0..self.all.len()).filter(|&at| self.all[at].queued == queued);
        some.cycle().nth(at)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Offer(node, kinds, bits) => {
                self.set_present(node, false);
                self.catalogue.set_offer(node, &offer(kinds), labels(bits));
                let model = &mut self.nodes[node as usize];
                // What is offered anew has no room so far.
                model.free &= (model.kinds, model.labels) == (kinds, bits);
                (model.kinds, model.labels) = (kinds, bits);
            }
            Step::Clear(node) => {
                self.set_present(node, false);
                self.catalogue.clear_offer(node);
                self.nodes[node as usize] = NodeModel::default();
                assert!(self.catalogue.has_nothing_of(node));
            }
            Step::Present(node, present) => self.set_present(node, present),
            Step::Room(node, taken) => {
                let room = taken.map_or(Room::None, |taken| Room::Free { taken, of: 3 });
                self.catalogue.set_room(node, room);
                self.nodes[node as usize].free = taken.is_some();
            }
            Step::Join(number, bits, way, priority) => {
                self.next += 1;
                let class =
                    self.catalogue
                        .join(&kind(number), &labels(bits), WAYS[way].0, WAYS[way].1);
                let record = task(self.next);
                let turn = Turn::new(priority, record.rank);
                let slot = self.tasks.insert(Task {
                    class,
                    priority,
                    ..record
                });
                self.all.push(TaskModel {
                    slot,
                    kind: number,
                    labels: bits,
                    way,
                    turn,
                    queued: false,
                });
            }
            Step::Enqueue(at) => {
                if let Some(at) = self.find(at, false) {
                    let (slot, class) = (self.all[at].slot, self.class(at));
                    let noted = self.catalogue.classes[class as usize].noted;
                    let tell = self.catalogue.enqueue(&mut self.tasks, slot);
                    self.all[at].queued = true;
                    assert_eq!(tell, !noted && !self.has_node(&self.all[at]));
                    if tell {
                        let first = self.catalogue.note_unschedulable(&self.tasks, class);
                        assert!(first.is_some());
                    }
                }
            }
            Step::Dequeue(at) => {
                if let Some(at) = self.find(at, true) {
                    self.catalogue.dequeue(&mut self.tasks, self.all[at].slot);
                    self.all[at].queued = false;
                }
            }
            Step::Change(at, way) => {
                if let Some(at) = self.find(at, false) {
                    let (slot, class) = (self.all[at].slot, self.class(at));
                    self.all[at].way = way;
                    let class = self.catalogue.change(class, WAYS[way].0, WAYS[way].1);
                    self.tasks.get_mut(slot).class = class;
                }
            }
            Step::Leave(at) => {
                if let Some(at) = self.find(at, false) {
                    let task = self.tasks.remove(self.all.swap_remove(at).slot);
                    self.catalogue.leave(task.class);
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.catalogue.check(&self.tasks), Ok(()));
        let alike = |task: &TaskModel| (task.kind, task.labels, task.way);
        for (at, task) in self.all.iter().enumerate() {
            let class = self.class(at);
            assert_eq!(*self.catalogue.kind(class), kind(task.kind));
            assert_eq!(*self.catalogue.labels(class), labels(task.labels));
            let way = (self.catalogue.rule(class), self.catalogue.hearer(class));
            assert_eq!(way, WAYS[task.way]);
            for (other, other_task) in self.all.iter().enumerate() {
                let same = alike(task) == alike(other_task);
                assert_eq!(same, class == self.class(other));
            }
            let alike = self.all.iter().filter(|it| alike(it) == alike(task));
            let head = alike.filter(|it| it.queued).min_by_key(|it| it.turn);
            let slot = self.catalogue.head(&self.tasks, class);
            assert_eq!(slot, head.map(|head| head.slot));
            assert_eq!(self.catalogue.is_unschedulable(class), !self.has_node(task));

            let free = |node: &&NodeModel| node.free && task.may_run_on(node);
            let found = self.catalogue.free_node(class);
            assert_eq!(found.is_some(), self.nodes.iter().any(|it| free(&it)));
            assert!(found.is_none_or(|node| free(&&self.nodes[node as usize])));
            for (node, model) in (0..).zip(&self.nodes) {
                let kind = self.catalogue.kind_at(node, class);
                let offered = model.kinds & (1 << task.kind) != 0;
                assert_eq!(
                    kind.map(|(_, blocks)| blocks),
                    offered.then_some(task.kind % 2 == 1)
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn classes_heads_and_groups_are_what_tasks_and_nodes_make_them(
        steps in proptest::collection::vec(step(), 0..120)
    ) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}

#[test]
fn a_class_is_told_of_once_until_a_node_for_it_has_come_and_gone() {
    let mut model = Model::new();
    model.step(Step::Offer(0, 1, 0));
    let told = |model: &mut Model| {
        model.step(Step::Join(0, 0, 0, 0));
        let slot = model.all[model.all.len() - 1].slot;
        let tell = model.catalogue.enqueue(&mut model.tasks, slot);
        let class = model.tasks.get(slot).class;
        if tell {
            let first = model.catalogue.note_unschedulable(&model.tasks, class);
            assert!(first.is_some());
        }
        tell
    };
    assert!(told(&mut model));
    assert!(!told(&mut model));
    assert!(model.catalogue.set_present(0, true).is_empty());
    assert!(!told(&mut model));
    assert_eq!(model.catalogue.set_present(0, false).len(), 1);
    assert!(told(&mut model));
}

#[test]
fn a_class_is_told_of_again_though_it_had_no_task_while_its_node_came_and_went() {
    let mut model = Model::new();
    model.step(Step::Offer(0, 1, 0));
    let join = |model: &mut Model| {
        model.step(Step::Join(0, 0, 0, 0));
        let slot = model.all[0].slot;
        assert!(model.catalogue.enqueue(&mut model.tasks, slot));
        model.all[0].queued = true;
        let class = model.class(0);
        let first = model.catalogue.note_unschedulable(&model.tasks, class);
        assert_eq!(first, Some(slot));
    };
    join(&mut model);
    model.step(Step::Dequeue(0));
    model.step(Step::Leave(0));
    model.step(Step::Present(0, true));
    model.step(Step::Present(0, false));
    join(&mut model);
}

#[test]
fn what_is_said_of_a_class_names_what_is_missing() {
    let mut model = Model::new();
    model.step(Step::Join(0, 1, 0, 0));
    let why = |model: &Model| model.catalogue.why_unschedulable(model.class(0));
    assert_eq!(why(&model), "no node is up");
    model.step(Step::Offer(0, 2, 1));
    model.step(Step::Present(0, true));
    assert!(why(&model).starts_with("no node that is up has a handler"));
    model.step(Step::Offer(1, 1, 2));
    model.step(Step::Present(1, true));
    assert!(why(&model).contains("bears all of the labels"));
}

#[test]
fn numbers_of_kinds_and_classes_are_used_again() {
    let mut model = Model::new();
    for number in 0..10 * SPARE_CLASSES {
        let labels = labels((number % 2) as u8);
        let class = model.catalogue.join(
            &kind(number),
            &labels,
            PlacementRule::Prefetch,
            Hearer::Client,
        );
        model.catalogue.leave(class);
    }
    let (known, kinds, classes) = model.catalogue.size();
    assert!(known <= SPARE_CLASSES && kinds <= SPARE_CLASSES + 2 && classes <= SPARE_CLASSES + 2);
    model.check();
}
