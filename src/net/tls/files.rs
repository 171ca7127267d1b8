//! The files of certificates and keys.
//!
//! Owns: reading them, within a bound, and telling whether they have changed. Does not know: what
//! the certificates say. No message has anything of what is in a file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Tls;
use crate::error::TlsError;

/// The largest file: some two hundred authorities take 300 KiB.
const MAX_FILE: u64 = 1 << 20;

/// When the three files were last changed.
#[derive(PartialEq)]
pub(super) struct Stamps([Option<Stamp>; 3]);

/// One file, through links. A file that is put in the place of another differs, whatever its times
/// say.
#[derive(PartialEq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamps {
    pub fn of(tls: &Tls) -> Self {
        Self([&tls.certificates, &tls.key, &tls.roots].map(|file| stamp(file)))
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(file).ok()?;
    #[cfg(unix)]
    use std::os::unix::fs::MetadataExt;
    Some(Stamp {
        length: metadata.len(),
        modified: metadata.modified().ok(),
        #[cfg(unix)]
        inode: (
            metadata.dev(),
            metadata.ino(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ),
    })
}

pub(super) fn fault(file: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::File {
        file: file.display().to_string(),
        problem: problem.into(),
    }
}

/// Reads all certificates of a file, at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(file, broken(&error)))?;
    if certificates.is_empty() {
        return Err(fault(
            file,
            "it holds no certificate; it must be PEM, with a section that begins with \
             `-----BEGIN CERTIFICATE-----`",
        ));
    }
    Ok(certificates)
}

/// Reads the first private key of a file.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(&bytes) => fault(
            file,
            "the private key is encrypted; store it decrypted, readable by its owner alone \
             (`openssl pkey` decrypts it)",
        ),
        pem::Error::NoItemsFound => fault(
            file,
            "it holds no private key; it must be PEM, with a section that begins with \
             `-----BEGIN PRIVATE KEY-----`",
        ),
        error => fault(file, broken(&error)),
    })
}

fn is_encrypted(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"BEGIN ENCRYPTED PRIVATE KEY";
    bytes.windows(MARK.len()).any(|window| window == MARK)
}

/// Says what is broken, without the words of the error, which may hold a line of the file.
fn broken(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a section of the PEM has no end; the file may have been cut"
        }
        pem::Error::IllegalSectionStart { .. } => "a section of the PEM begins with a broken line",
        pem::Error::Base64Decode(_) => "what is in a section of the PEM is not base64",
        _ => "it is not PEM",
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error: io::Error| fault(file, format!("it cannot be read: {error}"));
    // Opening a pipe would wait until something writes to it.
    if !fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(fault(file, "it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.is_empty() {
        return Err(fault(file, "it is empty"));
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err(fault(file, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}
