//! The processes of the nodes, as their parent sees them.
//!
//! Owns: that each is killed and waited for, and that each hears of the parent's end. Does not
//! know: what they do.

#![allow(dead_code, reason = "each example uses a part")]

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::AnyError;

/// The first argument of a process that is to be a node. Its name follows, and then what it is
/// given.
pub const NODE_PROCESS: &str = "--node-process";

/// The nodes' processes; none outlives this value.
pub struct Processes {
    pub nodes: Vec<Process>,
    pub secret: String,
}

pub struct Process {
    pub name: String,
    /// Where it listens, once it has said so.
    pub address: SocketAddr,
    child: Child,
    /// How it ended before its time.
    pub ended: Option<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Sends SIGKILL, and waits until it is no more.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Returns what it says, to whoever asks first.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends SIGSTOP: it does nothing more, and its sockets stay open.
    pub fn freeze(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::STOP)?)
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::CONT)?)
    }
}

impl Processes {
    /// Returns none so far, with a secret for those to come.
    pub fn new() -> Result<Self, AnyError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        // Other users of this machine can reach loopback too, and must not have our files read.
        let secret: String = key.iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self {
            nodes: Vec::new(),
            secret,
        })
    }

    /// Starts one, in place of an earlier one of this name.
    pub fn spawn(&mut self, name: &str, args: &[String]) -> Result<(), AnyError> {
        let child = Command::new(std::env::current_exe()?)
            .args([NODE_PROCESS, name])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut node = Process {
            name: name.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
            ended: None,
        };
        // Not by an argument or a variable, which others can see. The pipe stays open as long as
        // the child is to live.
        if let Some(stdin) = &mut node.child.stdin {
            writeln!(stdin, "{}", self.secret)?;
        }
        match self.nodes.iter_mut().find(|other| other.name == name) {
            Some(other) => *other = node,
            None => self.nodes.push(node),
        }
        Ok(())
    }

    /// Waits until each has said where it listens.
    pub fn hear_addresses(&mut self) -> Result<(), AnyError> {
        for node in &mut self.nodes {
            let stdout = node.take_stdout().ok_or("a node has no stdout")?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            let said = line.trim_end().parse();
            node.address =
                said.map_err(|_| format!("the process of {} did not start", node.name))?;
        }
        Ok(())
    }

    pub fn kill(&mut self, name: &str) -> io::Result<()> {
        match self.nodes.iter_mut().find(|node| node.name == name) {
            Some(node) => node.kill(),
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

/// Reads what such a process gets from its parent: the first line of stdin is the secret, and its
/// end is the end of the parent, however that came; then this process ends too.
pub fn read_secret() -> io::Result<String> {
    let mut secret = String::new();
    io::stdin().read_line(&mut secret)?;
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    Ok(secret.trim_end().to_owned())
}
