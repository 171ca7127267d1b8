//! The processes of the nodes, as their parent sees them.
//!
//! Owns: that each is killed and waited for, and that each hears of the parent's end. Does not know: what
//! they do.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::AnyError;
use crate::settings::Settings;

/// The first argument of a process that is to be a node.
pub const NODE_PROCESS: &str = "--node-process";

/// The nodes' processes; none outlives this value.
pub struct Processes {
    pub nodes: Vec<Process>,
    pub secret: String,
}

pub struct Process {
    pub name: String,
    pub address: SocketAddr,
    child: Child,
    /// How it ended before its time.
    pub ended: Option<String>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // An error says that it has ended already.
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}

impl Processes {
    /// Starts them all, then waits until each has said where it listens.
    pub fn start(settings: &Settings) -> Result<Self, AnyError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        // Other users of this machine can reach loopback too, and must not have our files read.
        let secret: String = key.iter().map(|b| format!("{b:02x}")).collect();
        let mut processes = Self {
            nodes: Vec::new(),
            secret,
        };
        for number in 1..=settings.nodes {
            processes.spawn(format!("node-{number}"), settings.workers)?;
        }
        for node in &mut processes.nodes {
            let stdout = node.child.stdout.take().ok_or("a node has no stdout")?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            let said = line.trim_end().parse();
            node.address =
                said.map_err(|_| format!("the process of {} did not start", node.name))?;
        }
        Ok(processes)
    }

    fn spawn(&mut self, name: String, workers: u32) -> Result<(), AnyError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([NODE_PROCESS, &name, &workers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // Not by an argument or a variable, which others can see. The pipe stays open as long as the child
        // is to live.
        let sent = match &mut child.stdin {
            Some(stdin) => writeln!(stdin, "{}", self.secret),
            None => Ok(()),
        };
        self.nodes.push(Process {
            name,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
            ended: None,
        });
        Ok(sent?)
    }

    pub fn kill(&mut self, name: &str) -> io::Result<()> {
        match self.nodes.iter_mut().find(|node| node.name == name) {
            Some(node) => node.child.kill(),
            None => Ok(()),
        }
    }

    /// Sees which have ended.
    ///
    /// # Errors
    ///
    /// None is left to do the work.
    pub fn look_after(&mut self) -> Result<(), AnyError> {
        for node in self.nodes.iter_mut().filter(|node| node.ended.is_none()) {
            node.ended = node.child.try_wait()?.map(|status| status.to_string());
        }
        if self.nodes.iter().any(|node| node.ended.is_none()) {
            return Ok(());
        }
        let ends = self.nodes.iter().map(|node| {
            let how = node.ended.as_deref().unwrap_or_default();
            format!("{} ({how})", node.name)
        });
        let ends = ends.collect::<Vec<_>>().join(", ");
        Err(format!("no process is left to do the work: {ends}").into())
    }
}

/// What such a process reads from its parent: the first line of stdin is the secret, and its end is the end of
/// the parent, however that came; then this process ends too.
pub fn read_secret() -> io::Result<String> {
    let mut secret = String::new();
    io::stdin().read_line(&mut secret)?;
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    Ok(secret.trim_end().to_owned())
}
