//! Certificates for tests: an authority of the test's own, and what it signs.
//!
//! Owns: a directory with `ca.crt`, and `NAME.crt` and `NAME.key` for each name; it goes with the
//! authority.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use callboard::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

pub struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one with a name that no other has.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("authority {number} of a test"))
    }

    pub fn named(name: &str) -> Self {
        let authority = Self {
            directory: tempfile::tempdir().unwrap(),
            issuer: issuer(name),
        };
        authority.put("ca.crt", &authority.issuer.pem());
        authority
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Puts a file in place, as a whole.
    pub fn put(&self, name: &str, text: &str) {
        let aside = self.file("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.file(name)).unwrap();
    }

    /// Issues a certificate for this name and a key, in the place of older ones.
    pub fn issue(&self, name: &str) -> Tls {
        self.issue_with(name, |_| {})
    }

    /// Does the same with changes: times, names, use.
    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Tls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.put(&format!("{name}.crt"), &certificate.pem());
        self.put(&format!("{name}.key"), &key.serialize_pem());
        self.tls(name)
    }

    /// Returns the files of this name.
    pub fn tls(&self, name: &str) -> Tls {
        Tls::files(
            self.file(&format!("{name}.crt")),
            self.file(&format!("{name}.key")),
            self.file("ca.crt"),
        )
    }

    /// Lets another authority sign from now on, which is the only one to be trusted.
    pub fn replace(&mut self) {
        self.issuer = issuer("another authority of a test");
        self.put("ca.crt", &self.issuer.pem());
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}
