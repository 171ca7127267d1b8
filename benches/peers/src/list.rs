//! A Redis list: pushed, moved to a list of the worker's own by BLMOVE, taken out there when done.
//!
//! Owns: the server's process and the commands. Does not know: what is made of the times.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, Direction};

use crate::{BATCH, Figures, WORKERS, spans};

/// Longer than a server takes to start, and than a worker waits for a task.
const LONGEST: Duration = Duration::from_secs(10);
/// What tells a worker to stop.
const STOP: u64 = u64::MAX;

/// A server of our own. Dropped, it is killed.
struct Server(Child);

impl Server {
    fn start(folder: &Path) -> (Self, Client) {
        let socket = folder.join("redis.sock");
        let path = socket.to_str().expect("the folder is UTF-8");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", path, "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server = Self(child);
        let client = Client::open(format!("redis+unix://{path}")).expect("a path");
        let began = Instant::now();
        while client.get_connection().is_err() {
            assert!(began.elapsed() < LONGEST, "redis-server does not start");
            thread::sleep(Duration::from_millis(10));
        }
        (server, client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn measure(count: u64) -> Figures {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (_server, client) = Server::start(folder.path());
    let mut connection = client.get_connection().expect("it runs");
    let answered = spans(|n| push(&mut connection, "single", &[n]));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let connection = client.get_connection().expect("it runs");
            thread::spawn(move || work(connection, &format!("worker {number}")))
        })
        .collect();
    let began = Instant::now();
    for first in (0..count).step_by(BATCH as usize) {
        push(
            &mut connection,
            "tasks",
            &(first..first + BATCH).collect::<Vec<_>>(),
        );
    }
    push(&mut connection, "tasks", &[STOP; WORKERS]);
    let done: u64 = workers
        .into_iter()
        .map(|worker| worker.join().expect("it works"))
        .sum();
    let span = began.elapsed();
    assert_eq!(done, count, "each is done once");
    Figures {
        answered,
        done: (done, span),
    }
}

fn push(connection: &mut Connection, list: &str, tasks: &[u64]) {
    let pushing = redis::cmd("RPUSH").arg(list).arg(tasks).query(connection);
    let _: u64 = pushing.expect("it is pushed");
}

/// Returns how many it has done.
fn work(mut connection: Connection, own: &str) -> u64 {
    for done in 0.. {
        let task: u64 = redis::cmd("BLMOVE")
            .arg(("tasks", own, Direction::Left, Direction::Right))
            .arg(LONGEST.as_secs())
            .query(&mut connection)
            .expect("there is a task");
        let removing = redis::cmd("LREM")
            .arg((own, 1, task))
            .query(&mut connection);
        let removed: u64 = removing.expect("it is there");
        assert_eq!(removed, 1);
        if task == STOP {
            return done;
        }
    }
    unreachable!("there are not as many tasks")
}
