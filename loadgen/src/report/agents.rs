//! What one agent did of a run.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::agents::ClockOffset;
use crate::counters::Causes;
use crate::machine::Machine;

/// An agent's part.
#[derive(Clone, Debug, Serialize)]
pub struct AgentFigures {
    /// Where it listens.
    pub address: String,
    /// Where it runs.
    pub machine: Machine,
    /// Threads that held connections.
    pub threads: usize,
    /// Local addresses that connections came from; 0 if the system chose.
    pub source_addresses: usize,
    /// Connections asked for.
    pub wanted: u64,
    /// Connections made.
    pub connected: u64,
    /// Connections that could not be made, by cause.
    pub failed: Causes,
    /// Connections that ended before they should, by cause.
    pub lost: Causes,
    /// Data messages received.
    pub messages: u64,
    /// Its clock, seen from the publishers: how far ahead it is, and how exact its delivery latency can be.
    pub clock: ClockOffset,
    /// CPU time for this run.
    pub cpu_seconds: f64,
}

impl Display for AgentFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            threads,
            wanted,
            connected,
            messages,
            ..
        } = self;
        write!(f, "{address}: {connected} of {wanted} on {threads} threads")?;
        for (what, causes) in [("failed", &self.failed), ("lost", &self.lost)] {
            match causes.total() {
                0 => {}
                total => write!(f, ", {what} {total} ({causes})")?,
            }
        }
        write!(f, ", {messages} messages, CPU {:.2} s, ", self.cpu_seconds)?;
        match self.clock.error_ns {
            0 => f.write_str("same clock"),
            error_ns => {
                let error_us = error_ns.div_ceil(1000);
                write!(f, "another clock: delivery latency within {error_us} us")
            }
        }
    }
}
