//! A store: what outlasts a scheduler, and what is said of one that cannot be used.

use std::path::PathBuf;
use std::time::Duration;

use callboard::error::{StartError, StoreError};
use callboard::{Scheduler, SchedulerBuilder, Store};
use tempfile::TempDir;

use crate::cluster::{brisk, finish, here};
use crate::processes::handlers::handlers;

/// A place for a store that nobody else has.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("tasks.redb")
    }

    fn store(&self) -> Store {
        Store::file(self.path())
    }
}

fn stored(name: &str, place: &Place) -> SchedulerBuilder {
    Scheduler::builder(name)
        .store(place.store())
        .configure(brisk)
}

/// Starts it, which must fail for its store.
async fn refused(builder: SchedulerBuilder) -> StoreError {
    match builder.node(here(handlers())).no_client().start().await {
        Err(StartError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn a_store_that_cannot_be_used_is_refused_in_words() {
    let place = Place::new();
    let first = stored("durable-first", &place)
        .node(here(handlers()))
        .no_client();
    let first = first.start().await.unwrap();
    assert_eq!(
        refused(stored("durable-second", &place)).await,
        StoreError::Locked
    );
    finish(first).await;
    let foreign = refused(stored("durable-second", &place)).await;
    let scheduler = "durable-first".to_owned();
    assert_eq!(foreign, StoreError::Foreign { scheduler });

    let missing = Store::file(place.path().join("nowhere"));
    let missing = refused(Scheduler::builder("durable-missing").store(missing)).await;
    assert!(
        matches!(missing, StoreError::Io(_) | StoreError::Missing(_)),
        "{missing:?}"
    );
    let missing = Store::file(place.0.path().join("nowhere").join("tasks"));
    let missing = refused(Scheduler::builder("durable-missing").store(missing)).await;
    assert!(
        matches!(&missing, StoreError::Missing(what) if what.contains("nowhere")),
        "{missing:?}"
    );

    let other = place.0.path().join("text");
    std::fs::write(&other, "a text, and no store").unwrap();
    let other = refused(Scheduler::builder("durable-text").store(Store::file(other))).await;
    assert!(matches!(other, StoreError::NotAStore(_)), "{other:?}");
}

#[actix::test]
async fn a_start_waits_for_the_end_of_whoever_has_the_store_open() {
    let place = Place::new();
    let first = stored("durable-waits", &place)
        .node(here(handlers()))
        .no_client();
    let first = first.start().await.unwrap();
    let waiting = Scheduler::builder("durable-waits-too").store(place.store().wait(Duration::MAX));
    // It is another scheduler's, which is known when it can be opened.
    let (foreign, ()) = tokio::join!(refused(waiting), finish(first));
    assert!(matches!(foreign, StoreError::Foreign { .. }), "{foreign:?}");
}
