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

/// What a publication counts for besides its data: about what its frame adds. Without it empty ones
/// would gather without bound.
const OVERHEAD_BYTES: u32 = 16;

impl Publication {
    /// What a publication of `data_bytes` counts for in a channel's batch, for its owner and for the
    /// shards that deliver it alike.
    pub fn credit_bytes(data_bytes: usize) -> u32 {
        u32::try_from(data_bytes)
            .unwrap_or(u32::MAX)
            .saturating_add(OVERHEAD_BYTES)
    }
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
