//! Who listens to what: the plain data of one shard.
//!
//! Nothing here knows a socket, a clock or another thread. Time comes in as seconds since the shard
//! started, bytes go out as return values, and every structure can be tested by itself.

mod attendance;
mod batch;
mod device;
mod encoding;
mod glob;
mod history;
mod idempotency;
mod interest;
mod local;
#[cfg(test)]
mod model;
mod names;
mod outbox;
mod owned;
mod presence;
mod publication;
mod recency;
mod slab;
mod snapshot;
mod subscribers;
mod vitals;
mod wheel;

pub use attendance::Arrival;
pub use batch::{Batch, Frames, Part, Visit};
pub use device::{DeviceId, DeviceName, Holder, Holders};
pub use encoding::{Dialect, Encoding, EncodingsInUse, Framing, Selection};
pub use glob::{BadGlob, Glob};
pub use history::{Direction, Limit, Page, Recovery, Stream, StreamOptions, Unrecoverable};
pub use idempotency::{IdempotencyKeys, IdempotencyLimits};
pub use interest::InterestedShard;
pub use local::{Interest, LocalChannel, LocalChannels};
pub use outbox::{Backlog, Droppable, Dropped, Outbox, OutboxLimits, Overrun};
pub use owned::{OwnedChannel, OwnedChannels, OwnedLimits, Refused};
pub use presence::{PresenceFull, PresenceStats};
pub use publication::{ClientInfo, Epoch, Kind, Position, Publication, PublicationExtra, Since};
pub use slab::{Key, Slab};
pub use snapshot::{
    BadSnapshot, ChannelState, Entry, KeyState, RevocationState, RevokedTokensState, append_entry,
    begin_snapshot, read_snapshot,
};
pub use subscribers::Subscribers;
pub use vitals::{HeartbeatTimes, Pulse, Vitals};
pub use wheel::Wheel;
