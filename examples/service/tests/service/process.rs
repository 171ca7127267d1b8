//! The service as a process, and how it is asked.
//!
//! Owns: that it starts, is killed and leaves nothing behind. Does not know: what it must answer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

pub const JSON: &str = "content-type: application/json\r\n";
pub const BINARY: &str = "content-type: application/octet-stream\r\n";

/// Where a service reads and what it keeps, over its starts.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.root()).unwrap();
        place
    }

    /// Returns the directory that is served.
    pub fn root(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("files")
    }

    /// Returns what the service has written down of a job.
    pub fn kept(&self, job: u64, end: &str) -> PathBuf {
        self.data().join(format!("jobs/{job}.{end}"))
    }

    /// Returns where the service writes: below what it serves, as where no option is given.
    fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Starts a service, and waits until it can be asked.
    pub fn start(&self) -> Service {
        let mut child = self.command().stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut service = Service {
            child,
            lines,
            at: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: Vec::new(),
        };
        while service.at.port() == 0 || service.workers.len() < 2 {
            service.hear();
        }
        service
    }

    /// Returns the command that starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callboard-service"));
        command
            .args(["--port", "0", "--max-upload", "1", "--root"])
            .arg(self.root())
            .arg("--data")
            .arg(self.data())
            .stdin(Stdio::null());
        command
    }
}

/// A service that runs.
pub struct Service {
    child: Child,
    lines: BufReader<ChildStdout>,
    at: SocketAddr,
    /// The names of its workers and their processes, those that were started again at the end.
    pub workers: Vec<(String, u32)>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// Reads a line of what it says.
    pub fn hear(&mut self) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the service has ended");
        if let Some((name, process)) = line.trim_end().split_once(" is the process ") {
            self.workers
                .push((name.to_owned(), process.parse().unwrap()));
        } else if let Some(at) = line.trim_end().strip_prefix("open http://") {
            self.at = at.strip_suffix("/tasks").unwrap().parse().unwrap();
        }
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end and for that of all its workers, which hold the same stdout open.
    pub fn until_all_have_ended(mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        self.lines.read_to_string(&mut String::new()).unwrap();
        status
    }

    /// Sends a request, and gives the stream of its answer.
    pub fn send(
        &self,
        request: &str,
        host: &str,
        headers: &str,
        body: &[u8],
    ) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.at).unwrap();
        // Unless it says otherwise how long the body is.
        let length = if headers.contains("content-length") || headers.contains("chunked") {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let head = format!(
            "{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}{length}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        BufReader::new(stream)
    }

    /// Asks, and returns the status and the body.
    pub fn ask(&self, request: &str, headers: &str, body: &[u8]) -> (u16, String) {
        answer(self.send(request, "localhost", headers, body))
    }

    /// Begins a job of a directory.
    pub fn begin(&self, path: &str) -> u64 {
        let body = json!({ "path": path }).to_string();
        let (status, said) = self.ask("POST /jobs/directory", JSON, body.as_bytes());
        assert_eq!(status, 202, "{said}");
        read(&said)["job"].as_u64().unwrap()
    }

    /// Follows the progress of a job until this is so, and returns it then.
    pub fn follow(&self, job: u64, is_so: impl Fn(&Value) -> bool) -> Value {
        let request = format!("GET /jobs/{job}/events");
        let stream = self.send(&request, "localhost", "", b"");
        for line in stream.lines() {
            let line = line.unwrap();
            let Some(event) = line.strip_prefix("data: ") else {
                continue;
            };
            let progress = read(event);
            if is_so(&progress) {
                return progress;
            }
        }
        panic!("the events have ended before");
    }

    pub fn results(&self, job: u64) -> Value {
        let (status, said) = self.ask(&format!("GET /jobs/{job}"), "", b"");
        assert_eq!(status, 200, "{said}");
        read(&said)
    }

    /// Does something by the JSON API of the dashboard.
    pub fn act(&self, action: &str) {
        let request = format!("POST /tasks/api/actions/{action}");
        let headers = format!("{JSON}authorization: none\r\n");
        let (status, said) = self.ask(&request, &headers, b"{}");
        assert_eq!(status, 200, "{said}");
    }
}

/// Reads an answer as far as it says that it goes. The connection may stay open behind it.
pub fn answer(mut stream: BufReader<TcpStream>) -> (u16, String) {
    let mut head = Vec::new();
    for line in stream.by_ref().lines() {
        match line.unwrap() {
            line if line.is_empty() => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

pub fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

pub fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

pub fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}
