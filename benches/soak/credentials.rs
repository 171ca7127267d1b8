//! How the scheduler and the nodes know each other: by a secret, or by certificates.
//!
//! Owns: the certificates, whose directory goes with it. Does not know: links.

use std::path::Path;

use callboard::{NodeBuilder, SchedulerBuilder};

#[cfg(feature = "tls")]
use crate::certificates::Authority;

/// See the module.
pub struct Credentials {
    #[cfg(feature = "tls")]
    authority: Option<Authority>,
}

impl Credentials {
    /// Certificates for the scheduler and the nodes of these names, if that is asked for.
    #[cfg(feature = "tls")]
    pub fn new(tls: bool, scheduler: &str, nodes: impl Iterator<Item = String>) -> Self {
        let authority = tls.then(Authority::new);
        if let Some(authority) = &authority {
            for name in nodes.chain([scheduler.to_owned()]) {
                authority.issue(&name);
            }
        }
        Self { authority }
    }

    #[cfg(not(feature = "tls"))]
    pub fn new(_: bool, _: &str, _: impl Iterator<Item = String>) -> Self {
        Self {}
    }

    /// Returns where the certificates are, if there are any.
    pub fn directory(&self) -> Option<&Path> {
        #[cfg(feature = "tls")]
        return self.authority.as_ref().map(Authority::directory);
        #[cfg(not(feature = "tls"))]
        None
    }
}

pub fn of_scheduler(
    builder: SchedulerBuilder,
    name: &str,
    secret: &str,
    certificates: Option<&Path>,
) -> SchedulerBuilder {
    match certificates {
        #[cfg(feature = "tls")]
        Some(directory) => builder.tls(files(directory, name)),
        _ => {
            let _ = name;
            builder.secret(secret)
        }
    }
}

pub fn of_node(
    builder: NodeBuilder,
    name: &str,
    secret: &str,
    certificates: Option<&Path>,
) -> NodeBuilder {
    match certificates {
        #[cfg(feature = "tls")]
        Some(directory) => builder.tls(files(directory, name)),
        _ => {
            let _ = name;
            builder.secret(secret)
        }
    }
}

#[cfg(feature = "tls")]
fn files(directory: &Path, name: &str) -> callboard::Tls {
    let own = |kind| directory.join(format!("{name}.{kind}"));
    callboard::Tls::files(own("crt"), own("key"), directory.join("ca.crt"))
}
