//! What a ping and its pong cost the server.

use std::time::Duration;

use crate::child::Server;
use crate::client::{FloorBeats, await_count, floor_heartbeat, floor_status, longwire_metric};
use crate::loadgen;
use crate::options::Options;
use crate::report::{Goal, Table};

use super::{NO_PINGS_S, in_turn, pings_every, presume_quiet, release};

const CONNECTIONS_PER_THREAD: u32 = 15_000;
const PING_INTERVAL_S: u32 = 2;
/// Of Longwire's CPU time per pair to the floor's.
const RATIO_MAX: f64 = 1.2;
/// Connections are held for so much longer than is measured.
const SPARE_S: u32 = 4;

pub fn measure(options: &Options) -> Result<Table, String> {
    let threads = options.threads_or(1);
    let load = Load {
        cores: &options.loadgen_cores,
        connections: options.connections_or(threads * CONNECTIONS_PER_THREAD),
        interval_s: options.ping_interval_s.unwrap_or(PING_INTERVAL_S),
        seconds: options.seconds,
    };
    let start =
        |interval_s| Server::longwire(&options.server_cores, threads, &pings_every(interval_s));
    let floor = Server::floor(&options.server_cores, threads)?;
    let (longwire, quiet) = (start(load.interval_s)?, start(NO_PINGS_S)?);
    let about = format!(
        "{} connections, each pinged every {} s",
        load.connections, load.interval_s
    );
    let mut table = Table::new("heartbeat", about);
    for round in 0..options.rounds {
        let (bare, (ours, idle)) = in_turn(
            options,
            round,
            || load.bare(&floor),
            || Ok((load.ours(&longwire)?, load.ours(&quiet)?)),
        )?;
        let bare_us = bare.cpu_ns as f64 / bare.pairs as f64 / 1000.0;
        let ours_us = (ours.cpu_ns as f64 - idle.cpu_ns as f64) / ours.pings as f64 / 1000.0;
        let per_s = |count: u64| count as f64 / f64::from(load.seconds);
        table.add("floor, CPU per pair", "us", bare_us);
        table.add("Longwire, CPU per pair", "us", ours_us);
        table.judge("ratio", "", ours_us / bare_us, Goal::AtMost(RATIO_MAX));
        table.add("floor, pairs/s", "", per_s(bare.pairs));
        table.add("Longwire, pings/s", "", per_s(ours.pings));
        table.add("Longwire idle, CPU per s", "ms", per_s(idle.cpu_ns) / 1e6);
    }
    presume_quiet(&mut table, &[&floor, &longwire, &quiet])?;
    Ok(table)
}

struct Load<'a> {
    cores: &'a str,
    connections: u32,
    interval_s: u32,
    seconds: u32,
}

/// What Longwire did while it was watched.
struct Watched {
    pings: u64,
    cpu_ns: u64,
}

impl Load<'_> {
    fn bare(&self, floor: &Server) -> Result<FloorBeats, String> {
        let beats = self.hold(
            floor,
            || Ok(floor_status(floor.address)?.connections),
            || floor_heartbeat(floor.address, self.seconds, self.interval_s),
        )?;
        release(floor)?;
        match beats.pairs == beats.pings && beats.pings > 0 {
            true => Ok(beats),
            false => Err(format!("pongs are missing: {beats:?}")),
        }
    }

    fn ours(&self, longwire: &Server) -> Result<Watched, String> {
        let metric = |name| longwire_metric(longwire.address, name);
        let pings = || metric("longwire_heartbeat_pings_total");
        self.hold(
            longwire,
            || metric("longwire_subscriptions"),
            || {
                // The CPU time is read last and first, so that the page is not in it.
                let pings_before = pings()?;
                let cpu_before_ns = longwire.cpu_ns()?;
                sleep_s(self.seconds);
                let cpu_ns = longwire.cpu_ns()? - cpu_before_ns;
                let pings = pings()? - pings_before;
                Ok(Watched { pings, cpu_ns })
            },
        )
    }

    /// Holds connections while something is measured: from a ping interval after the last of them came.
    fn hold<T>(
        &self,
        server: &Server,
        count: impl FnMut() -> Result<u64, String>,
        measure: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let settle_s = self.interval_s + 1;
        let hold_s = settle_s + self.seconds + SPARE_S;
        let load = format!("--connections {} --hold {hold_s}", self.connections);
        let running = loadgen::start(self.cores, server, "idle", &load)?;
        let measured = await_count(u64::from(self.connections), count).and_then(|()| {
            sleep_s(settle_s);
            measure()
        });
        // Waits for it whatever happened, so that it does not go on beside the next one.
        let found = running.finish()?;
        let measured = measured?;
        found.sound().map(|_| measured)
    }
}

fn sleep_s(seconds: u32) {
    std::thread::sleep(Duration::from_secs(seconds.into()));
}
