//! Where sockets live: streams, listeners, rings, file tables and cores.
//!
//! The only files that name a socket or a descriptor table. Everything here is non-blocking: a call
//! either does its work at once or says [`std::io::ErrorKind::WouldBlock`], and waiting is one thing
//! only, [`Pollable::readable`] or [`Pollable::writable`]. No read or write is ever left in the ring,
//! so dropping a wait can lose neither bytes nor descriptors (`tests/hazards.rs` pins why).

mod cores;
mod files;
mod listener;
mod pollable;
mod ring;
mod stream;

pub use cores::{core_count, pin_to_core};
pub use files::{own_file_table, raise_file_limit};
pub use listener::{Accepted, HandedOver, Listener, TcpOptions, ensure_port_free};
pub use pollable::{GiveWay, Pollable};
pub use ring::{RING_BYTES, RingRefused, Runtime, build_runtime};
pub use stream::Stream;
