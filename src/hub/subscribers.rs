//! The subscribers of a channel on one shard, and where a fan-out pass stands among them.

use smallvec::SmallVec;

/// Session slots in three runs: `[visited | to visit | joined during the pass]`.
///
/// A pass walks in slices while sessions come and go. A session that leaves is replaced from the end
/// of its own run, so no session is visited twice or left out; one that comes during a pass is not
/// part of it. Each session remembers its position, so leaving needs no search: whoever is moved is
/// reported to the caller, who updates that memory.
#[derive(Debug, Default)]
pub struct Subscribers {
    slots: SmallVec<[u32; 4]>,
    visited: u32,
    pass_end: u32,
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

    /// Adds a session and returns its position.
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

    /// Takes out the session at `position`; calls `moved(slot, new position)` for every session that
    /// fills a hole.
    pub fn remove(&mut self, position: u32, mut moved: impl FnMut(u32, u32)) {
        if position as usize >= self.slots.len() {
            return;
        }
        let mut hole = position;
        if hole < self.visited {
            self.visited -= 1;
            hole = self.fill(hole, self.visited, &mut moved);
        }
        if hole < self.pass_end {
            self.pass_end -= 1;
            hole = self.fill(hole, self.pass_end, &mut moved);
        }
        let last = self.slots.len() as u32 - 1;
        self.fill(hole, last, &mut moved);
        self.slots.pop();
        self.shrink();
    }

    /// Begins a pass over everybody who is here now.
    pub fn begin_pass(&mut self) {
        self.visited = 0;
        self.pass_end = self.slots.len() as u32;
    }

    /// The next session of the pass; `None` ends it.
    pub fn visit_next(&mut self) -> Option<u32> {
        if self.visited == self.pass_end {
            self.visited = 0;
            self.pass_end = 0;
            return None;
        }
        let slot = self.slots[self.visited as usize];
        self.visited += 1;
        Some(slot)
    }

    /// Moves the session at `from` into `hole` and returns the new hole.
    fn fill(&mut self, hole: u32, from: u32, moved: &mut impl FnMut(u32, u32)) -> u32 {
        if hole != from {
            let slot = self.slots[from as usize];
            self.slots[hole as usize] = slot;
            moved(slot, hole);
        }
        from
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
    use std::collections::{HashMap, HashSet};

    /// Every session with the position it remembers, as a shard keeps it.
    #[derive(Default)]
    struct Model {
        subscribers: Subscribers,
        positions: HashMap<u32, u32>,
    }

    impl Model {
        fn add(&mut self, slot: u32) {
            if !self.positions.contains_key(&slot) {
                let position = self.subscribers.add(slot);
                self.positions.insert(slot, position);
            }
        }

        fn remove(&mut self, slot: u32) {
            if let Some(position) = self.positions.remove(&slot) {
                let positions = &mut self.positions;
                self.subscribers.remove(position, |slot, position| {
                    positions.insert(slot, position);
                });
            }
        }
    }

    proptest! {
        #[test]
        fn a_pass_visits_everybody_who_stays_exactly_once(
            before in 1u32..40,
            steps in prop::collection::vec((0u8..4, 0u32..60), 0..120),
        ) {
            let mut model = Model::default();
            (0..before).for_each(|slot| model.add(slot));
            let mut stayed: HashSet<u32> = (0..before).collect();
            let mut visits = HashMap::<u32, u32>::new();
            model.subscribers.begin_pass();
            for (step, slot) in steps {
                match step {
                    0 => model.add(slot),
                    1 => {
                        model.remove(slot);
                        stayed.remove(&slot);
                    }
                    _ => if let Some(slot) = model.subscribers.visit_next() {
                        *visits.entry(slot).or_default() += 1;
                    } else {
                        break;
                    }
                }
            }
            while let Some(slot) = model.subscribers.visit_next() {
                *visits.entry(slot).or_default() += 1;
            }
            for slot in stayed {
                prop_assert_eq!(visits.get(&slot), Some(&1));
            }
            prop_assert!(visits.values().all(|count| *count == 1));
            for (slot, position) in &model.positions {
                prop_assert_eq!(model.subscribers.slots[*position as usize], *slot);
            }
            prop_assert_eq!(model.positions.len(), model.subscribers.len());
        }
    }
}
