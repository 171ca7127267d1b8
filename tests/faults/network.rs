//! A network that really fails: namespaces, a bridge between them, and what is done to it.
//!
//! Owns: the namespaces of one scenario and all that is in them; they go with it. Cuts and losses
//! are rules of nft on the bridge, as a switch that drops; bandwidth and reordering are queues of
//! tc at the ports. Does not know: what runs in the namespaces.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, process};

use crate::proxy::inside;

/// How the names of all namespaces of this test begin; nobody else's do.
const PREFIX: &str = "cbfaults";
/// Longer than a connection takes to notice that it was reset; only one that was not waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns where a host of a network is, by its number: each network is one of its own, so all use
/// the same.
pub fn address(host: Host) -> String {
    format!("10.77.0.{}", host.number())
}

/// A machine of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Scheduler,
    /// The proxy between the scheduler and the nodes, where there is one.
    Proxy,
    Node(u8),
    /// A machine that claims to be a node.
    Stranger,
}

impl Host {
    fn number(self) -> u8 {
        match self {
            Self::Scheduler => 1,
            Self::Proxy => 2,
            Self::Stranger => 3,
            Self::Node(number) => 11 + number,
        }
    }
}

/// Some packets are lost on the bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    from: BTreeSet<String>,
    to: BTreeSet<String>,
}

impl Cut {
    /// Stops all that comes from these hosts.
    pub fn from(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.from.extend(hosts.into_iter().map(address));
        self
    }

    /// Stops all that goes to these hosts.
    pub fn to(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.to.extend(hosts.into_iter().map(address));
        self
    }

    /// Cuts these hosts off.
    pub fn both(self, hosts: impl IntoIterator<Item = Host> + Clone) -> Self {
        self.from(hosts.clone()).to(hosts)
    }
}

/// The namespaces of one scenario. Dropped, they are gone.
pub struct Network {
    name: String,
    hosts: Vec<Host>,
}

impl Network {
    /// Makes one namespace for each host and one for the bridge.
    pub fn new(hosts: &[Host]) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            name: format!("{PREFIX}-{}-{number}", process::id()),
            hosts: hosts.to_vec(),
        };
        network.build()?;
        Ok(network)
    }

    /// Returns the namespace of a host.
    pub fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.name, host.number())
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.name)
    }

    fn build(&self) -> Result<(), String> {
        let bridge = self.bridge();
        let mut outside = format!("netns add {bridge}\n");
        let mut inside = "link add bridge type bridge\nlink set bridge up\n".to_owned();
        for &host in &self.hosts {
            let (namespace, port) = (self.namespace(host), port(host));
            outside += &format!("netns add {namespace}\n");
            outside += &format!(
                "link add name eth0 netns {namespace} type veth peer name {port} netns {bridge}\n"
            );
            inside += &format!("link set {port} master bridge\nlink set {port} up\n");
        }
        run(&["ip", "-batch", "-"], &outside)?;
        run(&["ip", "-n", &bridge, "-batch", "-"], &inside)?;
        for &host in &self.hosts {
            let own = format!(
                "link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\n",
                address(host)
            );
            run(&["ip", "-n", &self.namespace(host), "-batch", "-"], &own)?;
        }
        self.nft(RULES)
    }

    /// Cuts so from now on, in place of what was cut before.
    pub fn cut(&self, cut: &Cut) -> Result<(), String> {
        let mut rules = "flush set bridge faults from\nflush set bridge faults to\n".to_owned();
        for (set, addresses) in [("from", &cut.from), ("to", &cut.to)] {
            if !addresses.is_empty() {
                let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
                rules += &format!(
                    "add element bridge faults {set} {{ {} }}\n",
                    addresses.join(", ")
                );
            }
        }
        self.nft(&rules)
    }

    /// Loses this share of all packets, in percent.
    pub fn lose(&self, percent: u32) -> Result<(), String> {
        self.nft(&format!(
            "flush chain bridge faults loss\nadd rule bridge faults loss numgen random mod 100 < {percent} drop\n"
        ))
    }

    /// Resets every connection that the host has, on both of its ends. There must be one.
    pub fn reset(&self, host: Host) -> Result<(), String> {
        let words = ["ss", "-K", "-H", "-tn", "state", "connected"];
        // A kernel without INET_DIAG_DESTROY says nothing and does nothing.
        match self.inside(host, &words, "")?.lines().count() {
            0 => Err("no connection could be reset".to_owned()),
            _ => Ok(()),
        }
    }

    /// Limits what a host sends and what it is sent, each, to this rate (as tc writes it).
    pub fn limit(&self, host: Host, rate: &str) -> Result<(), String> {
        let (own, bridge) = (self.namespace(host), self.bridge());
        for (namespace, device) in [(own, "eth0".to_owned()), (bridge, port(host))] {
            let tc = [
                "tc", "qdisc", "add", "dev", &device, "root", "tbf", "rate", rate,
            ];
            let queue = ["burst", "8kb", "latency", "400ms"];
            let words: Vec<_> = ["ip", "netns", "exec", &namespace]
                .into_iter()
                .chain(tc)
                .chain(queue)
                .collect();
            run(&words, "")?;
        }
        Ok(())
    }

    /// Holds this share of the packets that a host sends, in percent, back in a slow queue, while
    /// others go by.
    pub fn reorder(&self, host: Host, percent: u32) -> Result<(), String> {
        let classes = "qdisc add dev eth0 root handle 1: htb default 1\n\
            class add dev eth0 parent 1: classid 1:1 htb rate 1gbit quantum 60000\n\
            class add dev eth0 parent 1: classid 1:2 htb rate 1mbit quantum 1600\n";
        self.inside(host, &["tc", "-batch", "-"], classes)?;
        let rules = format!(
            "table inet faults {{\n chain slow {{\n  type filter hook postrouting priority 0\n  \
             numgen random mod 100 < {percent} meta priority set 1:2\n }}\n}}\n"
        );
        self.inside(host, &["nft", "-f", "-"], &rules).map(drop)
    }

    fn nft(&self, rules: &str) -> Result<(), String> {
        let words = ["ip", "netns", "exec", &self.bridge(), "nft", "-f", "-"];
        run(&words, rules).map(drop)
    }

    fn inside(&self, host: Host, words: &[&str], input: &str) -> Result<String, String> {
        let namespace = self.namespace(host);
        let mut all = vec!["ip", "netns", "exec", &namespace];
        all.extend(words);
        run(&all, input)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in all_of(&self.name) {
            // Its devices and rules go with it.
            let _ = run(&["ip", "netns", "delete", &name], "");
        }
    }
}

