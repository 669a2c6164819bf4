//! Finds channels by their names, which are kept in the table of the channels and nowhere else.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Places in a table by name: five bytes an entry. Whoever calls says what name is at a place. The
/// hash is keyed at random, so that nobody can choose names that collide.
#[derive(Debug, Default)]
pub(super) struct Names {
    places: HashTable<u32>,
    hasher: RandomState,
}

impl Names {
    /// The place of `name`.
    pub fn find<'a>(&self, name: &str, name_at: impl Fn(u32) -> &'a str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let place = self.places.find(hash, |place| name_at(*place) == name);
        place.copied()
    }

    /// Adds a name that is not there yet; its table has it at `place` by now.
    pub fn insert<'a>(&mut self, name: &str, place: u32, name_at: impl Fn(u32) -> &'a str) {
        let hasher = &self.hasher;
        let hash = |place: &u32| hasher.hash_one(name_at(*place));
        self.places
            .insert_unique(hasher.hash_one(name), place, hash);
    }

    /// Takes out the name at `place`.
    pub fn remove(&mut self, name: &str, place: u32) {
        let hash = self.hasher.hash_one(name);
        if let Ok(entry) = self.places.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
    }
}
