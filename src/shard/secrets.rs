//! Numbers that nobody outside can guess.

use std::hash::{BuildHasher, RandomState};

/// Makes them: SipHash, with a key from the system that never leaves the process, of a number that goes up.
/// Whoever knows some of them learns nothing of the others, nor of the key.
#[derive(Default)]
pub(super) struct Secrets {
    key: RandomState,
    made: u64,
}

impl Secrets {
    /// 64 bits.
    pub fn random_u64(&mut self) -> u64 {
        self.made += 1;
        self.key.hash_one(self.made)
    }
}
