//! `longwire doctor`: what a host can hold, and what to change for a number of connections.
//!
//! - `host`, `cgroup`: what the host says of itself, read once into plain values.
//! - `sysctl`: the file for hosts in `tuning/host/`, which is what the commands recommend.
//! - `files`, `memory`, `rings`, `network`: values in, findings out.
//! - `report`: the findings, printed.

mod cgroup;
mod files;
mod finding;
mod host;
mod memory;
mod network;
mod report;
mod rings;
mod sysctl;

use std::io;

pub use finding::{Finding, Level};
pub use host::Root;
pub use memory::CONNECTION_BYTES;
pub use report::Report;

use crate::config::Config;
use crate::limits::{Plan, PlanError, capacity, reserve};
use host::Host;
use rings::Trial;

/// What the host is to hold.
#[derive(Debug)]
struct Need {
    connections: u64,
    /// As planned; where no plan fits, as configured, or one per core.
    shards: usize,
    /// Whether the configuration says how many shards.
    shards_are_set: bool,
    cores: usize,
    listeners: usize,
    /// Connections the shards' file tables hold; 0 where no plan fits.
    held: u64,
    /// Why no plan fits.
    refusal: Option<PlanError>,
}

impl Need {
    fn new(
        config: &Config,
        connections: Option<usize>,
        cores: usize,
        files_per_table: u64,
    ) -> Self {
        let mut config = config.clone();
        config.max_connections = connections.unwrap_or(config.max_connections);
        let listeners = config.listen.len() + config.proxy_protocol_listen.len();
        let (connections, shards, held, refusal) = match Plan::new(&config, cores, files_per_table)
        {
            Ok(plan) => {
                let kept = reserve(plan.shards, listeners);
                let held = capacity(plan.shards, plan.files_per_table, kept);
                (plan.max_connections, plan.shards, held, None)
            }
            Err(refusal) => {
                let shards = if config.shards == 0 {
                    cores
                } else {
                    config.shards
                };
                (config.max_connections, shards, 0, Some(refusal))
            }
        };
        Self {
            connections: connections as u64,
            shards,
            shards_are_set: config.shards != 0,
            cores,
            listeners,
            held,
            refusal,
        }
    }
}

/// Looks at the host at `root` with `cores` cores, and says whether the server with this `config` would hold
/// `connections` there; `None` takes what the configuration and the file limits give.
///
/// # Errors
/// A file that every Linux has cannot be read; the error names it.
pub fn examine(
    config: &Config,
    connections: Option<usize>,
    cores: usize,
    root: &Root,
) -> io::Result<Report> {
    let host = Host::read(root)?;
    let need = Need::new(config, connections, cores, host.files_per_table());
    let trial = match root.is_this_host() {
        true => rings::try_rings(need.shards),
        false => Trial::NotMade,
    };
    let findings = [
        rings::findings(&host, &need, &trial),
        files::findings(&host, &need),
        memory::findings(&host, &need, &config.admission),
        network::findings(&host, &need, &config.tcp),
    ];
    Ok(Report {
        connections: need.connections,
        findings: findings.concat(),
    })
}
