//! What is published, and how its place in a channel is named.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a publisher said the data is; decides how each protocol carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One JSON value, as it was sent.
    Json,
    /// Valid UTF-8 that is not JSON.
    Text,
    /// Anything else.
    Binary,
}

/// A message, with its offset once it is sequenced. Cloning shares everything in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// What the data is.
    pub kind: Kind,
    /// The data, verbatim. Bytes of its own: what is kept in a history must not hold a larger buffer.
    pub data: Bytes,
    /// Its place in the channel's epoch; the first is 1. 0 before it has one, and for good if it was
    /// published outside the stream.
    pub offset: u64,
    /// When it was sequenced, in milliseconds since 1970; 0 if not known.
    pub time_ms: i64,
    /// What most publications do without.
    pub extra: Option<Arc<PublicationExtra>>,
}

/// What a publication may carry besides its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublicationExtra {
    /// The client that published.
    pub info: Option<Arc<ClientInfo>>,
    /// Labels to filter by.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// Whether subscribers that negotiated it get the difference to the publication before.
    pub uses_delta: bool,
}

/// A client as others on a channel may see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Whose client it is; empty for an anonymous one.
    pub user: Arc<str>,
    /// The client's id, unique among all connections.
    pub client: Box<str>,
    /// What the application said of the connection: one JSON value, or nothing.
    pub conn_info: Bytes,
    /// What the application said of the subscription: one JSON value, or nothing.
    pub chan_info: Bytes,
}

/// What a publication counts for besides its data: about what its frame adds. Without it empty ones
/// would gather without bound.
const OVERHEAD_BYTES: u32 = 16;
/// What a publication in memory takes besides its payload: the entry with its share of spare places,
/// and what the allocator and the shared buffer add.
const KEPT_OVERHEAD_BYTES: usize = 2 * size_of::<Publication>();

impl Publication {
    /// A publication that is not sequenced yet, with nothing extra.
    pub fn new(kind: Kind, data: Bytes, time_ms: i64) -> Self {
        Self {
            kind,
            data,
            offset: 0,
            time_ms,
            extra: None,
        }
    }

    /// What a publication of `data_bytes` counts for in a channel's batch, for its owner and for the
    /// shards that deliver it alike.
    pub fn credit_bytes(data_bytes: usize) -> u32 {
        u32::try_from(data_bytes)
            .unwrap_or(u32::MAX)
            .saturating_add(OVERHEAD_BYTES)
    }

    /// About what the publication takes in a history, in bytes. What it shares with others is counted
    /// in full.
    pub fn kept_bytes(&self) -> usize {
        let extra = self.extra.as_ref().map_or(0, |extra| extra.bytes());
        KEPT_OVERHEAD_BYTES + self.data.len() + extra
    }
}

/// What an allocation takes besides what is in it: a reference count, or the rest of a block.
const ALLOCATION_BYTES: usize = 16;

impl PublicationExtra {
    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        let tag = size_of::<[Box<str>; 2]>() + 2 * ALLOCATION_BYTES;
        let tags = self.tags.iter();
        let tags = tags.map(|(name, value)| tag + name.len() + value.len());
        let info = self.info.as_ref().map_or(0, |info| info.bytes());
        size_of::<Self>() + 2 * ALLOCATION_BYTES + tags.sum::<usize>() + info
    }
}

impl ClientInfo {
    /// About what it takes in memory: five allocations, and two buffers' counts.
    fn bytes(&self) -> usize {
        let texts = self.user.len() + self.client.len();
        let jsons = self.conn_info.len() + self.chan_info.len();
        size_of::<Self>() + 10 * ALLOCATION_BYTES + texts + jsons
    }
}

/// Names one continuous run of offsets of a channel. Random, so that a run that was lost is never
/// taken for the one that came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// Names no run of any channel.
    const FOREIGN: Self = Self(0);

    /// An epoch from 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(bits.max(1))
    }

    /// The epoch a client names. Text that never was an epoch becomes one that no channel has.
    pub fn from_text(text: &str) -> Self {
        let is_own = text.len() == 16
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(text, 16) {
            Ok(bits) if is_own => Self(bits),
            _ => Self::FOREIGN,
        }
    }
}

impl fmt::Display for Epoch {
    /// Sixteen hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A position in a channel: what a publication got, or where the channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The run of offsets.
    pub epoch: Epoch,
    /// The offset in it; 0 before the first publication.
    pub offset: u64,
}

impl Position {
    /// Of a channel whose owner has not said where it is.
    pub(super) const UNKNOWN: Self = Self {
        epoch: Epoch::FOREIGN,
        offset: 0,
    };
}

/// Up to where a client says it has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Since {
    /// The run of offsets; `None` if the client takes any.
    pub epoch: Option<Epoch>,
    /// The newest offset it has.
    pub offset: u64,
}

impl Since {
    /// As protocols carry it: the empty text stands for any epoch.
    pub fn from_text(epoch: &str, offset: u64) -> Self {
        let epoch = (!epoch.is_empty()).then(|| Epoch::from_text(epoch));
        Self { epoch, offset }
    }
}

impl From<Position> for Since {
    fn from(Position { epoch, offset }: Position) -> Self {
        Self {
            epoch: Some(epoch),
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_comes_back_from_its_text(bits: u64) {
            let epoch = Epoch::from_random(bits);
            prop_assert_eq!(Epoch::from_text(&epoch.to_string()), epoch);
        }

        #[test]
        fn no_other_text_is_an_epoch(text in "[0-9a-fA-F+]{15,17}|.*", bits: u64) {
            let epoch = Epoch::from_random(bits);
            let read = Epoch::from_text(&text);
            prop_assert_eq!(read == epoch, text == epoch.to_string());
            prop_assert!(read == Epoch::FOREIGN || read.to_string() == text);
        }
    }

    #[test]
    fn an_empty_epoch_stands_for_any() {
        assert_eq!(Since::from_text("", 5).epoch, None);
        assert_eq!(Since::from_text("x", 5).epoch, Some(Epoch::FOREIGN));
    }
}
