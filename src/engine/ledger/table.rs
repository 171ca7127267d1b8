//! Tasks in the order of their ids.
//!
//! Owns: where each is kept. Does not know: what is known of one.
//!
//! Ids rise as tasks are accepted, so nearly all are kept one after the other, and are found by how
//! far their id is from the first one. Those that were written again come late, and are kept aside.

use std::collections::BTreeMap;
use std::ops::Index;

use super::TaskFacts;
use crate::task::TaskId;

/// How many places of tasks that are gone are kept at least, so that a small table is not moved
/// all the time.
const FEW: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct TaskTable {
    /// The tasks by id; `None` where one is gone.
    rising: Vec<(TaskId, Option<TaskFacts>)>,
    /// How many of those are gone.
    gone: usize,
    /// The tasks that came after one with a higher id.
    late: BTreeMap<TaskId, TaskFacts>,
}

impl TaskTable {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.rising.len() - self.gone + self.late.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what is known of a task.
    pub fn get(&self, id: &TaskId) -> Option<&TaskFacts> {
        match self.place(*id) {
            Some(at) => self.rising[at].1.as_ref(),
            None => self.late.get(id),
        }
    }

    /// Returns what is known of a task, to change it.
    pub fn get_mut(&mut self, id: &TaskId) -> Option<&mut TaskFacts> {
        match self.place(*id) {
            Some(at) => self.rising[at].1.as_mut(),
            None => self.late.get_mut(id),
        }
    }

    /// Returns whether there is such a task.
    pub fn contains_key(&self, id: &TaskId) -> bool {
        self.get(id).is_some()
    }

    /// Puts a task in; returns what was known of it before.
    pub fn insert(&mut self, id: TaskId, facts: TaskFacts) -> Option<TaskFacts> {
        if self.rising.last().is_none_or(|(last, _)| *last < id) {
            // It may have come late before all that was there has gone.
            let before = self.late.remove(&id);
            self.rising.push((id, Some(facts)));
            return before;
        }
        match self.place(id) {
            Some(at) => {
                let before = self.rising[at].1.replace(facts);
                self.gone -= usize::from(before.is_none());
                before
            }
            None => self.late.insert(id, facts),
        }
    }

    /// Takes a task out.
    pub fn remove(&mut self, id: &TaskId) -> Option<TaskFacts> {
        let Some(at) = self.place(*id) else {
            return self.late.remove(id);
        };
        let facts = self.rising[at].1.take();
        self.gone += usize::from(facts.is_some());
        if self.gone > FEW.max(self.rising.len() / 2) {
            self.rising.retain(|(_, facts)| facts.is_some());
            self.gone = 0;
        }
        facts
    }

    /// Keeps those for which this is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut TaskFacts) -> bool) {
        self.rising
            .retain_mut(|(_, facts)| facts.as_mut().is_some_and(&mut keep));
        self.gone = 0;
        self.late.retain(|_, facts| keep(facts));
    }

    /// Returns them all, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&TaskId, &TaskFacts)> {
        let rising = self.rising.iter();
        let rising = rising.filter_map(|(id, facts)| Some((id, facts.as_ref()?)));
        merged(rising, self.late.iter(), |(id, _)| **id)
    }

    /// Returns what is known of all, in the order of their ids.
    pub fn values(&self) -> impl Iterator<Item = &TaskFacts> {
        self.iter().map(|(_, facts)| facts)
    }

    /// Returns what is known of all, to change it, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut TaskFacts> {
        let rising = self.rising.iter_mut();
        let rising = rising.filter_map(|(_, facts)| facts.as_mut());
        rising.chain(self.late.values_mut())
    }

    /// Returns all ids, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &TaskId> {
        self.iter().map(|(id, _)| id)
    }

    /// Returns where a task is among those that rise, or was.
    fn place(&self, id: TaskId) -> Option<usize> {
        let (first, _) = self.rising.first()?;
        // As long as none was left out, this is its place.
        let guess = usize::try_from(id.get().checked_sub(first.get())?).ok()?;
        match self.rising.get(guess) {
            Some((found, _)) if *found == id => Some(guess),
            _ => self.rising.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }
}

/// Returns both, in order.
fn merged<T>(
    a: impl Iterator<Item = T>,
    b: impl Iterator<Item = T>,
    id: impl Fn(&T) -> TaskId,
) -> impl Iterator<Item = T> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(next), Some(other)) if id(next) <= id(other) => a.next(),
        (_, Some(_)) => b.next(),
        (_, None) => a.next(),
    })
}

impl Index<&TaskId> for TaskTable {
    type Output = TaskFacts;

    fn index(&self, id: &TaskId) -> &TaskFacts {
        self.get(id).expect("there is such a task")
    }
}

impl IntoIterator for TaskTable {
    type Item = (TaskId, TaskFacts);
    type IntoIter = Box<dyn Iterator<Item = Self::Item>>;

    /// Gives them in the order of their ids.
    fn into_iter(self) -> Self::IntoIter {
        let rising = self.rising.into_iter();
        let rising = rising.filter_map(|(id, facts)| Some((id, facts?)));
        Box::new(merged(rising, self.late.into_iter(), |(id, _)| *id))
    }
}

impl FromIterator<(TaskId, TaskFacts)> for TaskTable {
    fn from_iter<I: IntoIterator<Item = (TaskId, TaskFacts)>>(tasks: I) -> Self {
        let mut table = Self::default();
        for (id, facts) in tasks {
            table.insert(id, facts);
        }
        table
    }
}

/// Equal if it has the same tasks, however they are kept.
impl PartialEq for TaskTable {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::engine::Timestamp;
    use crate::engine::ledger::LedgerState;
    use crate::engine::record::AcceptedTask;

    fn facts(id: TaskId, at: u64) -> TaskFacts {
        TaskFacts {
            accepted: Box::new(AcceptedTask {
                id,
                at: Timestamp(at),
                kind: "kind".into(),
                args: b"".into(),
                options: None,
            }),
            state: LedgerState::Open {
                changed: None,
                placed: None,
            },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Most ids rise, some come late or twice, and so many are taken out that it is moved.
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((any::<u8>(), any::<u16>()), 0..1500)) {
            let (mut table, mut map) = (TaskTable::default(), BTreeMap::new());
            let mut next = 1000u64;
            for (at, (what, number)) in (0..).zip(steps) {
                let known = TaskId::new(u64::from(number) % (next + 3));
                match what % 8 {
                    0..3 => {
                        next += 1 + u64::from(number.is_multiple_of(40)) * u64::from(what);
                        let id = TaskId::new(next);
                        prop_assert_eq!(table.insert(id, facts(id, at)), map.insert(id, facts(id, at)));
                    }
                    3 => prop_assert_eq!(table.insert(known, facts(known, at)), map.insert(known, facts(known, at))),
                    4 if what == 4 => {
                        table.retain(|facts| facts.accepted.id.get() % 3 > 0);
                        map.retain(|id, _| id.get() % 3 > 0);
                    }
                    _ => {
                        // The oldest, as tasks end mostly.
                        let id = map.keys().nth(usize::from(number % 4)).copied().unwrap_or(known);
                        prop_assert_eq!(table.get(&id), map.get(&id));
                        prop_assert_eq!(table.remove(&id), map.remove(&id));
                    }
                }
                prop_assert_eq!(table.len(), map.len());
                prop_assert_eq!(table.get(&known), map.get(&known));
            }
            prop_assert!(table.iter().eq(map.iter()));
            prop_assert_eq!(&map.clone().into_iter().collect::<TaskTable>(), &table);
            prop_assert!(table.into_iter().eq(map));
        }
    }
}
