//! Longwire, a push server for long-lived connections.
pub mod cli;
pub mod clock;
pub mod config;
pub mod endpoints;
pub mod hub;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod net;
pub mod proto;
pub mod server;
pub mod shard;
