//! A table whose places are reused, with keys that notice reuse.

/// Names an entry of a [`Slab`]. A key of an entry that left never finds the one that came after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The place in the table.
    pub slot: u32,
    /// How often the place was vacated before this entry came.
    pub generation: u32,
}

/// Entries per chunk. A table grows by one chunk at a time: doubling would hold twice the memory just
/// when there are the most entries.
const CHUNK: usize = 256;
/// Ends the list of vacant places.
const NONE: u32 = u32::MAX;

/// A table of `T`. Entries never move; vacated places are used again, last out first in.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Place<T>]>>,
    vacant: u32,
    len: usize,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Vacant { next: u32 },
    Occupied(T),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            vacant: NONE,
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Places in the table, occupied or not: every slot is below it.
    pub fn places(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Puts `value` into a vacant place.
    pub fn insert(&mut self, value: T) -> Key {
        if self.vacant == NONE {
            self.grow();
        }
        let slot = self.vacant;
        let place = &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
        let Content::Vacant { next } = place.content else {
            unreachable!("the list of vacant places holds vacant places only");
        };
        self.vacant = next;
        self.len += 1;
        place.content = Content::Occupied(value);
        Key {
            slot,
            generation: place.generation,
        }
    }

    /// Takes the entry out; `None` if it has left already.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let vacant = self.vacant;
        let place = self.place_mut(key.slot)?;
        if place.generation != key.generation || matches!(place.content, Content::Vacant { .. }) {
            return None;
        }
        place.generation = place.generation.wrapping_add(1);
        let content = std::mem::replace(&mut place.content, Content::Vacant { next: vacant });
        self.vacant = key.slot;
        self.len -= 1;
        match content {
            Content::Occupied(value) => Some(value),
            Content::Vacant { .. } => None,
        }
    }

    /// The entry of `key`, unless it has left.
    pub fn get(&self, key: Key) -> Option<&T> {
        let place = self.place(key.slot)?;
        match &place.content {
            Content::Occupied(value) if place.generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The entry of `key`, unless it has left.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.place_mut(key.slot)?;
        match &mut place.content {
            Content::Occupied(value) if place.generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The entry at a place, whoever it is.
    pub fn at(&self, slot: u32) -> Option<&T> {
        match &self.place(slot)?.content {
            Content::Occupied(value) => Some(value),
            Content::Vacant { .. } => None,
        }
    }

    /// The entry at a place, whoever it is.
    pub fn at_mut(&mut self, slot: u32) -> Option<(Key, &mut T)> {
        let place = self.place_mut(slot)?;
        let generation = place.generation;
        match &mut place.content {
            Content::Occupied(value) => Some((Key { slot, generation }, value)),
            Content::Vacant { .. } => None,
        }
    }

    /// The key of the entry at a place, if it is occupied.
    pub fn key_at(&self, slot: u32) -> Option<Key> {
        let place = self.place(slot)?;
        let generation = place.generation;
        matches!(place.content, Content::Occupied(_)).then_some(Key { slot, generation })
    }

    /// The keys of all entries.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.places() as u32).filter_map(|slot| self.key_at(slot))
    }

    fn place(&self, slot: u32) -> Option<&Place<T>> {
        self.chunks
            .get(slot as usize / CHUNK)
            .map(|chunk| &chunk[slot as usize % CHUNK])
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Place<T>> {
        self.chunks
            .get_mut(slot as usize / CHUNK)
            .map(|chunk| &mut chunk[slot as usize % CHUNK])
    }

    /// Adds a chunk of vacant places. Slots are 32 bits: memory ends long before they do.
    fn grow(&mut self) {
        let first = self.places() as u32;
        let last = first + CHUNK as u32 - 1;
        let chunk = (first..=last).map(|slot| Place {
            generation: 0,
            content: Content::Vacant {
                next: if slot == last { NONE } else { slot + 1 },
            },
        });
        self.chunks.push(chunk.collect());
        self.vacant = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_find_the_entry_that_came_after() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn grows_by_chunks_and_reuses_places() {
        let mut slab = Slab::default();
        let keys: Vec<Key> = (0..CHUNK * 3).map(|i| slab.insert(i)).collect();
        assert_eq!(slab.places(), CHUNK * 3);
        for key in &keys {
            slab.remove(*key);
        }
        assert!(slab.is_empty());
        for i in 0..CHUNK * 3 {
            slab.insert(i);
        }
        assert_eq!(slab.places(), CHUNK * 3);
        assert_eq!(slab.keys().count(), CHUNK * 3);
    }
}
