//! What all who look at a scheduler share: one look a second, whoever and how many they are.
//!
//! Owns: the last snapshot, the thread that takes the next one and feeds the plots, and the counts
//! of what was done.
//! Does not know: how any of it is shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use actix::Addr;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::lately::{Before, Lately};
use super::problems::{self, Problem};
use super::rings::{Point, Reach, Rings};
use super::sweeps::Sweeps;
use super::text::words;
use super::wrong::Wrong;
use crate::actors::scheduler::SchedulerActor;
use crate::say::say;
use crate::scheduler::Scheduler;
use crate::snapshot::Snapshot;
use crate::sync::lock;

/// How often is looked, at most.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a scheduler may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many streams of events there may be at once for a scheduler.
const MAX_VIEWERS: usize = 1000;

/// How many may search among the tasks of a scheduler, or read its store, at once.
const TURNS: usize = 2;

/// How many nodes that came or went at once are named.
const NAMED: usize = 4;

/// How many comings and goings of nodes are kept.
const MAX_NODE_MARKS: usize = 100;

/// How many answers to forms are kept for the next page.
const MAX_NOTES: usize = 100;

/// What was seen of a scheduler at one moment.
#[derive(Debug)]
pub struct Moment {
    pub at: SystemTime,
    pub snapshot: Snapshot,
    pub problems: Vec<Problem>,
    /// How things went, by reach.
    pub plots: [Vec<Point>; Reach::ALL.len()],
    /// What happened meanwhile: marks of the application, nodes that came and went.
    pub marks: Vec<(SystemTime, String)>,
    /// What had failed a while ago.
    pub before: Before,
    /// How many were taken before it.
    pub number: u64,
    taken: Instant,
    /// How often each action was done by then, by its result.
    actions: Counts,
    json: OnceLock<Bytes>,
    /// What was made of it for pages that move, by for whom.
    fragments: Mutex<BTreeMap<String, Arc<OnceCell<Bytes>>>>,
}

type Counts = BTreeMap<&'static str, BTreeMap<&'static str, u64>>;

impl Moment {
    /// Returns it as JSON, which is written once for all.
    pub fn json(&self) -> Bytes {
        let write = || {
            let at = self.at.duration_since(SystemTime::UNIX_EPOCH);
            let value = json!({
                "at": at.unwrap_or_default().as_secs_f64(),
                "stats": self.snapshot.stats,
                "problems": self.problems,
                "actions": self.actions,
                "looks": self.number + 1,
            });
            value.to_string().into()
        };
        self.json.get_or_init(write).clone()
    }

    /// Returns what is made of it for all who see the same: once, also if they come while it is
    /// made.
    pub async fn fragment<M: Future<Output = Bytes>>(
        &self,
        key: &str,
        make: impl FnOnce() -> M,
    ) -> Bytes {
        let cell = Arc::clone(lock(&self.fragments).entry(key.to_owned()).or_default());
        cell.get_or_init(make).await.clone()
    }
}

/// What is known of a scheduler that is looked at.
pub struct Watch {
    name: Arc<str>,
    /// The scheduler of this name that was there last.
    scheduler: Mutex<Scheduler>,
    /// Those who want to see every moment wait for it here.
    seen: watch::Sender<Option<Arc<Moment>>>,
    /// Held while one is taken, so that those who come meanwhile have the same.
    taking: tokio::sync::Mutex<()>,
    done: Mutex<Counts>,
    notes: Mutex<Notes>,
    pub sweeps: Sweeps,
    /// Whoever searches among the tasks or reads the store holds one.
    turns: Semaphore,
    rings: Mutex<Rings>,
    /// What had failed a while ago.
    lately: Mutex<Lately>,
    /// When nodes have come and gone.
    nodes: Mutex<VecDeque<(SystemTime, String)>>,
    /// How many snapshots were taken.
    taken: AtomicU64,
}

/// What was felt of a scheduler the last time.
#[derive(Default)]
struct Felt {
    of: Option<Addr<SchedulerActor>>,
    up: BTreeSet<Arc<str>>,
}

