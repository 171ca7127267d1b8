//! The nodes: a process each, and a network to each that fails on demand.
//!
//! Owns: the carrying out of the plan, and the record of which process lived and froze when. Does
//! not know: tasks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::AnyError;
use crate::journal::now;
use crate::plan::{Fault, Planned};
use crate::processes::Processes;
use crate::proxy::{Proxy, Traffic};

/// Workers of each node.
pub const WORKERS: u32 = 4;

/// One process of a node, by the clock of [`now`].
pub struct SchedulerId {
    pub node: usize,
    pub journal: PathBuf,
    /// When it was known to be dead, if it is.
    pub ended: Option<u64>,
    /// From when to when it was frozen.
    pub frozen: Vec<(u64, u64)>,
}

/// When a node, or the network to it, failed, from before that was done until after it was undone.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub from: u64,
    pub to: u64,
    /// Whether it ended the process, and all that ran in it.
    pub killed: bool,
}

impl Trouble {
    pub fn lasted(&self) -> Duration {
        Duration::from_nanos(self.to - self.from)
    }
}

/// See the module.
pub struct Cluster {
    processes: Processes,
    proxies: Vec<Proxy>,
    folder: PathBuf,
    /// Where the nodes' are, if they have any.
    certificates: Option<PathBuf>,
    pub lives: Vec<SchedulerId>,
    /// Of each node, in order.
    pub troubles: Vec<Vec<Trouble>>,
    /// The place in `lives` of each node's process.
    current: Vec<usize>,
    pub faults: BTreeMap<(Fault, bool), u64>,
}

pub fn name(node: usize) -> String {
    format!("node-{:02}", node + 1)
}

impl Cluster {
    /// Starts so many nodes, which join this scheduler.
    pub async fn start(
        processes: Processes,
        nodes: usize,
        scheduler: SocketAddr,
        folder: &Path,
        certificates: Option<&Path>,
    ) -> Result<Self, AnyError> {
        let mut cluster = Self {
            processes,
            proxies: Vec::new(),
            folder: folder.to_owned(),
            certificates: certificates.map(Path::to_owned),
            lives: Vec::new(),
            troubles: vec![Vec::new(); nodes],
            current: vec![0; nodes],
            faults: BTreeMap::new(),
        };
        for node in 0..nodes {
            cluster.proxies.push(Proxy::to(scheduler).await?);
            cluster.spawn(node)?;
        }
        Ok(cluster)
    }

    fn spawn(&mut self, node: usize) -> Result<(), AnyError> {
        let journal = self.folder.join(self.lives.len().to_string());
        let path = journal
            .to_str()
            .ok_or("the temporary folder is not UTF-8")?;
        let mut args = vec![
            self.proxies[node].address().to_string(),
            WORKERS.to_string(),
            path.to_owned(),
        ];
        if let Some(certificates) = &self.certificates {
            args.push(certificates.display().to_string());
        }
        self.processes.spawn(&name(node), &args)?;
        self.current[node] = self.lives.len();
        self.lives.push(SchedulerId {
            node,
            journal,
            ended: None,
            frozen: Vec::new(),
        });
        Ok(())
    }

    /// Carries out the plan.
    ///
    /// # Errors
    ///
    /// A node's process ended by itself, or cannot be told what it must.
    pub async fn suffer(&mut self, plan: &[Planned]) -> Result<(), AnyError> {
        let started = Instant::now();
        // What begins and what ends, in order.
        let mut turns: Vec<(Duration, bool, Planned)> = plan
            .iter()
            .flat_map(|&planned| [(planned.at, true, planned), (planned.until, false, planned)])
            .collect();
        turns.sort_by_key(|&(at, begins, _)| (at, begins));
        for (at, begins, planned) in turns {
            tokio::time::sleep_until((started + at).into()).await;
            self.look_after()?;
            if begins {
                self.begin(&planned)?;
            } else {
                self.end(&planned)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, planned: &Planned) -> Result<(), AnyError> {
        let node = planned.node;
        *self
            .faults
            .entry((planned.fault, planned.is_long()))
            .or_default() += 1;
        self.troubles[node].push(Trouble {
            from: now(),
            to: u64::MAX,
            killed: planned.fault == Fault::Kill,
        });
        let free = Traffic::FREE;
        let traffic = match planned.fault {
            Fault::Kill => {
                self.processes.nodes[node].kill()?;
                self.lives[self.current[node]].ended = Some(now());
                return Ok(());
            }
            Fault::Freeze => {
                self.lives[self.current[node]]
                    .frozen
                    .push((now(), u64::MAX));
                return Ok(self.processes.nodes[node].freeze()?);
            }
            Fault::Cut => Traffic::CUT,
            Fault::SilentThere => Traffic {
                there: false,
                ..free
            },
            Fault::SilentBack => Traffic {
                back: false,
                ..free
            },
            Fault::Silent => Traffic {
                there: false,
                back: false,
                ..free
            },
        };
        self.proxies[node].set(traffic);
        Ok(())
    }

    fn end(&mut self, planned: &Planned) -> Result<(), AnyError> {
        let node = planned.node;
        match planned.fault {
            Fault::Kill => self.spawn(node)?,
            Fault::Freeze => {
                if let Some(span) = self.lives[self.current[node]].frozen.last_mut() {
                    span.1 = now();
                }
                self.processes.nodes[node].thaw()?;
            }
            _ => self.proxies[node].set(Traffic::FREE),
        }
        if let Some(trouble) = self.troubles[node].last_mut() {
            trouble.to = now();
        }
        Ok(())
    }

    /// Sees to it that no process ended but those that were killed.
    fn look_after(&mut self) -> Result<(), AnyError> {
        self.processes.look_after()?;
        let mut nodes = self.processes.nodes.iter().zip(&self.current);
        let ended = nodes.find_map(|(process, &life)| {
            let how = process.ended.as_ref()?;
            let killed = self.lives[life].ended.is_some();
            (!killed).then(|| format!("{} ended by itself: {how}", process.name))
        });
        match ended {
            Some(words) => Err(words.into()),
            None => Ok(()),
        }
    }
}
