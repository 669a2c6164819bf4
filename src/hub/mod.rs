//! Who listens to what: the plain data of one shard.
//!
//! Nothing here knows a socket, a clock or another thread. Time comes in as seconds since the shard
//! started, bytes go out as return values, and every structure can be tested by itself.

mod batch;
mod encoding;
mod local;
mod outbox;
mod owned;
mod publication;
mod slab;
mod subscribers;
mod vitals;
mod wheel;

pub use batch::{Batch, Frames};
pub use encoding::{Dialect, Encoding, EncodingsInUse, Framing, Selection};
pub use local::{Interest, LocalChannel, LocalChannels};
pub use outbox::{Outbox, OutboxLimits, Overrun};
pub use owned::{Committed, OwnedChannel, OwnedChannels, Refused};
pub use publication::{Epoch, Kind, Publication};
pub use slab::{Key, Slab};
pub use subscribers::Subscribers;
pub use vitals::{HeartbeatTimes, Pulse, Vitals};
pub use wheel::Wheel;