/// What was answered to forms of late, for the page that each leads back to.
#[derive(Debug, Default)]
struct Notes {
    last: u64,
    kept: VecDeque<(u64, String)>,
}

/// The watches of this process, by the names of their schedulers.
static WATCHES: Mutex<BTreeMap<Arc<str>, Weak<Watch>>> = Mutex::new(BTreeMap::new());

impl Watch {
    /// Returns the watch of a scheduler, and begins it if there is none. It goes on for as long as
    /// anybody holds it: also when that scheduler has ended and another is started under its name,
    /// which is looked at then.
    pub fn of(scheduler: &Scheduler) -> Arc<Self> {
        let mut watches = lock(&WATCHES);
        watches.retain(|_, watch| watch.strong_count() > 0);
        let known = watches.get(scheduler.name()).and_then(Weak::upgrade);
        if let Some(watch) = known {
            return watch;
        }
        let name = Arc::<str>::from(scheduler.name());
        let watch = Arc::new(Self {
            name: Arc::clone(&name),
            scheduler: Mutex::new(scheduler.clone()),
            seen: watch::Sender::new(None),
            taking: tokio::sync::Mutex::default(),
            done: Mutex::default(),
            notes: Mutex::default(),
            sweeps: Sweeps::default(),
            turns: Semaphore::new(TURNS),
            rings: Mutex::default(),
            lately: Mutex::default(),
            nodes: Mutex::default(),
            taken: AtomicU64::default(),
        });
        watches.insert(name, Arc::downgrade(&watch));
        drop(watches);
        let looker = Arc::downgrade(&watch);
        let thread = thread::Builder::new().name("callboard-watch".to_owned());
        if let Err(error) = thread.spawn(move || look(&looker)) {
            say!(error: %error, "no thread can be started for the dashboard, so that no page moves by itself");
        }
        watch
    }

    /// Returns the name of the scheduler.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the scheduler: if it has ended, the one that was started under its name since.
    pub fn scheduler(&self) -> Scheduler {
        let mut own = lock(&self.scheduler);
        if !own.addr().connected()
            && let Some(next) = Scheduler::find(&self.name)
        {
            *own = next;
        }
        own.clone()
    }

    /// Returns what was seen within the last second, or looks.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped, or does not answer.
    pub async fn moment(&self) -> Result<Arc<Moment>, Wrong> {
        let fresh = || {
            let seen = self.seen.borrow();
            let moment = seen.as_ref()?;
            (moment.taken.elapsed() < PERIOD).then(|| Arc::clone(moment))
        };
        if let Some(moment) = fresh() {
            return Ok(moment);
        }
        let _taking = self.taking.lock().await;
        match fresh() {
            Some(moment) => Ok(moment),
            None => self.take().await,
        }
    }

    /// Forgets what was seen, since something was done: the next who asks sees what came of it.
    pub async fn forget(&self) {
        // What is being taken may have missed it.
        let _taking = self.taking.lock().await;
        self.seen.send_if_modified(|seen| {
            *seen = None;
            false
        });
    }

    async fn take(&self) -> Result<Arc<Moment>, Wrong> {
        let taken = Instant::now();
        let scheduler = self.scheduler();
        let snapshot = timeout(PATIENCE, scheduler.snapshot()).await;
        let snapshot = snapshot.map_err(|_| {
            Wrong::unavailable(
                "the scheduler has not answered for 5 s: look for a client or a handler that \
                 blocks its thread",
            )
        })??;
        let plots = {
            let rings = lock(&self.rings);
            Reach::ALL.map(|reach| rings.points(reach))
        };
        let mut marks = scheduler.marks();
        marks.extend(lock(&self.nodes).iter().cloned());
        let moment = Arc::new(Moment {
            at: SystemTime::now(),
            problems: problems::of(&snapshot.stats, &snapshot.machine.kinds),
            snapshot,
            plots,
            marks,
            before: lock(&self.lately).before(),
            number: self.taken.fetch_add(1, Ordering::Relaxed),
            taken,
            actions: lock(&self.done).clone(),
            json: OnceLock::new(),
            fragments: Mutex::default(),
        });
        self.seen.send_replace(Some(Arc::clone(&moment)));
        Ok(moment)
    }

