//! The processes of the scheduler, one after the other, as their parent sees them.
//!
//! Owns: their kills and starts, and when there was none. Does not know: tasks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::journal::now;
use crate::ledger::Ledger;
use crate::plan::Outage;
use crate::processes::Processes;
use crate::scheduler::Setup;
use crate::{AnyError, NAME, words};

/// Longer than any start takes.
const LONGEST: Duration = Duration::from_secs(30);

/// One restart, by the clock of [`now`].
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// From before the kill...
    pub killed: u64,
    /// ...to the start of the next process...
    pub started: u64,
    /// ...and until that took tasks.
    pub ready: u64,
}

/// See the module.
pub struct Keeper {
    setup: Setup,
    processes: Processes,
    ledger: Arc<Ledger>,
    reader: Option<Reader>,
    pub restarts: Vec<Restart>,
}

/// Enters what one process says.
struct Reader {
    thread: JoinHandle<()>,
    /// Whether the end of the process is no wonder.
    expected: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts the first.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start(setup: Setup, secret: &str, ledger: &Arc<Ledger>) -> Result<Self, AnyError> {
        let mut keeper = Self {
            setup,
            processes: Processes {
                nodes: Vec::new(),
                secret: secret.to_owned(),
            },
            ledger: Arc::clone(ledger),
            reader: None,
            restarts: Vec::new(),
        };
        keeper.spawn().await?;
        Ok(keeper)
    }

    /// Starts one, and waits until it is ready.
    async fn spawn(&mut self) -> Result<(), AnyError> {
        self.setup.first = self.ledger.next();
        let before = self.ledger.heard().ready;
        let setup = serde_json::to_string(&self.setup)?;
        self.processes.spawn(NAME, &[setup])?;
        let stdout = self.processes.nodes[0].take_stdout();
        let stdout = stdout.ok_or("the scheduler has no stdout")?;
        let expected = Arc::new(AtomicBool::new(false));
        let (ledger, seen) = (Arc::clone(&self.ledger), Arc::clone(&expected));
        let thread = std::thread::spawn(move || {
            let heard = words::hear(stdout, |word| ledger.enter(word));
            if !seen.load(Ordering::SeqCst) {
                ledger.gone(heard.err().as_ref().map(io::Error::to_string));
            }
        });
        self.reader = Some(Reader { thread, expected });
        let ready = self.ledger.until(|heard| heard.ready > before);
        tokio::time::timeout(LONGEST, ready).await?
    }

    /// Kills it by SIGKILL, and reads what it has said before.
    fn kill(&mut self) -> Result<(), AnyError> {
        let reader = self.reader.take().ok_or("it was killed before")?;
        reader.expected.store(true, Ordering::SeqCst);
        self.processes.nodes[0].kill()?;
        reader
            .thread
            .join()
            .map_err(|_| "what it has said is not understood")?;
        self.ledger.killed();
        Ok(())
    }

    /// Carries out the plan, and then waits until the last process has ended by itself.
    ///
    /// # Errors
    ///
    /// A process ended before its time, or does not start.
    pub async fn suffer(&mut self, plan: &[Outage]) -> Result<(), AnyError> {
        let began = Instant::now();
        for (number, outage) in plan.iter().enumerate() {
            tokio::time::sleep_until((began + outage.at).into()).await;
            if number % 2 == 1 {
                // While tasks are handed in: whether they are taken is not known then.
                let batches = self.ledger.heard().batches;
                self.ledger.until(|heard| heard.batches > batches).await?;
            }
            let killed = now();
            self.kill()?;
            tokio::time::sleep_until((began + outage.until).into()).await;
            let started = now();
            self.spawn().await?;
            self.restarts.push(Restart {
                killed,
                started,
                ready: now(),
            });
        }
        self.ledger.until(|heard| heard.ended).await
    }
}
