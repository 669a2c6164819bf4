//! The subscribers of a channel on one shard.

use smallvec::SmallVec;

/// Session slots, in no order that means anything.
///
/// Each session remembers its position, so leaving needs no search: the last one takes the place of the one
/// that leaves and is reported to the caller, who updates that memory.
#[derive(Debug, Default)]
pub struct Subscribers {
    slots: SmallVec<[u32; 4]>,
}

impl Subscribers {
    /// Subscribers in all.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The session at `position`.
    pub fn at(&self, position: u32) -> Option<u32> {
        self.slots.get(position as usize).copied()
    }

    /// The sessions from `position` on, up to `most`.
    pub fn from(&self, position: usize, most: usize) -> &[u32] {
        let rest = self.slots.get(position..).unwrap_or_default();
        &rest[..rest.len().min(most)]
    }

    /// Adds a session and returns its position, behind all others.
    pub fn add(&mut self, slot: u32) -> u32 {
        let position = self.slots.len() as u32;
        // Grows by an eighth, not by doubling: with one subscription a session this list is a good
        // part of what an idle connection costs.
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact((self.slots.len() / 8).max(1));
        }
        self.slots.push(slot);
        position
    }

    /// Takes out the session at `position`. The last one, if that is another, takes its place: it is returned.
    pub fn remove(&mut self, position: u32) -> Option<u32> {
        if position as usize >= self.slots.len() {
            return None;
        }
        self.slots.swap_remove(position as usize);
        self.shrink();
        self.at(position)
    }

    /// Gives memory back when three quarters of it are unused.
    fn shrink(&mut self) {
        if self.slots.capacity() > 64 && self.slots.len() < self.slots.capacity() / 4 {
            let mut fewer = SmallVec::with_capacity(self.slots.len() * 2);
            fewer.extend_from_slice(&self.slots);
            self.slots = fewer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn everybody_who_stays_is_where_it_remembers_to_be(
            steps in prop::collection::vec((any::<bool>(), 0u32..300), 0..600),
        ) {
            let mut subscribers = Subscribers::default();
            let mut positions = HashMap::new();
            for (comes, slot) in steps {
                match positions.remove(&slot) {
                    None if comes => {
                        positions.insert(slot, subscribers.add(slot));
                    }
                    None => {}
                    Some(position) => {
                        if let Some(moved) = subscribers.remove(position) {
                            positions.insert(moved, position);
                        }
                    }
                }
                prop_assert_eq!(subscribers.len(), positions.len());
            }
            for (slot, position) in positions {
                prop_assert_eq!(subscribers.at(position), Some(slot));
            }
        }
    }
}
