//! Real processes that act as nodes: the test's own binary, executed again.
//!
//! Owns: the start of such a process, how it is told to end, and the handlers that it offers. A
//! test binary that uses this has one entry for it:
//!
//! ```ignore
//! #[test]
//! fn node_process() {
//!     processes::act_if_told();
//! }
//! ```
//!
//! Nothing is left running: a process ends when its standard input closes, when the thread that
//! spawned it ends, and when its [`Process`] is dropped.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests")]

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use callboard::Handlers;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub mod gate;
pub mod handlers;
pub mod poison;
#[path = "../../benches/soak/proxy.rs"]
pub mod proxy;

/// Longer than anything here takes; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The name of the entry that acts as a node.
const ENTRY: &str = "node_process";

const NAME: &str = "CALLBOARD_TEST_NODE";
const WORKERS: &str = "CALLBOARD_TEST_WORKERS";
const TOTAL: &str = "CALLBOARD_TEST_TOTAL";
const LISTEN: &str = "CALLBOARD_TEST_LISTEN";
const JOIN: &str = "CALLBOARD_TEST_JOIN";
const PROBE: &str = "CALLBOARD_TEST_PROBE";
const SECRET: &str = "CALLBOARD_TEST_SECRET";
const TLS: &str = "CALLBOARD_TEST_TLS";
const MEMORY: &str = "CALLBOARD_TEST_MEMORY";
const KEPT: &str = "CALLBOARD_TEST_KEPT";
const LOGS: &str = "CALLBOARD_TEST_LOGS";
const STOP_TIMEOUT: &str = "CALLBOARD_TEST_STOP_TIMEOUT";

const READY: &str = "the node listens at ";
const GONE: &str = "the node is gone: ";

/// What a process is to be.
#[derive(Clone, Debug)]
pub struct Role {
    name: String,
    workers: u32,
    total: Option<u64>,
    listen: Option<String>,
    join: Vec<String>,
    probe: bool,
    secret: Option<String>,
    tls: Option<String>,
    memory: Option<u64>,
    kept: Option<u64>,
    stop_timeout: Option<u64>,
    logs: bool,
    namespace: Option<String>,
    environment: Vec<(&'static str, String)>,
}

impl Role {
    /// Describes a node of this name that listens on a free port of loopback. It bears its name as
    /// a label.
    pub fn new(name: &str, workers: u32) -> Self {
        Self {
            name: name.to_owned(),
            workers,
            total: None,
            listen: Some("127.0.0.1:0".to_owned()),
            join: Vec::new(),
            probe: true,
            secret: None,
            tls: None,
            memory: None,
            kept: None,
            stop_timeout: None,
            logs: false,
            namespace: None,
            environment: Vec::new(),
        }
    }

    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address.to_string());
        self
    }

    /// Lets it dial this scheduler, and others that it was told of before, and run until it is told
    /// to stop (`NodeBuilder::run`).
    pub fn join(mut self, address: SocketAddr) -> Self {
        self.listen = None;
        self.join.push(address.to_string());
        self
    }

    /// Opens no port to be probed at, so that its death shows by the end of its lease.
    pub fn without_probe(mut self) -> Self {
        self.probe = false;
        self
    }

    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }

    /// Lets it use the certificates in this directory: its own, by its name, and `ca.crt`.
    pub fn tls(mut self, directory: &Path) -> Self {
        self.tls = Some(directory.to_str().unwrap().to_owned());
        self
    }

    /// Sets how many bytes its process may write to; what asks for more ends it.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Sets how many tasks it runs at once for all schedulers (`NodeBuilder::max_workers_total`).
    pub fn total(mut self, workers: u64) -> Self {
        self.total = Some(workers);
        self
    }

    /// Sets how many bytes of results it keeps (`NodeConfig::max_kept_bytes`).
    pub fn kept(mut self, bytes: u64) -> Self {
        self.kept = Some(bytes);
        self
    }

    /// Sets how many milliseconds a second signal leaves it (`NodeBuilder::stop_timeout`).
    pub fn stop_timeout(mut self, millis: u64) -> Self {
        self.stop_timeout = Some(millis);
        self
    }

    /// Lets it print what it warns of, for [`NodeProcess::said`].
    pub fn logs(mut self) -> Self {
        self.logs = true;
        self
    }

    /// Runs it in this network namespace.
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Sets what its handlers find in their environment.
    pub fn env(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((key, value.into()));
        self
    }
}

