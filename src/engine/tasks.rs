//! The unsettled tasks: where each is kept and how it is found by its id.
//!
//! Owns: the records, their slots and the index from id to slot. Does not know: what the states
//! mean or when they change.
//!
//! A record stays in a slot of a chunk, so that ten million of them never move, and a chunk that
//! empties is given back. Ids rise, so the index is a table of small pages keyed by the id's upper
//! part: four bytes a task where ids are dense, a page for a lone survivor.

use super::{ClientId, Timestamp};
use crate::payload::Payload;
use crate::status::Failure;
use crate::task::{Dispatch, TaskGroup, TaskId, TaskKey};

mod blame;
mod cancels;
mod pages;
mod rare;
mod stage;

pub(crate) use blame::{Company, Losses, Suspects};
pub(crate) use cancels::Cancels;
use pages::{PAGE, Page, Pages};
pub(crate) use rare::{InGroup, Rare};
pub(crate) use stage::{
    Addressee, Era, FirstDue, Held, Past, Phase, Place, Prefetch, Retract, Run, Stage, Start, Then,
};

/// The place of a record.
pub(crate) type Slot = u32;
/// No place.
pub(crate) const NO_SLOT: Slot = u32::MAX;

/// Index of a group of tasks.
pub(crate) type TaskGroupId = u32;
/// No group.
pub(crate) const NO_GROUP: TaskGroupId = TaskGroupId::MAX;

/// What an unsettled task is. Kept small: a pending one costs this, its index entry and its args.
#[derive(Debug)]
pub(crate) struct Task {
    pub id: TaskId,
    pub args: Payload,
    /// What few tasks need.
    pub rare: Option<Box<Rare>>,
    pub accepted_at: Timestamp,
    pub stage: Stage,
    /// The turn of the task among those of its priority, from when it is first due.
    pub rank: u64,
    /// Neighbours in its lane, among the runs of its node, or in the line there.
    pub prev: Slot,
    pub next: Slot,
    /// Index of its class.
    pub class: u32,
    /// Who is told.
    pub addressee: Addressee,
    /// Attempts that have failed.
    pub failed_attempts: u32,
    pub priority: i8,
    pub past: Past,
    pub prefetch: Prefetch,
    pub era: Era,
}

const _: () = assert!(size_of::<Option<Task>>() <= 112);

impl Task {
    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    #[inline]
    pub fn is_exclusive(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.exclusive)
    }

    #[inline]
    pub fn is_cancelling(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.cancelling)
    }

    #[inline]
    pub fn key(&self) -> Option<&TaskKey> {
        self.rare.as_ref().and_then(|rare| rare.key.as_ref())
    }

    /// Returns its group.
    #[inline]
    pub fn group(&self) -> TaskGroupId {
        let group = self.rare.as_ref().and_then(|rare| rare.group.as_ref());
        group.map_or(NO_GROUP, |group| group.id)
    }

    /// Returns the name of its group.
    pub fn group_name(&self) -> Option<&TaskGroup> {
        let rare = self.rare.as_ref()?;
        rare.group.as_ref().map(|group| &group.name)
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        self.rare.as_ref().and_then(|rare| rare.deadline)
    }

    pub fn last_failure(&self) -> Option<&Failure> {
        let rare = self.rare.as_ref()?;
        rare.last_failure.as_ref()
    }

    #[inline]
    pub fn watcher(&self) -> Option<ClientId> {
        self.rare.as_ref().and_then(|rare| rare.watcher)
    }

    /// Returns its priority as turns tell it: less is sooner.
    #[inline]
    pub fn lateness(&self) -> u8 {
        (127 - i16::from(self.priority)) as u8
    }

    /// Returns the number of its next attempt, or of the one that goes on.
    #[inline]
    pub fn attempt(&self) -> u32 {
        self.failed_attempts.saturating_add(1)
    }

    pub fn losses(&self) -> usize {
        self.rare
            .as_ref()
            .map_or(0, |rare| rare.lost_on.all().len())
    }

    /// Counts the losses of nodes that count against it.
    pub fn counted_losses(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.lost_on.counted())
    }

    /// Returns among how many suspects it may be at one node, if it is one.
    #[inline]
    pub fn company(&self) -> Option<Company> {
        self.rare.as_ref()?.lost_on.company()
    }

    /// Returns where and when the last run of it started that has.
    pub fn last_start(&self) -> Option<Start> {
        let earlier = || self.rare.as_ref()?.starts.last().copied();
        self.stage.start().or_else(earlier)
    }

    /// Returns the nodes that it may be asked about: where it is, has run, or was lost.
    pub fn named_nodes(&self) -> impl Iterator<Item = u32> {
        let run = self.stage.placed().or_else(|| self.stage.given_up());
        let held = match &self.stage {
            Stage::Held(held) => Some(held.run),
            _ => None,
        };
        let rare = self.rare.iter();
        let past = rare.flat_map(|rare| {
            let starts = rare.starts.iter().map(|start| start.node);
            starts.chain(rare.lost_processes().map(|(node, _)| node.0))
        });
        run.into_iter().chain(held).map(|run| run.node).chain(past)
    }

    /// Counts an attempt that has come to nothing.
    pub fn attempt_failed(&mut self) {
        self.failed_attempts = self.attempt();
    }

    /// Notes that a run of it has started, or may have.
    pub fn may_have_run(&mut self) {
        self.past = self.past.max(Past::MayHaveRun);
    }

    /// Lets no node speak any more for the run that was given up.
    pub fn give_up_for_good(&mut self) {
        let start = self.stage.start();
        match &mut self.stage {
            Stage::Queued { given_up, .. } => *given_up = None,
            Stage::Held(held) if held.then == Then::QueueUnlessItReturns => {
                held.then = Then::Queue;
            }
            _ => return,
        }
        if let Some(start) = start {
            self.rare().note_start(start);
        }
    }

    /// Takes in that a node has told of the start of a run: of all starts before it only the last
    /// may matter, if no thread can be found for that run after all.
    pub fn has_started(&mut self) {
        self.may_have_run();
        if let Some(rare) = &mut self.rare {
            let before_last = rare.starts.len().saturating_sub(1);
            rare.starts.drain(..before_last);
        }
    }

    /// Takes back the start of a run that counted as started, by the word of its node.
    pub fn deny_start(&mut self, dispatch: Dispatch) {
        if let Some(rare) = &mut self.rare {
            rare.starts.retain(|start| start.dispatch != dispatch);
        }
    }

    /// Moves it to another stage, and returns the one in which it was. The start of a run that it
    /// cannot have again is kept with what is rare.
    #[inline(always)]
    pub fn enter(&mut self, stage: Stage) -> Stage {
        if let Some(start) = self.stage.start()
            && stage
                .start()
                .is_none_or(|next| next.dispatch != start.dispatch)
        {
            self.rare().note_start(start);
        }
        std::mem::replace(&mut self.stage, stage)
    }
}

