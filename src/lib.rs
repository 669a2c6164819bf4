//! Longwire, a push server for long-lived connections.
pub mod net;
