//! The processes that compute digests.
//!
//! Owns: how each is started, started again, and ended with the service; the handler. Does not
//! know: jobs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use callboard::{Handlers, TaskContext, TaskError};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::warn;

use crate::AnyError;

/// The first argument of a process that works. Its name and the address of the scheduler follow.
pub const PROCESS: &str = "--worker-process";

/// The kind of the tasks.
pub const KIND: &str = "file.digest";

/// How many files each reads at once.
const AT_ONCE: u32 = 4;

/// How long is waited before one is started again, so that one that ends at once costs little.
const PAUSE: Duration = Duration::from_millis(500);

/// The processes; none outlives this value.
pub struct Workers {
    keepers: Vec<JoinHandle<()>>,
    may_end: Arc<AtomicBool>,
}

/// Returns a secret that other users of this machine cannot know: they can reach loopback too.
pub fn secret() -> Result<String, AnyError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;
    Ok(hex(&key))
}

impl Workers {
    /// Starts so many, which join the scheduler at this address, and each again when it ends.
    pub fn start(count: usize, scheduler: SocketAddr, secret: &str) -> Self {
        let may_end = Arc::new(AtomicBool::new(false));
        let keep = |number| {
            let name = format!("worker-{number}");
            let (secret, may_end) = (secret.to_owned(), Arc::clone(&may_end));
            actix::spawn(async move {
                while !may_end.load(Ordering::Relaxed) {
                    let ended = live(&name, scheduler, &secret).await;
                    if !may_end.load(Ordering::Relaxed) {
                        warn!("{name}: {ended}; it is started again");
                        sleep(PAUSE).await;
                    }
                }
            })
        };
        Self {
            keepers: (1..=count).map(keep).collect(),
            may_end,
        }
    }

    /// Starts none again from now on: each ends with its scheduler.
    pub fn let_end(&self) {
        self.may_end.store(true, Ordering::Relaxed);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for keeper in &self.keepers {
            keeper.abort();
        }
    }
}

/// Starts a process and waits for its end; says how that came. Kills it when it is dropped.
async fn live(name: &str, scheduler: SocketAddr, secret: &str) -> String {
    let start = async {
        let mut child = Command::new(env::current_exe()?)
            .args([PROCESS, name, &scheduler.to_string()])
            .stdin(Stdio::piped())
            // Ctrl-C is for the service, which tells them when all is done.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        // Not by an argument or a variable, which others can see. `wait` would close the pipe,
        // which stays open as long as the child is to live.
        let mut stdin = child.stdin.take().ok_or(ErrorKind::BrokenPipe)?;
        stdin.write_all(format!("{secret}\n").as_bytes()).await?;
        let number = child.id().unwrap_or_default();
        // It goes on if nobody reads this.
        let _ = writeln!(io::stdout(), "{name} is the process {number}");
        let status = child.wait().await?;
        drop(stdin);
        io::Result::Ok(status)
    };
    match start.await {
        Ok(status) => format!("the process has ended: {status}"),
        Err(error) => format!("the process cannot be started: {error}"),
    }
}

/// Is a worker, until the service ends.
pub async fn work(mut args: impl Iterator<Item = OsString>) -> Result<(), AnyError> {
    let mut next = || args.next()?.into_string().ok();
    let (Some(name), Some(scheduler)) = (next(), next()) else {
        return Err(format!("{PROCESS} is for this program's own use").into());
    };
    let mut secret = String::new();
    io::stdin().read_line(&mut secret)?;
    // The end of stdin is the end of the service, however that came.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    callboard::node(&name)
        .handlers(Handlers::new().on_blocking(KIND, digest))
        .max_workers(AT_ONCE)
        .secret(secret.trim_end())
        .join(scheduler)
        .end_with_scheduler()
        .run()
        .await?;
    Ok(())
}

/// Computes the digest of the file at the path that its args are, byte for byte.
fn digest(path: Bytes, cx: TaskContext) -> Result<String, TaskError> {
    let mut file = File::open(OsStr::from_bytes(&path)).map_err(advise)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        if cx.is_cancelled() {
            return Err(TaskError::retry("stopped before the end of the file"));
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(advise(error)),
        }
    }
}

/// Turns an error into advice: a file that is missing or forbidden stays so; too many open files,
/// or a network disk that stumbles, do not.
fn advise(error: io::Error) -> TaskError {
    use ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | PermissionDenied | IsADirectory | NotADirectory | InvalidFilename => {
            TaskError::permanent(error)
        }
        _ => TaskError::retry(error),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