/// Records in a chunk: as many as fit the 64 KiB above which freeing a block makes glibc's
/// allocator gather all its small free blocks, which costs more than the block was worth.
const CHUNK: usize = 512;
const WORDS: usize = CHUNK / 64;

/// The places of a chunk: of a fixed length, so that no look at a task compares with one.
type Slots = [Option<Task>; CHUNK];

/// Makes slots without tasks where they stay: on the stack they would be too large.
fn no_tasks() -> Box<Slots> {
    let slots: Box<[Option<Task>]> = std::iter::repeat_with(|| None).take(CHUNK).collect();
    slots.try_into().expect("there are as many as were taken")
}

#[derive(Debug)]
struct Chunk {
    /// Absent while no slot of it is used.
    slots: Option<Box<Slots>>,
    taken: [u64; WORDS],
    used: usize,
}

impl Chunk {
    fn vacant() -> Self {
        Self {
            slots: None,
            taken: [0; WORDS],
            used: 0,
        }
    }

    #[inline]
    fn first_free(&self) -> Option<usize> {
        let word = self.taken.iter().position(|&bits| bits != u64::MAX)?;
        Some(word * 64 + self.taken[word].trailing_ones() as usize)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    chunks: Vec<Chunk>,
    /// Chunks with a free slot; the last one is filled first.
    open: Vec<u32>,
    /// An empty chunk that keeps its room.
    spare: Option<usize>,
    pages: Pages,
    /// The page of the newest task, out of the table: nearly every task is added to it.
    newest: Option<(u64, Box<Page>)>,
    len: usize,
    args_bytes: u64,
}

impl Tasks {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn args_bytes(&self) -> u64 {
        self.args_bytes
    }

    #[inline]
    pub fn insert(&mut self, task: Task) -> Slot {
        let (id, bytes) = (task.id, task.args.len() as u64);
        let slot = self.place(task);
        let page = self.page_for(id.get() / PAGE);
        page.slots[(id.get() % PAGE) as usize] = slot;
        page.used += 1;
        self.len += 1;
        self.args_bytes += bytes;
        slot
    }

    #[inline]
    fn place(&mut self, task: Task) -> Slot {
        let index = match self.open.last() {
            Some(&index) => index as usize,
            None => {
                self.chunks.push(Chunk::vacant());
                let index = self.chunks.len() - 1;
                self.open.push(index as u32);
                index
            }
        };
        let chunk = &mut self.chunks[index];
        let at = chunk.first_free().expect("an open chunk has a free slot");
        let slots = chunk.slots.get_or_insert_with(no_tasks);
        slots[at] = Some(task);
        chunk.taken[at / 64] |= 1 << (at % 64);
        chunk.used += 1;
        if chunk.used == CHUNK {
            self.open.pop();
        }
        if self.spare == Some(index) {
            self.spare = None;
        }
        (index * CHUNK + at) as Slot
    }

