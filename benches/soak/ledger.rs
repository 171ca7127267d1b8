//! What was accepted and what has settled, over all processes of the scheduler.
//!
//! Owns: that each task is entered once on either side, and what a kill leaves open. Does not know:
//! who says it, or what the runs wrote down.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::AnyError;
use crate::node::LINGER;
use crate::words::{Ending, State, Word};

/// How many objections are kept in words.
const WORDS: usize = 20;

/// See the module.
#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
    heard: watch::Sender<Heard>,
}

/// What others wait for.
#[derive(Clone, Default)]
pub struct Heard {
    /// How many processes were ready.
    pub ready: u64,
    /// How many batches were handed in, answered or not.
    pub batches: u64,
    /// Whether the last has ended as it should.
    pub ended: bool,
    /// How one ended that should not.
    gone: Option<String>,
}

/// What was said.
#[derive(Clone, Default)]
pub struct Book {
    pub accepted: HashSet<u64>,
    /// How each task was first told to have ended.
    endings: HashMap<u64, Ending>,
    /// Numbers of tasks that were being handed in, and those that a kill left without an answer.
    handing_in: Vec<u64>,
    unanswered: HashSet<u64>,
    next: u64,
    pub refused: u64,
    pub reroutes: u64,
    /// Endings that were told again, as they may be over a restart.
    pub given_again: u64,
    pub outcomes: BTreeMap<String, u64>,
    /// What the last process said of itself; and the most that any has taken of the disk.
    pub state: State,
    pub most_stored: u64,
    pub kills: u64,
    pub wrong: u64,
    pub words: Vec<String>,
}

impl Ledger {
    pub fn book(&self) -> MutexGuard<'_, Book> {
        // What a panic interrupts here is whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits for this.
    ///
    /// # Errors
    ///
    /// A process ended that should not.
    pub async fn until(&self, holds: impl Fn(&Heard) -> bool) -> Result<(), AnyError> {
        let mut heard = self.heard.subscribe();
        let heard = heard.wait_for(|heard| holds(heard) || heard.gone.is_some());
        match heard.await?.gone.clone() {
            Some(how) => Err(format!("the scheduler's process ended by itself{how}").into()),
            None => Ok(()),
        }
    }

    pub fn enter(&self, word: Word) {
        match word {
            Word::Ready => self.heard.send_modify(|heard| heard.ready += 1),
            Word::Ended => self.heard.send_modify(|heard| heard.ended = true),
            word => {
                let batch = matches!(word, Word::HandingIn(_));
                self.book().enter(word);
                if batch {
                    self.heard.send_modify(|heard| heard.batches += 1);
                }
            }
        }
    }

    /// Enters that a process ended, and why if that is known.
    pub fn gone(&self, why: Option<String>) {
        self.heard.send_modify(|heard| {
            if !heard.ended {
                heard.gone = Some(why.map_or_else(String::new, |why| format!(": {why}")));
            }
        });
    }

    /// Enters a kill: what had no answer may have been taken or not.
    pub fn killed(&self) {
        let mut book = self.book();
        book.kills += 1;
        let open = std::mem::take(&mut book.handing_in);
        book.unanswered.extend(open);
    }

    /// Returns the number of the first task that nobody has handed in.
    pub fn next(&self) -> u64 {
        self.book().next
    }
}

impl Book {
    fn enter(&mut self, word: Word) {
        match word {
            Word::HandingIn(numbers) => {
                let after = numbers.iter().max().map_or(0, |last| last + 1);
                self.next = self.next.max(after);
                self.handing_in = numbers;
            }
            Word::Answered { accepted, refused } => {
                // One that joined an earlier one by its key is that one.
                self.accepted.extend(accepted);
                self.refused += refused;
                self.handing_in.clear();
            }
            Word::Settled(ending) => self.settled(ending),
            Word::State(state) => {
                self.most_stored = self.most_stored.max(state.store);
                self.state = state;
            }
            Word::Unfinished(words) => words.into_iter().for_each(|words| self.object(words)),
            Word::Ready | Word::Ended => {}
        }
    }

    fn settled(&mut self, ending: Ending) {
        let Some(first) = self.endings.get(&ending.id) else {
            self.reroutes += u64::from(ending.reroutes);
            *self.outcomes.entry(ending.outcome.clone()).or_default() += 1;
            if let Some(objection) = ending.objection.clone() {
                self.object(objection);
            }
            self.endings.insert(ending.id, ending);
            return;
        };
        let same = (&first.outcome, first.attempts) == (&ending.outcome, ending.attempts);
        if same && ending.given_again && self.kills > 0 {
            self.given_again += 1;
        } else {
            let words = format!("t{} ended twice: {first:?} and {ending:?}", ending.id);
            self.object(words);
        }
    }

    fn object(&mut self, words: String) {
        self.wrong += 1;
        if self.words.len() < WORDS {
            self.words.push(words);
        }
    }

    /// Returns what became of a task, in words.
    pub fn fate(&self, id: u64) -> String {
        match self.endings.get(&id) {
            Some(ending) => format!("{}, {}", ending.kind, ending.outcome),
            None => "not settled".to_owned(),
        }
    }

    /// Returns whether a task is of a kind whose tasks may be cancelled, or has not settled.
    pub fn may_be_cancelled(&self, id: u64) -> bool {
        let ending = self.endings.get(&id);
        ending.is_none_or(|ending| ending.kind == LINGER)
    }

    pub fn settled_count(&self) -> u64 {
        self.endings.len() as u64
    }

    /// Counts those that settled and were never answered, since the scheduler was killed before.
    pub fn settled_unanswered(&self) -> usize {
        let strange = self.endings.keys().filter(|id| !self.accepted.contains(id));
        strange.count()
    }

    /// Returns tasks that were accepted and have not settled; and those that have, and that nobody
    /// can have handed in.
    pub fn unmatched(&self) -> (Vec<u64>, Vec<u64>) {
        let lost = self.accepted.iter();
        let lost = lost.filter(|id| !self.endings.contains_key(id)).copied();
        let strange = self.endings.values().filter(|ending| {
            let open = ending.number.is_some_and(|n| self.unanswered.contains(&n));
            !open && !self.accepted.contains(&ending.id)
        });
        (lost.collect(), strange.map(|ending| ending.id).collect())
    }
}
