//! A gate that runs of tasks wait at, wherever they run, until the test lets them on.
//!
//! Owns: the socket between a run and the test. A run says who it is and waits; the test sees when
//! it came and, by the socket's end, when it was dropped or its process died.

use std::io::{Read, Write};
use std::net::SocketAddr;

use callboard::{TaskContext, TaskError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

/// The test's side.
pub struct Gate(TcpListener);

/// A run that waits at a [`Gate`].
pub struct Visit {
    pub task: u64,
    pub dispatch: u64,
    pub attempt: u32,
    pub node: String,
    stream: BufReader<TcpStream>,
}

impl Gate {
    pub async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Returns the args of a task that is to wait here.
    pub fn args(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Waits for the next run that arrives.
    pub async fn next(&self) -> Visit {
        let (stream, line) = timeout(PATIENCE, self.arrival())
            .await
            .expect("no run came to the gate");
        let mut words = line.split_whitespace();
        let mut word = || {
            words
                .next()
                .unwrap_or_else(|| panic!("a run said only {line:?}"))
        };
        Visit {
            task: word().parse().unwrap(),
            dispatch: word().parse().unwrap(),
            attempt: word().parse().unwrap(),
            node: word().to_owned(),
            stream,
        }
    }

    /// Waits for a connection and what it says; one that ended before that was killed on its way.
    async fn arrival(&self) -> (BufReader<TcpStream>, String) {
        loop {
            let (stream, _) = self.0.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream
                .read_line(&mut line)
                .await
                .is_ok_and(|_| line.ends_with('\n'))
            {
                return (stream, line);
            }
        }
    }

    pub async fn take(&self, count: usize) -> Vec<Visit> {
        let mut visits = Vec::new();
        for _ in 0..count {
            visits.push(self.next().await);
        }
        visits
    }
}

impl Visit {
    /// Lets the run on; it completes.
    pub async fn release(mut self) {
        // A run that is dropped meanwhile does not hear it.
        let _ = self.stream.write_all(b"+").await;
    }

    /// Waits until the run was dropped, or its process died.
    pub async fn dropped(mut self) {
        let ended = timeout(PATIENCE, self.stream.read_u8()).await;
        assert!(ended.expect("the run goes on").is_err());
    }
}

fn introduction(cx: &TaskContext) -> String {
    format!(
        "{} {} {} {}\n",
        cx.id().get(),
        cx.dispatch().get(),
        cx.attempt(),
        cx.node()
    )
}

/// Plays the run's side: comes to the gate and waits until it is let on. A gate that is closed
/// fails the task.
pub async fn wait(gate: SocketAddr, cx: TaskContext) -> Result<String, TaskError> {
    let mut stream = TcpStream::connect(gate)
        .await
        .map_err(TaskError::permanent)?;
    stream.write_all(introduction(&cx).as_bytes()).await?;
    stream.read_u8().await.map_err(TaskError::permanent)?;
    Ok(cx.node().to_owned())
}

/// Does the same for a handler that blocks.
pub fn block(gate: SocketAddr, cx: TaskContext) -> Result<String, TaskError> {
    let mut stream = std::net::TcpStream::connect(gate).map_err(TaskError::permanent)?;
    stream.write_all(introduction(&cx).as_bytes())?;
    stream.read_exact(&mut [0]).map_err(TaskError::permanent)?;
    Ok(cx.node().to_owned())
}
