//! How many connections the file limits allow, and how many shards that takes.
//!
//! RLIMIT_NOFILE counts per file table, and each shard has a table of its own, so connections are bounded by
//! shards x files. The kernel scatters connections over the shards' SO_REUSEPORT listeners at random: when the
//! average shard holds `n`, the fullest holds about `n` plus a few times its square root. So a server is full when
//! the average shard is five square roots below the size of its table.

use std::fmt;

use crate::config::{Config, MAX_SHARDS};

/// Descriptors kept back in every table: files opened while running, and room to accept and refuse.
const SPARE_FILES: u64 = 64;
/// Standard streams, the log's and signals' descriptors, `--ready-fd`.
const PROCESS_FILES: u64 = 8;
/// A ring, a doorbell and the runtime's waker. Every table has those of all shards: they are made before the split.
const FILES_PER_SHARD: u64 = 3;
/// Where a limit is "infinity" or as good as that. A shard with more sockets than this would need 64 GB for them.
const MAX_FILES_PER_TABLE: u64 = 1 << 24;

/// Shards and connections of a server about to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Number of shards, from 1.
    pub shards: usize,
    /// Connections the server holds, over all shards.
    pub max_connections: usize,
    /// Most connections one shard accepts: its share, and the room that random spreading takes. With one shard
    /// this is `max_connections`; with more, the shards' bounds add up to more than it.
    pub connections_per_shard: usize,
    /// Descriptors in each shard's table.
    pub files_per_table: u64,
}

/// Why no plan fits: one line with the arithmetic and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The setting to blame.
    pub key: &'static str,
    message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PlanError {}

/// Descriptors of each table that are not for connections.
pub fn reserve(shards: usize, listeners: usize) -> u64 {
    SPARE_FILES + PROCESS_FILES + FILES_PER_SHARD * shards as u64 + listeners as u64
}

/// Connections `shards` shards hold, when `reserve` of each table's files are kept back.
pub fn capacity(shards: usize, files_per_table: u64, reserve: u64) -> u64 {
    let usable = files_per_table.saturating_sub(reserve);
    shards as u64 * average_fill(usable)
}

/// Shards that hold `wanted` connections with `usable` descriptors each: at least one per core.
/// `None` when a table has no room for any.
pub fn shards_for(wanted: u64, cores: usize, usable: u64) -> Option<u64> {
    match average_fill(usable) {
        0 => None,
        fill => Some(wanted.div_ceil(fill).max(cores as u64)),
    }
}

/// Descriptors each of `shards` tables must have for `connections` in all, with `listeners` addresses to listen on.
pub fn files_for(connections: u64, shards: usize, listeners: usize) -> u64 {
    let kept = reserve(shards, listeners);
    let share = connections.div_ceil(shards.max(1) as u64);
    // The fill grows with the table, by no more than one for each descriptor.
    let mut usable = share + spread(share);
    while average_fill(usable) < share {
        usable += share - average_fill(usable);
    }
    kept + usable
}

/// How full the average table may be so that the fullest does not overflow: `usable - 5 sqrt(usable)`.
fn average_fill(usable: u64) -> u64 {
    usable.saturating_sub(spread(usable))
}

/// Five standard deviations of a random count with this mean, rounded up.
fn spread(mean: u64) -> u64 {
    let squared = 25 * mean;
    let root = squared.isqrt();
    root + u64::from(root * root < squared)
}

impl Plan {
    /// Plans for `cores` cores and a limit of `files_per_table` descriptors ([`crate::net::raise_file_limit`]).
    ///
    /// `shards = 0` takes one per core, or as many as `max_connections` needs; `max_connections = 0` takes what
    /// the shards hold.
    ///
    /// # Errors
    /// When the file limit leaves no room, or when `max_connections` does not fit.
    pub fn new(config: &Config, cores: usize, files_per_table: u64) -> Result<Self, PlanError> {
        let files = files_per_table.min(MAX_FILES_PER_TABLE);
        let planner = Planner {
            files,
            listeners: config.listen.len() + config.proxy_protocol_listen.len(),
        };
        let shards = match (config.shards, config.max_connections) {
            (0, 0) => cores.clamp(1, MAX_SHARDS),
            (0, wanted) => planner.shards_for(wanted as u64, cores.clamp(1, MAX_SHARDS))?,
            (shards, _) => shards,
        };
        planner.plan(shards, config.max_connections)
    }
}