/// Returns the command for this binary again, in a network namespace if one is named. Its standard
/// input and output are pipes.
pub fn own_binary(namespace: Option<&str>) -> Command {
    let own = env::current_exe().unwrap();
    let mut command = match namespace {
        // It becomes the command, so the process id is that of the command.
        Some(namespace) => {
            let mut ip = Command::new("ip");
            ip.args(["netns", "exec", namespace]).arg(own);
            ip
        }
        None => Command::new(own),
    };
    command
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Lets this process end with the thread that spawned it.
pub fn end_with_the_test() {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
}

/// A process of the test. Dropped, it is killed and reaped.
pub struct Process(Child);

impl Process {
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Sends SIGKILL, and waits until the process is no more.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM: drain and end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT, as by Ctrl-C.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGSTOP: freeze, with sockets open. Returns when every thread has stopped.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&self.0)), WaitOptions::UNTRACED);
        assert!(stopped.unwrap().is_some_and(|(_, status)| status.stopped()));
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Returns the most memory that it has had, in bytes, as the kernel counts it; `None` where
    /// that is not told.
    pub fn memory_peak(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    /// Sends a signal and waits for nothing.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for its end, which must be near.
    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead and reaped already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that acts as a node.
pub struct NodeProcess {
    name: String,
    process: Process,
    lines: mpsc::UnboundedReceiver<String>,
    address: Option<SocketAddr>,
}

impl NodeProcess {
    /// Starts the process and, if it is one that is dialled, waits until it listens.
    pub async fn spawn(role: &Role) -> Self {
        let mut command = own_binary(role.namespace.as_deref());
        command
            .args([ENTRY, "--exact", "--nocapture", "--test-threads=1"])
            .env(NAME, &role.name)
            .env(WORKERS, role.workers.to_string())
            .env(PROBE, role.probe.to_string())
            .env(LOGS, role.logs.to_string())
            .envs(role.environment.iter().cloned());
        let join = (!role.join.is_empty()).then(|| role.join.join(","));
        let numbers = [role.memory, role.kept, role.stop_timeout, role.total];
        let [memory, kept, stop_timeout, total] =
            numbers.map(|number| number.map(|number| number.to_string()));
        for (key, value) in [
            (LISTEN, &role.listen),
            (JOIN, &join),
            (SECRET, &role.secret),
            (TLS, &role.tls),
            (MEMORY, &memory),
            (KEPT, &kept),
            (STOP_TIMEOUT, &stop_timeout),
            (TOTAL, &total),
        ] {
            if let Some(value) = value {
                command.env(key, value);
            }
        }
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut process = Self {
            name: role.name.clone(),
            process: Process::new(child),
            lines,
            address: None,
        };
        if role.join.is_empty() {
            let address = process.line(READY).await.expect("the node did not start");
            process.address = Some(address.parse().unwrap());
        }
        process
    }

    /// Spawns as many processes at once, with names of their own: `{name}0`, `{name}1`, ...
    pub async fn spawn_many(name: &str, count: usize, workers: u32) -> Vec<Self> {
        let roles: Vec<_> = (0..count)
            .map(|number| Role::new(&format!("{name}{number}"), workers))
            .collect();
        futures_util::future::join_all(roles.iter().map(Self::spawn)).await
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
            .expect("only a node that is dialled says its address")
    }

    /// Returns what a scheduler that dials it is given.
    pub fn node(&self) -> callboard::Node {
        callboard::Node::connect(self.name(), self.address().to_string())
    }

    /// Waits until the process ends by itself, and returns how its node said that it was gone.
    pub async fn ended(&mut self) -> (ExitStatus, Option<String>) {
        let mut gone = None;
        while let Some(line) = self.line(GONE).await {
            gone = Some(line);
        }
        (self.process.wait(), gone)
    }

    /// Does the same while it gets SIGTERM again and again.
    pub async fn ended_by_signals(&mut self) -> (ExitStatus, Option<String>) {
        let process = Pid::from_child(&self.process.0);
        let mut again = tokio::time::interval(Duration::from_millis(50));
        let ended = self.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return ended,
                // It is not reaped before it has said that it ends.
                _ = again.tick() => kill_process(process, Signal::TERM).unwrap(),
            }
        }
    }

    /// Waits until the process was killed by a signal, by whomever.
    pub async fn died(&mut self) -> Option<i32> {
        self.ended().await.0.signal()
    }

    /// Returns what follows `start` in the next line that it prints with it; of a node that
    /// [`Role::logs`].
    pub async fn said(&mut self, start: &str) -> String {
        let line = self.line(start).await;
        line.unwrap_or_else(|| panic!("{} ended and never said {start:?}", self.name))
    }

    /// Returns what follows `start` in the next line that has it; `None` at the end of the output.
    /// libtest writes before it on the same line.
    async fn line(&mut self, start: &str) -> Option<String> {
        loop {
            let line = timeout(PATIENCE, self.lines.recv()).await;
            let line = line.unwrap_or_else(|_| panic!("the process {} says nothing", self.name))?;
            if let Some((_, rest)) = line.split_once(start) {
                return Some(rest.to_owned());
            }
        }
    }
}