/// Nothing is lost until elements or rules are added.
const RULES: &str = "table bridge faults {
 set from {
  type ipv4_addr
 }
 set to {
  type ipv4_addr
 }
 chain loss {
 }
 chain forward {
  type filter hook forward priority 0
  ip saddr @from drop
  ip daddr @to drop
  ether type ip jump loss
 }
}
";

fn port(host: Host) -> String {
    format!("port{}", host.number())
}

/// What this machine can do to a network.
#[derive(Clone, Debug)]
pub struct Available {
    /// Whether connections can be reset; if not, why.
    pub resets: Result<(), String>,
}

/// Returns whether such networks can be had here; if not, why.
pub fn available() -> Result<Available, String> {
    if !rustix::process::getuid().is_root() {
        return Err("network namespaces are for root; run it as root".to_owned());
    }
    clear_leftovers();
    let network = Network::new(&[Host::Scheduler, Host::Node(0)])?;
    network.cut(&Cut::default().both([Host::Node(0)]))?;
    network.lose(10)?;
    network.limit(Host::Node(0), "1mbit")?;
    network.reorder(Host::Scheduler, 20)?;
    let resets = tries_a_reset(&network).map_err(|why| {
        format!("`ss -K` resets no connection, which takes a kernel with INET_DIAG_DESTROY ({why})")
    });
    Ok(Available { resets })
}

/// Resets a connection and sees whether its ends notice.
fn tries_a_reset(network: &Network) -> Result<(), String> {
    let (connected, ends) = mpsc::channel();
    let thread = inside(&network.namespace(Host::Scheduler), async move {
        let pair = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
            let near = TcpStream::connect(listener.local_addr()?)?;
            let (far, _) = listener.accept()?;
            far.set_read_timeout(Some(PATIENCE))?;
            Ok((near, far))
        });
        // Whoever waits for it takes it.
        let _ = connected.send(pair);
    });
    let pair = ends.recv().expect("the thread says how it went");
    thread.join().expect("it does not panic");
    let (_near, mut far) = pair.map_err(|error| format!("no connection could be made: {error}"))?;
    network.reset(Host::Scheduler)?;
    match far.read(&mut [0]) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Ok(()),
        _ => Err("a connection went on".to_owned()),
    }
}

/// Removes what runs that were killed have left: namespaces and directories.
fn clear_leftovers() {
    let is_left = |name: &str| {
        let owner = name.split('-').nth(1).and_then(|id| id.parse::<u32>().ok());
        owner.is_some_and(|id| !fs::exists(format!("/proc/{id}")).unwrap_or(true))
    };
    for name in all_of(PREFIX).iter().filter(|name| is_left(name)) {
        let _ = run(&["ip", "netns", "delete", name], "");
    }
    for entry in fs::read_dir(env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{PREFIX}-")) && is_left(&name) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes a directory for what is written down. Dropped, it is gone.
pub fn directory() -> tempfile::TempDir {
    let prefix = format!("{PREFIX}-{}-", process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().unwrap()
}

/// Returns the namespaces whose names begin with `prefix` and a dash.
pub fn all_of(prefix: &str) -> Vec<String> {
    let start = format!("{prefix}-");
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&listed)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with(&start))
        .map(str::to_owned)
        .collect()
}

/// Returns every namespace that this run made and that is still there.
pub fn left_over() -> Vec<String> {
    all_of(&format!("{PREFIX}-{}", process::id()))
}

/// Runs a command; what it has printed.
fn run(words: &[&str], input: &str) -> Result<String, String> {
    let output = output_of(words, input)
        .map_err(|error| format!("{:?} cannot be run: {error}", words.join(" ")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{:?} failed: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn output_of(words: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends before it has read says why by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}