/// What stays the same while the number of shards is looked for.
struct Planner {
    files: u64,
    listeners: usize,
}

impl Planner {
    fn usable(&self, shards: usize) -> u64 {
        self.files.saturating_sub(reserve(shards, self.listeners))
    }

    /// More shards need more descriptors in every table, so the number is approached from below.
    fn shards_for(&self, wanted: u64, cores: usize) -> Result<usize, PlanError> {
        let mut shards = cores;
        loop {
            let needed = shards_for(wanted, cores, self.usable(shards))
                .ok_or_else(|| self.no_room(shards))?;
            if needed > MAX_SHARDS as u64 {
                return Err(self.too_many_shards(wanted, needed));
            }
            if needed <= shards as u64 {
                return Ok(shards);
            }
            shards = needed as usize;
        }
    }

    fn plan(&self, shards: usize, wanted: usize) -> Result<Plan, PlanError> {
        let capacity = capacity(shards, self.files, reserve(shards, self.listeners));
        if capacity == 0 {
            return Err(self.no_room(shards));
        }
        if wanted as u64 > capacity {
            return Err(self.too_many_connections(shards, wanted, capacity));
        }
        let max_connections = match wanted {
            0 => capacity,
            wanted => wanted as u64,
        };
        Ok(Plan {
            shards,
            max_connections: max_connections as usize,
            connections_per_shard: self.connections_per_shard(shards, max_connections) as usize,
            files_per_table: self.files,
        })
    }

    fn connections_per_shard(&self, shards: usize, max_connections: u64) -> u64 {
        if shards == 1 {
            return max_connections;
        }
        let share = max_connections.div_ceil(shards as u64);
        (share + spread(share)).min(self.usable(shards))
    }

    fn no_room(&self, shards: usize) -> PlanError {
        let files = self.files;
        let kept = reserve(shards, self.listeners);
        PlanError {
            key: "shards",
            message: format!(
                "the file limit of {files} leaves no room for connections: {shards} shards keep back {kept} files \
                 in each table, and 5 sqrt(rest) for uneven spreading; raise the hard limit (ulimit -Hn, \
                 LimitNOFILE=) or lower shards"
            ),
        }
    }

    fn too_many_shards(&self, wanted: u64, needed: u64) -> PlanError {
        let files = self.files;
        PlanError {
            key: "max_connections",
            message: format!(
                "max_connections = {wanted} takes {needed} shards with {files} files each, more than \
                 {MAX_SHARDS}; raise the hard file limit (ulimit -Hn, LimitNOFILE=) or lower max_connections"
            ),
        }
    }