impl Deref for NodeProcess {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for NodeProcess {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Acts as a node, if this process was spawned by [`NodeProcess::spawn`], and otherwise returns at
/// once.
pub fn act_if_told() {
    act_if_told_with(handlers::handlers);
}

/// Does the same with these handlers.
pub fn act_if_told_with(handlers: impl FnOnce() -> Handlers) {
    let Ok(name) = env::var(NAME) else { return };
    end_with_the_test();
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(3);
    });
    poison::limit(env::var(MEMORY).ok().map(|bytes| bytes.parse().unwrap()));
    if env::var(LOGS).unwrap() == "true" {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
        log.with_ansi(false).init();
    }
    let workers = env::var(WORKERS).unwrap().parse().unwrap();
    let mut node = callboard::node(name.as_str())
        .handlers(poison::add_to(handlers()))
        .max_workers(workers)
        .threads(2)
        .labels([name.as_str()]);
    if let Ok(secret) = env::var(SECRET) {
        node = node.secret(secret);
    }
    #[cfg(feature = "tls")]
    if let Ok(directory) = env::var(TLS) {
        let directory = Path::new(&directory);
        let own = |kind| directory.join(format!("{name}.{kind}"));
        let tls = callboard::Tls::files(own("crt"), own("key"), directory.join("ca.crt"));
        node = node.tls(tls);
    }
    if let Ok(address) = env::var(LISTEN) {
        node = node.listen(address);
    }
    if let Ok(bytes) = env::var(KEPT) {
        node = node.configure(|config| config.max_kept_bytes = bytes.parse().unwrap());
    }
    if let Ok(millis) = env::var(STOP_TIMEOUT) {
        node = node.stop_timeout(Duration::from_millis(millis.parse().unwrap()));
    }
    if let Ok(total) = env::var(TOTAL) {
        node = node.max_workers_total(total.parse().unwrap());
    }
    if env::var(PROBE).unwrap() == "false" {
        node = node.without_probe();
    }
    let join = env::var(JOIN);
    for address in join.iter().flat_map(|addresses| addresses.split(',')) {
        node = node.join(address);
    }
    actix::System::new().block_on(async move {
        let gone = if join.is_ok() {
            node.run().await.unwrap()
        } else {
            let node = node.start().await.unwrap();
            println!("{READY}{}", node.listen_addr().unwrap());
            node.wait().await
        };
        println!("{GONE}{gone:?}");
    });
}
