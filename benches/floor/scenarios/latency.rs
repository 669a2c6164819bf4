//! From publishing to receiving, with nothing else to do.

use crate::child::Server;
use crate::options::Options;
use crate::report::{Goal, Table};

use super::{NO_PINGS_S, fan_out, fan_out_floor, in_turn, pings_every, presume_quiet};

/// Messages per second: far enough apart for the server to fall asleep between them.
const RATE: u32 = 200;
/// Longwire's p50 above the floor's, in microseconds.
const MORE_US_MAX: f64 = 30.0;
/// Over two shards: publisher, owner and subscriber are on the same one or not, in every combination.
const CHANNELS: u32 = 32;

pub fn measure(options: &Options) -> Result<Table, String> {
    let settings = pings_every(NO_PINGS_S);
    let floor = Server::floor(&options.server_cores, 1)?;
    let longwire = Server::longwire(&options.server_cores, 1, &settings)?;
    let across = Server::longwire("", 2, &settings)?;
    let load = |channels: u32| {
        let seconds = options.seconds;
        format!("--connections {channels} --channels {channels} --rate {RATE} --duration {seconds}")
    };
    let about = format!("one subscriber, one publisher, {RATE} messages/s of 100 B");
    let mut table = Table::new("latency", about);
    for round in 0..options.rounds {
        let cores = &options.loadgen_cores;
        let (bare, (ours, crossing)) = in_turn(
            options,
            round,
            || fan_out_floor(cores, &floor, &load(1))?.delivery_latency(),
            || {
                let ours = fan_out(cores, &longwire, &load(1))?.delivery_latency()?;
                let crossing = fan_out("", &across, &load(CHANNELS))?.delivery_latency()?;
                Ok((ours, crossing))
            },
        )?;
        table.add("floor, p50", "us", bare.p50_us);
        table.add("Longwire, p50", "us", ours.p50_us);
        let more_us = ours.p50_us - bare.p50_us;
        table.judge("difference", "us", more_us, Goal::AtMost(MORE_US_MAX));
        table.add("floor, p99", "us", bare.p99_us);
        table.add("Longwire, p99", "us", ours.p99_us);
        table.add("Longwire on 2 shards, p50", "us", crossing.p50_us);
        table.add("Longwire on 2 shards, p90", "us", crossing.p90_us);
    }
    presume_quiet(&mut table, &[&floor, &longwire])?;
    Ok(table)
}
