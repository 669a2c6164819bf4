//! A run on several hosts: an agent on each makes its part of the connections, and the controller, which is
//! the command itself, tells them when, publishes, and writes the one report.
//!
//! To the command an agent is what a thread of connections is elsewhere: it has a share, its counters are kept
//! up to date, and at the end it gives a tally. The two talk JSON, a line each, over one TCP connection: the
//! controller asks ([`wire::Request`]), the agent answers ([`wire::Answer`]). If either falls silent or goes
//! away, the other ends what it does.

mod agent;
mod assignment;
mod clocks;
mod controller;
mod wire;

pub use agent::run;
pub use assignment::Assignment;
pub use clocks::ClockOffset;
pub use controller::{Agents, start};