    fn too_many_connections(&self, shards: usize, wanted: usize, capacity: u64) -> PlanError {
        let files = self.files;
        let kept = reserve(shards, self.listeners);
        let usable = self.usable(shards);
        PlanError {
            key: "max_connections",
            message: format!(
                "max_connections = {wanted} does not fit: each table has {files} files - {kept} kept back = \
                 {usable}, and {shards} shards x ({usable} - 5 sqrt({usable})) = {capacity}; set shards = 0, \
                 raise the hard file limit (ulimit -Hn, LimitNOFILE=) or lower max_connections"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(shards: usize, max_connections: usize) -> Config {
        Config {
            shards,
            max_connections,
            ..Config::default()
        }
    }

    #[test]
    fn spread_is_five_square_roots_rounded_up() {
        for (mean, five_roots) in [
            (0, 0),
            (1, 5),
            (2, 8),
            (4, 10),
            (10_000, 500),
            (10_001, 501),
        ] {
            assert_eq!(spread(mean), five_roots);
        }
    }

    #[test]
    fn capacity_leaves_the_reserve_and_the_spread() {
        assert_eq!(capacity(2, 10_064, 64), 2 * 9_500);
        assert_eq!(capacity(1, 64, 64), 0);
        assert_eq!(capacity(1, 10, 64), 0);
        assert_eq!(capacity(1, 89, 64), 0);
        assert_eq!(capacity(1, 100, 64), 6);
    }

    #[test]
    fn a_million_connections_under_a_hard_limit_of_20_000_take_53_shards() {
        assert_eq!(shards_for(1_000_000, 2, 20_000 - 64), Some(53));
        let plan = Plan::new(&config(0, 1_000_000), 2, 20_000).unwrap();
        assert_eq!(plan.shards, 53);
        assert_eq!(plan.max_connections, 1_000_000);
        assert!(plan.connections_per_shard as u64 <= 20_000 - reserve(53, 1));
    }

    #[test]
    fn files_for_is_the_smallest_table_that_is_enough() {
        for (connections, shards) in [
            (1, 1),
            (10, 2),
            (38_430, 2),
            (1_000_000, 2),
            (1_000_000, 53),
        ] {
            let files = files_for(connections, shards, 1);
            let kept = reserve(shards, 1);
            assert!(capacity(shards, files, kept) >= connections);
            assert!(capacity(shards, files - 1, kept) < connections);
        }
        assert_eq!(files_for(38_430, 2, 1), 20_000);
    }

    #[test]
    fn shards_are_cores_where_the_limits_allow() {
        let plan = Plan::new(&config(0, 10_000), 4, 1_048_576).unwrap();
        assert_eq!((plan.shards, plan.max_connections), (4, 10_000));
        assert_eq!(plan.connections_per_shard, 2_500 + 250);
    }

    #[test]
    fn without_wishes_the_plan_is_what_the_limits_allow() {
        let plan = Plan::new(&config(0, 0), 2, 20_000).unwrap();
        assert_eq!(plan.shards, 2);
        let usable = 20_000 - reserve(2, 1);
        assert_eq!(plan.max_connections as u64, 2 * average_fill(usable));
        assert_eq!(plan.files_per_table, 20_000);
    }

    #[test]
    fn one_shard_is_bounded_exactly() {
        let plan = Plan::new(&config(1, 10), 8, 20_000).unwrap();
        assert_eq!((plan.shards, plan.connections_per_shard), (1, 10));
    }

    #[test]
    fn every_plan_fits_its_tables() {
        for files in [300, 1_024, 4_096, 20_000, 1_048_576] {
            for wanted in [0, 1, 100, 3_000, 50_000] {
                let Ok(plan) = Plan::new(&config(0, wanted), 2, files) else {
                    continue;
                };
                let room = files - reserve(plan.shards, 1);
                assert!(plan.connections_per_shard as u64 <= room, "{plan:?}");
                assert!(plan.connections_per_shard * plan.shards >= plan.max_connections);
            }
        }
    }

    #[test]
    fn too_many_connections_for_fixed_shards_shows_the_arithmetic() {
        let error = Plan::new(&config(2, 1_000_000), 2, 20_000).unwrap_err();
        assert_eq!(error.key, "max_connections");
        assert_eq!(
            error.to_string(),
            "max_connections = 1000000 does not fit: each table has 20000 files - 79 kept back = 19921, and \
             2 shards x (19921 - 5 sqrt(19921)) = 38430; set shards = 0, raise the hard file limit (ulimit -Hn, \
             LimitNOFILE=) or lower max_connections"
        );
    }

    #[test]
    fn limits_without_room_are_refused() {
        for (config, files) in [
            (config(0, 0), 64),
            (config(0, 5), 64),
            (config(0, 5), 90),
            (config(1_000, 0), 2_000),
            (config(0, 100_000_000), 20_000),
        ] {
            assert!(Plan::new(&config, 2, files).is_err(), "{config:?}");
        }
    }

    #[test]
    fn infinite_limits_and_no_cores_still_give_a_plan() {
        let plan = Plan::new(&config(0, 0), 0, u64::MAX).unwrap();
        assert_eq!((plan.shards, plan.files_per_table), (1, 1 << 24));
    }
}
