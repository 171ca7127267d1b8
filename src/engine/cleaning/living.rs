//! The tasks that were accepted in one batch, and which of them live.
//!
//! Owns: a bit for each. Does not know: what ends one.

use crate::task::TaskId;

/// How far apart the ids of a batch may be for each that there is, to be kept as bits.
const SPARSE: u64 = 64;

/// See the module.
#[derive(Clone, Debug)]
pub struct Living {
    end: u64,
    count: usize,
    kept: KeptIds,
}

#[derive(Clone, Debug)]
enum KeptIds {
    /// A bit for each id from this one on.
    Dense { from: u64, bits: Vec<u64> },
    /// The ids of those that live, in order.
    Sparse(Vec<TaskId>),
}

impl Living {
    /// Takes tasks in the order of their ids. If there is none, it ends at `begin`.
    pub fn new(ids: &[TaskId], begin: u64) -> Self {
        let end = ids
            .last()
            .map_or(begin, |last| last.get().saturating_add(1));
        let from = ids.first().map_or(begin, |first| first.get());
        let span = end.saturating_sub(from);
        let is_dense = span <= SPARSE.saturating_mul(ids.len() as u64);
        let kept = if is_dense {
            let mut bits = vec![0; span.div_ceil(64) as usize];
            for id in ids {
                let at = id.get() - from;
                bits[(at / 64) as usize] |= 1 << (at % 64);
            }
            KeptIds::Dense { from, bits }
        } else {
            KeptIds::Sparse(ids.to_vec())
        };
        Self {
            end,
            count: ids.len(),
            kept,
        }
    }

    /// Returns the first id after this batch.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns how many live.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns whether this task is of the batch and lives.
    pub fn has(&self, id: TaskId) -> bool {
        match &self.kept {
            KeptIds::Dense { from, bits } => bit(*from, id)
                .is_some_and(|(word, bit)| bits.get(word).is_some_and(|word| word & bit != 0)),
            KeptIds::Sparse(ids) => ids.binary_search(&id).is_ok(),
        }
    }

    /// Notes that a task does not live any more. Returns whether it did.
    pub fn clear(&mut self, id: TaskId) -> bool {
        if !self.has(id) {
            return false;
        }
        self.count -= 1;
        match &mut self.kept {
            KeptIds::Dense { from, bits } => {
                if let Some((word, bit)) = bit(*from, id)
                    && let Some(word) = bits.get_mut(word)
                {
                    *word &= !bit;
                }
                if self.count == 0 {
                    *bits = Vec::new();
                }
            }
            KeptIds::Sparse(ids) => {
                if let Ok(at) = ids.binary_search(&id) {
                    ids.remove(at);
                }
            }
        }
        true
    }

    /// Returns those that live, in their order.
    pub fn iter(&self) -> impl Iterator<Item = TaskId> {
        let (from, words, ids) = match &self.kept {
            KeptIds::Dense { from, bits } => (*from, &bits[..], &[][..]),
            KeptIds::Sparse(ids) => (0, &[][..], &ids[..]),
        };
        let dense = words.iter().zip(0u64..).flat_map(move |(&word, place)| {
            let set = (0..64u64).filter(move |bit| word >> bit & 1 == 1);
            set.map(move |bit| TaskId::new(from + place * 64 + bit))
        });
        dense.chain(ids.iter().copied())
    }
}

/// Returns the word and the bit of an id; `None` if it is below all.
fn bit(from: u64, id: TaskId) -> Option<(usize, u64)> {
    let at = id.get().checked_sub(from)?;
    Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
}