    /// Lets somebody see every moment from now on.
    ///
    /// # Errors
    ///
    /// As many look as may.
    pub fn view(&self) -> Result<watch::Receiver<Option<Arc<Moment>>>, Wrong> {
        if self.seen.receiver_count() >= MAX_VIEWERS {
            return Err(Wrong::unavailable(format_args!(
                "{MAX_VIEWERS} viewers look already, which is as many as may: close some pages"
            )));
        }
        Ok(self.seen.subscribe())
    }

    /// Keeps what was answered for a while, and returns its number.
    pub fn note(&self, words: String) -> u64 {
        let mut notes = lock(&self.notes);
        notes.last += 1;
        let number = notes.last;
        notes.kept.push_back((number, words));
        if notes.kept.len() > MAX_NOTES {
            notes.kept.pop_front();
        }
        number
    }

    /// Returns what was answered under this number.
    pub fn noted(&self, number: u64) -> Option<String> {
        let notes = lock(&self.notes);
        let mut kept = notes.kept.iter();
        kept.find(|(other, _)| *other == number)
            .map(|(_, words)| words.clone())
    }

    /// Waits until few enough search or read, and lets one more.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Takes in what is so now, so many seconds after the last time.
    async fn feel(&self, seconds: u64, felt: &mut Felt) {
        let scheduler = self.scheduler();
        // One that has stopped or hangs has no numbers, and the plots end.
        let Ok(Ok(pulse)) = timeout(PATIENCE, scheduler.pulse()).await else {
            return;
        };
        let before = if felt.of.as_ref() == Some(scheduler.addr()) {
            std::mem::replace(&mut felt.up, pulse.up.clone())
        } else {
            lock(&self.rings).begin_again();
            *lock(&self.lately) = Lately::default();
            felt.of = Some(scheduler.addr().clone());
            felt.up = pulse.up.clone();
            felt.up.clone()
        };
        lock(&self.lately).add(&pulse.failed_of, seconds);
        lock(&self.rings).add(pulse, seconds);
        let mut nodes = lock(&self.nodes);
        for (what, text) in [
            ("up", named(felt.up.difference(&before))),
            ("not up any more", named(before.difference(&felt.up))),
        ] {
            if let Some(text) = text {
                nodes.push_back((SystemTime::now(), format!("{what}: {text}")));
            }
        }
        while nodes.len() > MAX_NODE_MARKS {
            nodes.pop_front();
        }
    }

    /// Counts an action.
    pub fn count(&self, action: &'static str, result: &'static str) {
        let mut done = lock(&self.done);
        *done.entry(action).or_default().entry(result).or_default() += 1;
    }
}

/// Names the first nodes of some, and counts the others; `None` if there is none.
fn named<'a>(nodes: impl Iterator<Item = &'a Arc<str>>) -> Option<String> {
    let mut nodes = nodes.fuse();
    let first: Vec<_> = nodes.by_ref().take(NAMED).map(|it| words(it, 40)).collect();
    let more = match nodes.count() {
        _ if first.is_empty() => return None,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(first.join(", ") + &more)
}

/// Looks once a second while anybody does, until nobody holds the watch.
fn look(watch: &Weak<Watch>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_time().build() else {
        say!(error: "no timer can be made for the dashboard, so that no page moves by itself");
        return;
    };
    runtime.block_on(async {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        let mut felt = Felt::default();
        loop {
            ticks.tick().await;
            let Some(watch) = watch.upgrade() else {
                return;
            };
            let seconds = (last.elapsed().as_millis() + 500) / 1000;
            last = Instant::now();
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            watch.feel(seconds, &mut felt).await;
            if watch.seen.receiver_count() > 0 {
                let _taking = watch.taking.lock().await;
                // Whoever looks keeps what was seen last, and says when that was.
                let _ = watch.take().await;
            }
        }
    });
}
