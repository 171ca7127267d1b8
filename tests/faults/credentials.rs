//! How the scheduler and the nodes of a scenario know each other: by the secret, or by
//! certificates.
//!
//! Owns: the certificates, whose directory goes with it. Does not know: links.

use std::path::Path;

use callboard::SchedulerBuilder;

#[cfg(feature = "tls")]
use crate::certificates::Authority;
use crate::processes::Role;
use crate::scheduler::SECRET;

/// See the module.
pub enum Credentials {
    Secret,
    #[cfg(feature = "tls")]
    Certificates(Box<Authority>),
}

impl Credentials {
    /// Certificates for these names, if that is asked for.
    #[cfg(feature = "tls")]
    pub fn new<'a>(tls: bool, names: impl IntoIterator<Item = &'a str>) -> Self {
        if !tls {
            return Self::Secret;
        }
        let authority = Authority::new();
        for name in names {
            authority.issue(name);
        }
        Self::Certificates(Box::new(authority))
    }

    #[cfg(not(feature = "tls"))]
    pub fn new<'a>(_: bool, _: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Secret
    }

    /// Returns where the certificates are, if there are any.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Secret => None,
            #[cfg(feature = "tls")]
            Self::Certificates(authority) => Some(authority.directory()),
        }
    }

    /// Gives a node's process what it needs.
    pub fn give(&self, role: Role) -> Role {
        match self.directory() {
            None => role.secret(SECRET),
            Some(directory) => role.tls(directory),
        }
    }
}

/// Lets the scheduler of this name use its certificate in this directory, or the secret.
pub fn of_scheduler(
    builder: SchedulerBuilder,
    name: &str,
    directory: Option<&Path>,
) -> SchedulerBuilder {
    match directory {
        None => builder.secret(SECRET),
        #[cfg(feature = "tls")]
        Some(directory) => {
            let own = |kind| directory.join(format!("{name}.{kind}"));
            let tls = callboard::Tls::files(own("crt"), own("key"), directory.join("ca.crt"));
            builder.tls(tls)
        }
        #[cfg(not(feature = "tls"))]
        Some(_) => unreachable!("{name} has no certificate"),
    }
}
