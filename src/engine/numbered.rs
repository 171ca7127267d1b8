//! Maps keyed by numbers that are counted up: ids, dispatches, links.
//!
//! Owns: how such a number is hashed. Does not know: what is kept. Nothing may depend on the order
//! of such a map, and none may be keyed by what a stranger chooses.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from a number that is counted up.
pub(crate) type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Numbers rise by one, so a multiplication spreads them well enough: by 2^64 divided by the golden
/// ratio, which is Fibonacci hashing (Knuth, TAOCP vol. 3, 6.4).
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
