//! The threads that a handle needs: a control thread for its actors, a network thread for its
//! links, and an actix System for an application that runs none.
//!
//! Owns: these threads, until the handle's actors have ended. Does not know: what runs on them.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle, System};
use tokio::runtime::Handle;
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
    /// Returns the calling thread, for tests in which everything is to stay on it.
    pub fn current() -> Self {
        Self::on(None, None)
    }

    /// Starts a control thread in the System of the calling thread, or in one of its own if there
    /// is none.
    ///
    /// # Errors
    ///
    /// The system gave no thread or no descriptors for one, or no runtime runs on this thread.
    pub async fn start() -> io::Result<Self> {
        if Handle::try_current().is_err() {
            return Err(io::Error::other(
                "no tokio runtime runs on this thread; start it within one, for example under #[actix::main]",
            ));
        }
        if System::try_current().is_some() {
            return Ok(Self::on(Some(Arbiter::try_new()?.handle()), None));
        }
        let (tx, rx) = oneshot::channel();
        thread::Builder::new()
            .name("callboard".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    // The caller may have gone.
                    Err(error) => return drop(tx.send(Err(error))),
                };
                let runner = System::with_tokio_rt(move || runtime);
                // If nobody takes it, it ends at once.
                drop(tx.send(Ok(Unclaimed(Some(System::current())))));
                // Its handle ends it; a code other than zero cannot come from there.
                let _ = runner.run();
            })?;
        let own = rx.await.map_err(|_| {
            io::Error::other("the thread of the actix System ended as it was started")
        })??;
        let own = own.keep();
        Ok(Self::on(Some(own.arbiter().clone()), Some(own)))
    }

    fn on(control: Option<ArbiterHandle>, own: Option<System>) -> Self {
        Self {
            control,
            network: Mutex::new(None),
            own,
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            last_words: Mutex::new(LinkConfig::default().close_timeout),
        }
    }

    pub fn control(&self) -> Option<&ArbiterHandle> {
        self.control.as_ref()
    }

    /// Carries the links on the control thread too. For a node: nobody but its links sends its
    /// actor messages, so that no flood keeps a socket from being read, and a task costs two
    /// wake-ups less.
    pub fn with_one_thread(self) -> Self {
        *lock(&self.network) = self.control.clone();
        self
    }

    /// Returns the network's thread, and starts it first if there is none.
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
                    let started = Arbiter::try_new();
                    // If nobody takes it, it ends at once.
                    drop(tx.send(started.map(|it| Unclaimed(Some(it.handle())))));
                });
                let ended = || io::Error::other("the control thread ended; the actix System is stopping");
                rx.await.map_err(|_| ended())??.keep()
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
            // The caller has gone.
            let _ = tx.send(act.await);
        });
        rx.await.map_err(|_| {
            io::Error::other("the network's thread ended; the actix System is stopping")
        })
    }
}

impl Host {
    /// Does something on the control thread, where there are timers whatever runs on the caller's,
    /// and waits for it.
    pub async fn on_control<T, F>(&self, act: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let Some(control) = &self.control else {
            return Ok(act.await);
        };
        let (tx, rx) = oneshot::channel();
        control.spawn(async move {
            // The caller has gone.
            let _ = tx.send(act.await);
        });
        rx.await
            .map_err(|_| io::Error::other("the control thread ended; the actix System is stopping"))
    }

    /// Sets how long its links may take to say their last words. By default that of
    /// [`LinkConfig::close_timeout`].
    pub fn limit_last_words(&self, limit: Duration) {
        *lock(&self.last_words) = limit;
    }

    /// Ends the threads, that of the network when its links have said their last words. Doing so
    /// again changes nothing.
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
        let (own, ended) = (self.own.clone(), EndedFlag(self.ended.clone()));
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

/// A thread on its way to the caller that started it. It ends if nobody claims it, since the caller
/// may not wait for it any more.
struct Unclaimed<T: Stop>(Option<T>);

trait Stop {
    fn stop(&self);
}

impl Stop for System {
    fn stop(&self) {
        Self::stop(self);
    }
}

impl Stop for ArbiterHandle {
    fn stop(&self) {
        Self::stop(self);
    }
}

impl<T: Stop> Unclaimed<T> {
    fn keep(mut self) -> T {
        self.0.take().expect("it is claimed once")
    }
}

impl<T: Stop> Drop for Unclaimed<T> {
    fn drop(&mut self) {
        if let Some(thread) = &self.0 {
            thread.stop();
        }
    }
}

/// Says, when it is dropped, that the threads have ended.
struct EndedFlag(watch::Sender<bool>);

impl Drop for EndedFlag {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}
