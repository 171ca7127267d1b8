//! The documents of the repository, as rustdoc shows them: how to use the library, run it, and
//! find one's way in it.
//!
//! Owns: the list of the documents and where their links lead in rustdoc. Does not know: what they
//! say. Their examples are compiled and run with the tests.
//!
//! Begin with [`recipes`], then [`operations`]. [`guarantees`] says what is promised, and
//! [`architecture`] how it is built.

/// A document, after the targets of its links: of two definitions of a link the first counts, so
/// that those at the end of the file, which lead to files, are for other readers.
macro_rules! documents {
    ($($name:ident: $file:literal;)+) => {
        $(
            #[doc = "[README]: crate"]
            #[doc = "[architecture]: crate::guide::architecture"]
            #[doc = "[coming from]: crate::guide::coming_from"]
            #[doc = "[dashboard]: crate::guide::dashboard"]
            #[doc = "[guarantees]: crate::guide::guarantees"]
            #[doc = "[guide]: crate::guide::recipes"]
            #[doc = "[measurements]: crate::guide::measurements"]
            #[doc = "[operations]: crate::guide::operations"]
            #[doc = "[production]: crate::guide::production"]
            #[doc = "[Security]: crate::guide::security"]
            #[doc = "[troubleshooting]: crate::guide::troubleshooting"]
            #[doc = "[`SchedulerConfig`]: crate::SchedulerConfig"]
            #[doc = "[`NodeConfig`]: crate::NodeConfig"]
            #[doc = "[`LinkConfig`]: crate::net::LinkConfig"]
            #[doc = "[`SchedulerBuilder`]: crate::SchedulerBuilder"]
            #[doc = "[`NodeBuilder`]: crate::NodeBuilder"]
            #[doc = "[`Execute`]: crate::Execute"]
            #[doc = "[`Scheduler::find_tasks`]: crate::Scheduler::find_tasks"]
            #[doc = "[`Stats`]: crate::stats::Stats"]
            #[doc = ""]
            #[doc = include_str!(concat!("../", $file))]
            pub mod $name {}
        )+
    };
}

documents! {
    recipes: "docs/guide.md";
    guarantees: "docs/guarantees.md";
    operations: "docs/operations.md";
    dashboard: "docs/dashboard.md";
    production: "docs/production.md";
    troubleshooting: "docs/troubleshooting.md";
    measurements: "docs/measurements.md";
    architecture: "docs/architecture.md";
    coming_from: "docs/coming-from.md";
    security: "SECURITY.md";
}
