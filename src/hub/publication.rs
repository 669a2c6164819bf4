//! What is published, and how its place in a channel is named.

use std::fmt;

use bytes::Bytes;

/// What a publisher said the data is; decides how each protocol carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One JSON value, as it was sent.
    Json,
    /// Valid UTF-8 that is not JSON.
    Text,
    /// Anything else.
    Binary,
}

/// A message as it was sequenced. Cloning shares the data.
#[derive(Clone, Debug)]
pub struct Publication {
    /// What the data is.
    pub kind: Kind,
    /// The data, verbatim.
    pub data: Bytes,
    /// Its place in the channel's epoch; the first is 1.
    pub offset: u64,
}

/// Names one continuous run of offsets of a channel. Random, so that a run that was lost is never
/// taken for the one that came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch from 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Epoch {
    /// Sixteen hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