    #[inline]
    pub fn remove(&mut self, slot: Slot) -> Task {
        let (index, at) = (slot as usize / CHUNK, slot as usize % CHUNK);
        let chunk = &mut self.chunks[index];
        let task = chunk
            .slots
            .as_mut()
            .and_then(|slots| slots[at].take())
            .expect("a slot in use holds a task");
        chunk.taken[at / 64] &= !(1 << (at % 64));
        chunk.used -= 1;
        if chunk.used == CHUNK - 1 {
            self.open.push(index as u32);
        }
        if chunk.used == 0 {
            // One empty chunk is kept, so that a count around its edge does not allocate each time.
            match self.spare {
                Some(spare) if spare != index => chunk.slots = None,
                _ => self.spare = Some(index),
            }
        }
        let number = task.id.get() / PAGE;
        if let Some(page) = self.page_mut(number) {
            page.slots[(task.id.get() % PAGE) as usize] = NO_SLOT;
            page.used -= 1;
            if page.used == 0 && self.newest.as_ref().is_none_or(|newest| newest.0 != number) {
                self.pages.remove(number);
            }
        }
        self.len -= 1;
        self.args_bytes -= task.args.len() as u64;
        task
    }

    /// Returns the page of this number, which becomes the newest.
    #[inline]
    fn page_for(&mut self, number: u64) -> &mut Page {
        if self.newest.as_ref().is_none_or(|newest| newest.0 != number) {
            let page = self.pages.remove(number).unwrap_or_else(Page::vacant);
            if let Some((old, page)) = self.newest.replace((number, page))
                && page.used > 0
            {
                self.pages.insert(old, page);
            }
        }
        let (_, page) = self.newest.as_mut().expect("it has just been set");
        page
    }

    #[inline]
    fn page_mut(&mut self, number: u64) -> Option<&mut Page> {
        match &mut self.newest {
            Some((newest, page)) if *newest == number => Some(page),
            _ => self.pages.get_mut(number),
        }
    }

    #[inline]
    pub fn find(&self, id: TaskId) -> Option<Slot> {
        let number = id.get() / PAGE;
        let page = match &self.newest {
            Some((newest, page)) if *newest == number => page,
            _ => self.pages.get(number)?,
        };
        let slot = page.slots[(id.get() % PAGE) as usize];
        (slot != NO_SLOT).then_some(slot)
    }

    #[inline]
    pub fn get(&self, slot: Slot) -> &Task {
        self.chunks[slot as usize / CHUNK]
            .slots
            .as_ref()
            .and_then(|slots| slots[slot as usize % CHUNK].as_ref())
            .expect("a slot in use holds a task")
    }

    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> &mut Task {
        self.chunks[slot as usize / CHUNK]
            .slots
            .as_mut()
            .and_then(|slots| slots[slot as usize % CHUNK].as_mut())
            .expect("a slot in use holds a task")
    }

    /// Returns all tasks, in order of their slots, which is deterministic.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Task)> {
        self.chunks.iter().enumerate().flat_map(|(index, chunk)| {
            chunk
                .slots
                .iter()
                .flat_map(|slots| slots.iter().enumerate())
                .filter_map(move |(at, task)| Some(((index * CHUNK + at) as Slot, task.as_ref()?)))
        })
    }

    /// Returns the slots of the tasks after this one, or of all, in order of id.
    pub fn after(&self, id: Option<TaskId>) -> impl Iterator<Item = Slot> {
        let first = id.map_or(0, |id| id.get().saturating_add(1));
        let newest = self
            .newest
            .as_ref()
            .map(|(number, page)| (*number, &**page));
        let pages = self.pages.from(first / PAGE, newest);
        pages.flat_map(move |(number, page)| {
            let ids = (number * PAGE..).zip(page.slots);
            ids.filter_map(move |(id, slot)| (id >= first && slot != NO_SLOT).then_some(slot))
        })
    }

    /// Puts a task at the end of a list that is threaded through the records.
    #[inline]
    pub fn link_last(&mut self, list: &mut List, slot: Slot) {
        let last = list.last;
        let task = self.get_mut(slot);
        task.prev = last;
        task.next = NO_SLOT;
        if last == NO_SLOT {
            list.first = slot;
        } else {
            self.get_mut(last).next = slot;
        }
        list.last = slot;
    }

    /// Takes a task out of the list that it is in.
    #[inline]
    pub fn unlink(&mut self, list: &mut List, slot: Slot) {
        let task = self.get_mut(slot);
        let (prev, next) = (task.prev, task.next);
        task.prev = NO_SLOT;
        task.next = NO_SLOT;
        if prev == NO_SLOT {
            list.first = next;
        } else {
            self.get_mut(prev).next = next;
        }
        if next == NO_SLOT {
            list.last = prev;
        } else {
            self.get_mut(next).prev = prev;
        }
    }

    /// Returns the tasks of a list, first to last.
    pub fn walk(&self, list: &List) -> impl Iterator<Item = Slot> {
        let mut at = list.first;
        std::iter::from_fn(move || {
            let slot = (at != NO_SLOT).then_some(at)?;
            at = self.get(slot).next;
            Some(slot)
        })
    }
}

/// The ends of a list that is threaded through the records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    pub first: Slot,
    pub last: Slot,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NO_SLOT,
            last: NO_SLOT,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
