//! The index from id to slot: small pages, found by their number and walked in their order.
//!
//! Owns: the pages that are full or left behind, and their order. Does not know: the newest page,
//! to which nearly every task is added.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::{NO_SLOT, Slot};
use crate::engine::numbered::Numbered;

/// How many ids a page has.
pub(super) const PAGE: u64 = 64;

#[derive(Debug)]
pub(super) struct Page {
    pub slots: [Slot; PAGE as usize],
    pub used: u32,
}

impl Page {
    pub fn vacant() -> Box<Self> {
        Box::new(Self {
            slots: [NO_SLOT; PAGE as usize],
            used: 0,
        })
    }
}

/// See the module. No page here is empty.
#[derive(Debug, Default)]
pub(super) struct Pages {
    by_number: Numbered<u64, Box<Page>>,
    /// The same numbers. A page comes and goes once in many tasks, so that this costs little.
    order: BTreeSet<u64>,
}

impl Pages {
    #[inline]
    pub fn get(&self, number: u64) -> Option<&Page> {
        self.by_number.get(&number).map(Box::as_ref)
    }

    #[inline]
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Page> {
        self.by_number.get_mut(&number).map(Box::as_mut)
    }

    pub fn insert(&mut self, number: u64, page: Box<Page>) {
        self.order.insert(number);
        self.by_number.insert(number, page);
    }

    pub fn remove(&mut self, number: u64) -> Option<Box<Page>> {
        let page = self.by_number.remove(&number)?;
        self.order.remove(&number);
        Some(page)
    }

    /// Returns the pages from this number on, in order, and the newest one, which is not among
    /// them, at its place.
    pub fn from<'a>(
        &'a self,
        number: u64,
        newest: Option<(u64, &'a Page)>,
    ) -> impl Iterator<Item = (u64, &'a Page)> {
        let newest = newest.filter(|(newest, _)| *newest >= number);
        let until = newest.map_or(Bound::Unbounded, |(newest, _)| Bound::Excluded(newest));
        let before = self.order.range((Bound::Included(number), until));
        let behind = newest.map(|(newest, _)| {
            let from = Bound::Excluded(newest);
            self.order.range((from, Bound::Unbounded))
        });
        let page = |&number: &u64| Some((number, self.get(number)?));
        let before = before.filter_map(page);
        let behind = behind.into_iter().flatten().filter_map(page);
        before.chain(newest).chain(behind)
    }
}
