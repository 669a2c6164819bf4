//! The timer wheel: one deadline per session, one-second slots.

/// Slots of the wheel, in seconds. A deadline further away stays in its slot for more than one turn.
const SLOTS: u32 = 128;
/// The list of entries whose slot was reached and that are not handed out yet.
const DUE: u32 = SLOTS;
/// Where sessions' nodes begin; the nodes before are the heads of the lists.
const FIRST: u32 = SLOTS + 1;
/// Nodes per chunk.
const CHUNK: usize = 256;

/// Deadlines of sessions by slot number, in whole seconds since the shard started.
///
/// Every slot is a circular list through nodes of 12 bytes; the list heads are nodes too, so taking
/// an entry out never needs to know which list it is in. An entry has one deadline: the earliest of
/// all its reasons. When it comes, the session looks which reason it was and sets the next one.
#[derive(Debug)]
pub struct Wheel {
    chunks: Vec<Box<[Node]>>,
    /// The second whose slot is next to be reached.
    next_second: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The node itself when in no list.
    previous: u32,
    next: u32,
    deadline_s: u32,
}

impl Default for Wheel {
    fn default() -> Self {
        let mut wheel = Self {
            chunks: Vec::new(),
            next_second: 0,
        };
        wheel.ensure(FIRST);
        wheel
    }
}

impl Wheel {
    /// Sets the deadline of `slot` to `deadline_s`, unless an earlier one is set. A deadline in the
    /// past comes with the next [`Self::pop_due`].
    pub fn schedule(&mut self, slot: u32, deadline_s: u32) {
        let node = FIRST + slot;
        self.ensure(node);
        if self.is_linked(node) {
            if self.node(node).deadline_s <= deadline_s {
                return;
            }
            self.unlink(node);
        }
        self.node_mut(node).deadline_s = deadline_s;
        let reached = deadline_s < self.next_second;
        self.link(node, if reached { DUE } else { deadline_s % SLOTS });
    }

    /// Forgets the deadline of `slot`.
    pub fn cancel(&mut self, slot: u32) {
        let node = FIRST + slot;
        if (node as usize) < self.chunks.len() * CHUNK && self.is_linked(node) {
            self.unlink(node);
        }
    }

    /// Takes out one entry whose deadline is at or before `now_s`. Call until `None`.
    pub fn pop_due(&mut self, now_s: u32) -> Option<u32> {
        loop {
            while let Some(node) = self.first(DUE) {
                self.unlink(node);
                let deadline_s = self.node(node).deadline_s;
                if deadline_s < self.next_second {
                    return Some(node - FIRST);
                }
                self.link(node, deadline_s % SLOTS);
            }
            if self.next_second > now_s {
                return None;
            }
            self.splice(self.next_second % SLOTS);
            self.next_second += 1;
        }
    }

    fn first(&self, head: u32) -> Option<u32> {
        let next = self.node(head).next;
        (next != head).then_some(next)
    }

    /// Moves the whole list of `head` into the list of due entries, which is empty.
    fn splice(&mut self, head: u32) {
        let Some(first) = self.first(head) else {
            return;
        };
        let last = self.node(head).previous;
        self.join(DUE, first);
        self.join(last, DUE);
        self.join(head, head);
    }

    fn is_linked(&self, node: u32) -> bool {
        self.node(node).next != node
    }

    fn link(&mut self, node: u32, head: u32) {
        let last = self.node(head).previous;
        self.join(last, node);
        self.join(node, head);
    }

    fn unlink(&mut self, node: u32) {
        let Node { previous, next, .. } = *self.node(node);
        self.join(previous, next);
        self.join(node, node);
    }

    fn join(&mut self, previous: u32, next: u32) {
        self.node_mut(previous).next = next;
        self.node_mut(next).previous = previous;
    }

    fn node(&self, node: u32) -> &Node {
        &self.chunks[node as usize / CHUNK][node as usize % CHUNK]
    }

    fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.chunks[node as usize / CHUNK][node as usize % CHUNK]
    }

    fn ensure(&mut self, node: u32) {
        while self.chunks.len() * CHUNK <= node as usize {
            let first = (self.chunks.len() * CHUNK) as u32;
            let chunk = (first..first + CHUNK as u32).map(|own| Node {
                previous: own,
                next: own,
                deadline_s: 0,
            });
            self.chunks.push(chunk.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn due(wheel: &mut Wheel, now_s: u32) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop_due(now_s)).collect()
    }

    #[test]
    fn an_entry_comes_at_its_second_and_once() {
        let mut wheel = Wheel::default();
        wheel.schedule(7, 3);
        assert!(due(&mut wheel, 2).is_empty());
        assert_eq!(due(&mut wheel, 3), [7]);
        assert!(due(&mut wheel, 300).is_empty());
    }

    #[test]
    fn an_earlier_deadline_wins_and_a_later_one_is_ignored() {
        let mut wheel = Wheel::default();
        wheel.schedule(1, 10);
        wheel.schedule(1, 20);
        wheel.schedule(1, 5);
        assert_eq!(due(&mut wheel, 5), [1]);
    }

    #[test]
    fn a_deadline_beyond_one_turn_waits_for_it() {
        let mut wheel = Wheel::default();
        wheel.schedule(1, 5 + SLOTS);
        assert!(due(&mut wheel, 5).is_empty());
        assert!(due(&mut wheel, 4 + SLOTS).is_empty());
        assert_eq!(due(&mut wheel, 5 + SLOTS), [1]);
    }

    #[test]
    fn a_late_visit_hands_out_everything_missed() {
        let mut wheel = Wheel::default();
        for slot in 0..1000 {
            wheel.schedule(slot, slot);
        }
        assert_eq!(due(&mut wheel, 5000).len(), 1000);
    }

    #[test]
    fn an_entry_may_be_cancelled_and_set_again_while_others_are_handed_out() {
        let mut wheel = Wheel::default();
        for slot in 0..3 {
            wheel.schedule(slot, 1);
        }
        assert_eq!(wheel.pop_due(1), Some(0));
        wheel.cancel(1);
        wheel.schedule(0, 2);
        assert_eq!(wheel.pop_due(1), Some(2));
        assert_eq!(wheel.pop_due(1), None);
        assert_eq!(due(&mut wheel, 2), [0]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u8..3, 0u32..40, 0u32..400), 1..200)) {
            let mut wheel = Wheel::default();
            let mut model: HashMap<u32, u32> = HashMap::new();
            let mut now_s = 0;
            for (step, slot, seconds) in steps {
                match step {
                    0 => {
                        let deadline = now_s + seconds;
                        wheel.schedule(slot, deadline);
                        let entry = model.entry(slot).or_insert(deadline);
                        *entry = deadline.min(*entry);
                    }
                    1 => {
                        wheel.cancel(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        now_s += seconds % 50;
                        let mut got = due(&mut wheel, now_s);
                        let mut want: Vec<u32> = model.iter().filter(|(_, d)| **d <= now_s).map(|(s, _)| *s).collect();
                        model.retain(|_, d| *d > now_s);
                        got.sort_unstable();
                        want.sort_unstable();
                        prop_assert_eq!(got, want);
                    }
                }
            }
        }
    }
}
