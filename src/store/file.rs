//! The file of a store.
//!
//! Owns: how it is made, so that there is a whole one or none, who may read it, and whether it is
//! still there. Does not know: what is in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database};

use super::LogError;
use super::database::{Fill, Opener, of, of_io};

/// How much of a file redb keeps in memory. A log is read once, and then written at its end.
const CACHE: usize = 32 << 20;

/// Opens the store at a path.
#[derive(Debug)]
pub struct FileOpener {
    path: PathBuf,
    opened: Option<Identity>,
    may_make: bool,
}

/// What tells one file from another at the same path.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = ();

impl Opener for FileOpener {
    fn open(&mut self, fill: Fill<'_>) -> Result<Database, LogError> {
        let (db, identity) = match options().open(&self.path) {
            Ok(file) => {
                let identity = identity(&file.metadata().map_err(|error| self.fault(&error))?);
                (open(file)?, identity)
            }
            // A file that was there is not made anew: what is in it may come back.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && self.may_make
                    && self.opened.is_none() =>
            {
                make(&self.path, fill)?
            }
            Err(error) => return Err(self.fault(&error)),
        };
        let before = *self.opened.get_or_insert(identity);
        if before == identity {
            Ok(db)
        } else {
            Err(self.missing("another file stands at"))
        }
    }

    fn size(&self) -> Option<u64> {
        fs::metadata(&self.path).ok().map(|file| file.len())
    }

    fn check(&mut self) -> Result<(), LogError> {
        match (fs::metadata(&self.path), self.opened) {
            (Ok(found), Some(opened)) if identity(&found) != opened => {
                Err(self.missing("another file stands at"))
            }
            (Err(error), Some(_)) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.missing("the file of the store was removed:"))
            }
            _ => Ok(()),
        }
    }
}

impl FileOpener {
    /// Makes a file of which nothing is opened so far.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            opened: None,
            may_make: true,
        }
    }

    /// Makes the same, but no file is created on the disk.
    pub fn existing(path: PathBuf) -> Self {
        Self {
            may_make: false,
            ..Self::new(path)
        }
    }

    fn missing(&self, what: &str) -> LogError {
        LogError::Missing(format!("{what} {}", self.path.display()))
    }

    fn fault(&self, error: &io::Error) -> LogError {
        match self.opened {
            Some(_) if error.kind() == io::ErrorKind::NotFound => {
                self.missing("the file of the store was removed:")
            }
            _ => named(&self.path, error),
        }
    }
}

/// Converts the error of a file, which does not name the path, and adds that.
fn named(path: &Path, error: &io::Error) -> LogError {
    of_io(&io::Error::new(
        error.kind(),
        format!("{}: {error}", path.display()),
    ))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

#[cfg(unix)]
fn identity(file: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Identity {}

fn open(file: File) -> Result<Database, LogError> {
    // redb makes a database of an empty file.
    if file.metadata().is_ok_and(|file| file.len() == 0) {
        return Err(LogError::NotAStore("the file is empty".to_owned()));
    }
    database(file)
}

fn database(file: File) -> Result<Database, LogError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    let backend = FileBackend::new(file).map_err(of)?;
    builder.create_with_backend(backend).map_err(of)
}

/// Makes a database at a path where there is no file, and has `fill` write what is in it first. It
/// is made under another name, and has its own when it is whole and durable: a power cut while redb
/// makes a database leaves one that never opens.
///
/// # Errors
///
/// There is a file, somebody makes one, or it cannot be written.
pub(super) fn make(path: &Path, fill: Fill<'_>) -> Result<(Database, Identity), LogError> {
    let name = path.file_name().unwrap_or_default();
    let mut new_name = name.to_owned();
    new_name.push(".new");
    let new = path.with_file_name(new_name);
    let fault = |error: io::Error| named(path, &error);
    let mut options = options();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE);
    let file = options.open(&new).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LogError::NoDirectory(directory(path).display().to_string()),
        _ => fault(error),
    })?;
    // Whoever makes one has it locked until it has its name.
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LogError::Locked),
        Err(TryLockError::Error(error)) => return Err(fault(error)),
    }
    if path.exists() {
        let there = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(fault(there));
    }
    // What a start before has left unfinished, or what somebody else has put there.
    file.set_len(0).map_err(fault)?;
    keep_private(&file).map_err(fault)?;
    let identity = identity(&file.metadata().map_err(fault)?);
    let db = database(file)?;
    fill(&db)?;
    fs::rename(&new, path).map_err(fault)?;
    sync_directory(path).map_err(fault)?;
    Ok((db, identity))
}

/// Readable and writable for its user alone: args lie in it in clear.
#[cfg(unix)]
const PRIVATE: u32 = 0o600;

/// Sets the rights of a file that may have been there before.
fn keep_private(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(PRIVATE))?;
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// Makes the name of a file durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory(path))?.sync_all()?;
    }
    Ok(())
}

/// Returns the directory of a file.
fn directory(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
