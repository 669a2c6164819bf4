//! Where sockets live: streams, listeners, rings, file tables and cores.
//!
//! The only files that name a socket or a descriptor table. Everything here is non-blocking: a call
//! either does its work at once or says [`std::io::ErrorKind::WouldBlock`], and waiting is for readiness
//! only: for one descriptor ([`Pollable`]) or for as many as there are ([`Watch`]). Many sends may go with one
//! call ([`Burst`]). No read or write is ever left in a ring, so dropping a wait can lose neither bytes nor
//! descriptors (`tests/hazards.rs` pins why). The exception is [`dial`]: connections to the application's backend
//! belong to a thread of their own, which runs on tokio.

mod burst;
mod cores;
mod dial;
mod files;
mod listener;
mod pollable;
mod ring;
mod socket;
mod steer;
mod stream;
#[cfg(test)]
mod testing;
mod watch;

pub use burst::{Burst, Outgoing};
pub use cores::{core_count, pin_to_core};
pub use dial::{Dialed, dial, look_up};
pub use files::{own_file_table, raise_file_limit};
pub use listener::{Accepted, HandedOver, Listener, TcpOptions, ensure_port_free};
pub use pollable::{GiveWay, Pollable};
pub use ring::{
    RINGS_BYTES_PER_SHARD, RINGS_PER_SHARD, RingRefused, Rings, Runtime, build_runtime,
};
pub use socket::Socket;
pub use stream::Stream;
pub use watch::{Direction, Ready, Token, Watch};
