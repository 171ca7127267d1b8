//! A disk in memory that loses, tears and reorders what was not synced, is full, or fails.

use std::io;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use redb::{Builder, Database, StorageBackend};

use crate::store::LogError;
use crate::store::database::{Fill, Opener, of};
use crate::sync::lock;

const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    #[default]
    None,
    /// The disk has room for so many bytes.
    Full(u64),
    /// A sync fails; whether what was written is durable all the same.
    Sync { kept: bool },
    /// Nothing can be read or written.
    Gone,
}

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Written>,
    fault: Fault,
    /// Operations until the power is cut.
    left: Option<u32>,
}

#[derive(Debug)]
enum Written {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

/// See the module. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub fn set(&self, fault: Fault) {
        lock(&self.0).fault = fault;
    }

    pub fn len(&self) -> u64 {
        lock(&self.0).now.len() as u64
    }

    /// Cuts the power after so many operations.
    pub fn cut_after(&self, operations: u32) {
        lock(&self.0).left = Some(operations);
    }

    /// Returns whether the power was cut.
    pub fn is_dark(&self) -> bool {
        lock(&self.0).left == Some(0)
    }

    pub fn flip(&self, bit: usize) {
        let mut state = lock(&self.0);
        state.now[bit / 8] ^= 1 << (bit % 8);
        state.synced = state.now.clone();
    }

    pub fn cut_short(&self, length: usize) {
        let mut state = lock(&self.0);
        state.now.truncate(length);
        state.synced = state.now.clone();
    }

    /// Returns the disk as it is when the power is back: of what was not synced some is there, in
    /// any order, and of a write some sectors.
    pub fn after_crash(&self, rng: &mut Rng) -> Self {
        let mut state = lock(&self.0);
        let mut there = state.synced.clone();
        let mut unsynced = std::mem::take(&mut state.unsynced);
        rng.shuffle(&mut unsynced);
        let (all, none) = (rng.u8(..) < 40, rng.u8(..) < 40);
        for written in unsynced {
            match written {
                Written::Length(length) if all || (!none && rng.bool()) => there.resize(length, 0),
                Written::Length(_) => {}
                Written::Bytes(at, bytes) => {
                    for (sector, at) in bytes.chunks(SECTOR).zip((at..).step_by(SECTOR)) {
                        if all || (!none && rng.bool()) {
                            put(&mut there, at, sector);
                        }
                    }
                }
            }
        }
        let state = State {
            now: there.clone(),
            synced: there,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn operate<R>(&self, act: impl FnOnce(&mut State) -> io::Result<R>) -> io::Result<R> {
        let mut state = lock(&self.0);
        if let Some(left) = &mut state.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Err(io::Error::other("the power was cut"));
            }
        }
        if state.fault == Fault::Gone {
            return Err(io::Error::other("the disk is gone"));
        }
        act(&mut state)
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    let end = at + what.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(what);
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.operate(|state| Ok(state.now.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.operate(|state| {
            let at = offset as usize;
            let bytes = state.now.get(at..at + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(|state| {
            if matches!(state.fault, Fault::Full(room) if len > room) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.now.resize(len as usize, 0);
            state.unsynced.push(Written::Length(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|state| {
            let failed = matches!(state.fault, Fault::Sync { .. });
            if !matches!(state.fault, Fault::Sync { kept: false }) {
                state.synced = state.now.clone();
                state.unsynced.clear();
            }
            if failed {
                return Err(io::Error::other("the sync failed"));
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(|state| {
            let end = offset + data.len() as u64;
            if matches!(state.fault, Fault::Full(room) if end > room) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            put(&mut state.now, offset as usize, data);
            state
                .unsynced
                .push(Written::Bytes(offset as usize, data.to_vec()));
            Ok(())
        })
    }
}

/// Opens the database on a disk. A sync that has lost what was written shows when it is read again.
pub struct DiskOpener(pub Disk);

impl Opener for DiskOpener {
    fn open(&mut self, fill: Fill<'_>) -> Result<Database, LogError> {
        let new = {
            let mut state = lock(&self.0.0);
            if state.fault == (Fault::Sync { kept: false }) {
                state.now = state.synced.clone();
                state.unsynced.clear();
            }
            state.now.is_empty()
        };
        let db = Builder::new()
            .create_with_backend(self.0.clone())
            .map_err(of)?;
        if new {
            fill(&db)?;
        }
        Ok(db)
    }
}
