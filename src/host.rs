//! The threads that a handle needs: a control thread for its actors, a network thread for its links, and
//! an actix System for an application that runs none.
//!
//! Owns: these threads, until the handle's actors have ended. Does not know: what runs on them.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle, System};
use tokio::sync::{oneshot, watch};

use crate::net::LinkConfig;
use crate::net::carrier::part;
use crate::sync::lock;

/// The threads of one handle. They end with it, or when it is stopped.
pub(crate) struct Host {
    /// Where the actors live; no user code runs there. `None` is the calling thread.
    control: Option<ArbiterHandle>,
    /// Where links are carried; started when it is first needed.
    network: Mutex<Option<ArbiterHandle>>,
    /// The System that was started for it.
    own: Option<System>,
    stopping: AtomicBool,
    ended: watch::Sender<bool>,
    /// How long its links may take to say their last words.
    last_words: Mutex<Duration>,
}

impl Host {
    /// The calling thread, for tests in which everything is to stay on it.
    pub fn current() -> Self {
        Self {
            control: None,
            network: Mutex::new(None),
            own: None,
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            last_words: Mutex::new(LinkConfig::default().close_timeout),
        }
    }

    /// A control thread in the System of the calling thread, or in one of its own if there is none.
    pub async fn start() -> io::Result<Self> {
        if System::try_current().is_some() {
            return Ok(Self {
                control: Some(Arbiter::new().handle()),
                network: Mutex::new(None),
                own: None,
                stopping: AtomicBool::new(false),
                ended: watch::Sender::new(false),
                last_words: Mutex::new(LinkConfig::default().close_timeout),
            });
        }
        let (tx, rx) = oneshot::channel();
        thread::Builder::new()
            .name("callboard".to_owned())
            .spawn(move || {
                let runner = System::new();
                if tx.send(System::current()).is_ok() {
                    // It ends when its handle ends it; a code other than zero cannot come from there.
                    let _ = runner.run();
                }
            })?;
        let own = rx.await.map_err(|_| {
            io::Error::other("the thread of the actix System ended as it was started")
        })?;
        Ok(Self {
            control: Some(own.arbiter().clone()),
            network: Mutex::new(None),
            own: Some(own),
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            last_words: Mutex::new(LinkConfig::default().close_timeout),
        })
    }

    pub fn control(&self) -> Option<&ArbiterHandle> {
        self.control.as_ref()
    }

    /// Carries the links on the control thread too. For a node: nobody but its links sends its actor
    /// messages, so that no flood keeps a socket from being read, and a task costs two wake-ups less.
    pub fn with_one_thread(self) -> Self {
        *lock(&self.network) = self.control.clone();
        self
    }

    /// The network's thread.
    pub async fn network(&self) -> io::Result<ArbiterHandle> {
        if let Some(network) = &*lock(&self.network) {
            return Ok(network.clone());
        }
        let started = match &self.control {
            None => Arbiter::try_current().ok_or_else(|| {
                io::Error::other("there is no actix System on this thread; start one, or leave out `on_current_arbiter`")
            })?,
            Some(control) => {
                let (tx, rx) = oneshot::channel();
                // An arbiter can only be started from a thread of its System.
                control.spawn_fn(move || {
                    // Whoever waits for it has gone; then the arbiter ends with this handle.
                    let _ = tx.send(Arbiter::new().handle());
                });
                rx.await
                    .map_err(|_| io::Error::other("the control thread ended; the actix System is stopping"))?
            }
        };
        let mut network = lock(&self.network);
        Ok(network.get_or_insert(started).clone())
    }

    /// Does something on the network's thread and waits for it.
    pub async fn on_network<T, F>(&self, act: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let network = self.network().await?;
        let (tx, rx) = oneshot::channel();
        network.spawn(async move {
            // Whoever waits for it has gone.
            let _ = tx.send(act.await);
        });
        rx.await.map_err(|_| {
            io::Error::other("the network's thread ended; the actix System is stopping")
        })
    }
}

impl Host {
    /// Sets how long its links may take to say their last words. By default that of
    /// [`LinkConfig::close_timeout`].
    pub fn limit_last_words(&self, limit: Duration) {
        *lock(&self.last_words) = limit;
    }

    /// Ends the threads, that of the network when its links have said their last words. Doing so again
    /// changes nothing.
    pub fn stop(&self) {
        let mut network = lock(&self.network);
        let network = network.take();
        let Some(control) = self.control.clone() else {
            self.ended.send_replace(true);
            return;
        };
        if self.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (own, ended) = (self.own.clone(), Ended(self.ended.clone()));
        let end = move || {
            let _ended = ended;
            match own {
                Some(own) => own.stop(),
                None => {
                    control.stop();
                }
            }
        };
        match network {
            None => end(),
            Some(network) => {
                // Where the System is stopping by itself, this is dropped, which is an end too.
                let last_words = *lock(&self.last_words);
                network.spawn(async move {
                    part(last_words).await;
                    Arbiter::current().stop();
                    end();
                });
            }
        }
    }

    /// Waits until [`Host::stop`] has ended the threads.
    pub async fn ended(&self) {
        // It is not dropped before, since `self` holds it.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// Says, when it is dropped, that the threads have ended.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}
