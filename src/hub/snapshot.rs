//! What a server tells the one that comes after it on a clean restart: epochs, offsets, histories,
//! idempotency keys and revocations of tokens as bytes.
//!
//! ```text
//!   "longwire snapshot 2\n"
//!   then for each entry:   length of the body (u32, little-endian) | CRC-32 of length and body | body
//! ```
//!
//! The number in the first line is that of the body's format; 1 was the same without revocations. Whoever reads a snapshot must make
//! sure that nobody reads it again: a channel that goes on from an old snapshot would give its
//! offsets twice.

use serde::{Deserialize, Serialize};

use super::{Position, Publication};

/// How a snapshot begins.
const MAGIC: &[u8] = b"longwire snapshot 2\n";
/// How one began before, which is read too.
pub(super) const OLDER_MAGIC: &[u8] = b"longwire snapshot 1\n";
/// Length and checksum.
const HEAD_BYTES: usize = 8;

/// What a snapshot has one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// When it was begun, in seconds since 1970: what comes after counts its times from then.
    Began {
        /// That moment.
        unix_s: u64,
    },
    /// A channel.
    Channel(ChannelState),
    /// What became of a publication whose publisher may ask again.
    Key(KeyState),
    /// Tokens that are refused.
    Revocation(RevocationState),
}

/// A revocation of tokens as it outlives a restart. Its times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevocationState {
    /// Which tokens.
    pub tokens: RevokedTokensState,
    /// Until then.
    pub until_s: i64,
}

/// Which tokens are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RevokedTokensState {
    /// Those of a user.
    OfUser {
        /// Whose.
        user: String,
        /// Only those issued before; `None` for all.
        issued_before_s: Option<i64>,
    },
    /// The one with this name (`jti`).
    Named(String),
}

/// An idempotency key as it outlives a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyState {
    /// The channel's name.
    pub channel: String,
    /// The key.
    pub key: String,
    /// The publication's place.
    pub position: Position,
    /// How long that is to be remembered yet, in seconds.
    pub remembered_s: u32,
}

/// A channel as it outlives a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelState {
    /// The channel's name.
    pub name: String,
    /// Epoch and newest offset.
    pub position: Position,
    /// How long those are to be remembered yet, in seconds.
    pub remembered_s: u32,
    /// How long `publications` are to be kept yet, in seconds.
    pub history_ttl_s: u32,
    /// The history, oldest first.
    pub publications: Vec<Publication>,
    /// The last version that a publication had; 0 if none had one.
    pub version: u64,
    /// The epoch of that version.
    pub version_epoch: Box<str>,
}

impl ChannelState {
    /// Whether offsets go up and none is above the newest.
    pub fn is_whole(&self) -> bool {
        let offsets = || self.publications.iter().map(|p| p.offset);
        offsets().is_sorted_by(|a, b| a < b)
            && offsets().all(|offset| (1..=self.position.offset).contains(&offset))
    }
}

/// Why an entry cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSnapshot {
    /// These are not the bytes of a snapshot, or of another version of one.
    Foreign,
    /// One entry's bytes were altered; those after it may be whole.
    Altered,
    /// The bytes end within an entry.
    CutOff,
    /// An entry is too large for a snapshot.
    TooLarge,
}

/// Begins a snapshot.
pub fn begin_snapshot(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
}

/// Appends an entry; or nothing, if it is too large.
pub fn append_entry(entry: &Entry, out: &mut Vec<u8>) -> Result<(), BadSnapshot> {
    let body = postcard::to_allocvec(entry).map_err(|_| BadSnapshot::TooLarge)?;
    let length = u32::try_from(body.len()).map_err(|_| BadSnapshot::TooLarge)?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, &body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Reads a snapshot entry by entry. What was altered is passed over as an error; after what is
/// cut off or foreign nothing comes.
pub fn read_snapshot(bytes: &[u8]) -> impl Iterator<Item = Result<Entry, BadSnapshot>> {
    let entries = bytes
        .strip_prefix(MAGIC)
        .or_else(|| bytes.strip_prefix(OLDER_MAGIC));
    let mut rest = entries.ok_or(BadSnapshot::Foreign);
    std::iter::from_fn(move || match std::mem::replace(&mut rest, Ok(&[])) {
        Ok([]) => None,
        Ok(entries) => Some(match read_entry(entries) {
            Some((entry, behind)) => {
                rest = Ok(behind);
                entry
            }
            None => Err(BadSnapshot::CutOff),
        }),
        Err(bad) => Some(Err(bad)),
    })
}

/// The first entry, and the bytes behind it; `None` if it is not all there.
fn read_entry(bytes: &[u8]) -> Option<(Result<Entry, BadSnapshot>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let expected = u32::from_le_bytes([c0, c1, c2, c3]);
    let (body, behind) = rest.split_at_checked(length as usize)?;
    let entry = if checksum(length, body) == expected {
        postcard::from_bytes(body).map_err(|_| BadSnapshot::Altered)
    } else {
        Err(BadSnapshot::Altered)
    };
    Some((entry, behind))
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length.to_le_bytes());
    crc.update(body);
    crc.finalize()
}
