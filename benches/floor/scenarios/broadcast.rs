//! One message to everybody: how long until the last one has it.

use crate::child::Server;
use crate::loadgen::Found;
use crate::options::Options;
use crate::report::{Goal, Table};

use super::{fan_out, fan_out_floor, in_turn, pings_every};

const THREADS: u32 = 2;
const CONNECTIONS_PER_THREAD: u32 = 15_000;
const PING_INTERVAL_S: u32 = 30;
/// Messages of a round.
const MESSAGES: u32 = 4;
/// Of Longwire's time for one pass to the floor's.
const RATIO_MAX: f64 = 1.15;
/// Connections that one second more between two messages is for, so that they do not meet.
const CONNECTIONS_PER_S: u32 = 50_000;
/// Both sides share all cores.
const ALL_CORES: &str = "";

pub fn measure(options: &Options) -> Result<Table, String> {
    let threads = options.threads_or(THREADS);
    let connections = options.connections_or(threads * CONNECTIONS_PER_THREAD);
    let ping_interval_s = options.ping_interval_s.unwrap_or(PING_INTERVAL_S);
    let interval_s = options
        .broadcast_interval_s
        .unwrap_or(1 + connections / CONNECTIONS_PER_S);
    let floor = Server::floor(ALL_CORES, threads)?;
    let longwire = Server::longwire(ALL_CORES, threads, &pings_every(ping_interval_s))?;
    let rate = 1.0 / f64::from(interval_s);
    let load = format!("--connections {connections} --messages {MESSAGES} --rate {rate}");
    let about = format!(
        "{connections} subscribers on {threads} threads, {MESSAGES} messages of 100 B, {interval_s} s apart; \
         Longwire pings every {ping_interval_s} s"
    );
    let mut table = Table::new("broadcast", about);
    for round in 0..options.rounds {
        let (bare, ours) = in_turn(
            options,
            round,
            || fan_out_floor(ALL_CORES, &floor, &load),
            || fan_out(ALL_CORES, &longwire, &load),
        )?;
        let (bare_ms, ours_ms) = (bare.pass_ms()?, ours.pass_ms()?);
        table.presume(
            bare_ms.max(ours_ms) < 1000.0 * f64::from(interval_s),
            || {
                format!(
                    "passes of {bare_ms:.0} and {ours_ms:.0} ms met; see --broadcast-interval-s"
                )
            },
        );
        table.add("floor, until the last", "ms", bare_ms);
        table.add("Longwire, until the last", "ms", ours_ms);
        table.judge("ratio", "", ours_ms / bare_ms, Goal::AtMost(RATIO_MAX));
        let p50_ms = |found: &Found| Ok::<_, String>(found.delivery_latency()?.p50_us / 1000.0);
        table.add("floor, p50", "ms", p50_ms(&bare)?);
        table.add("Longwire, p50", "ms", p50_ms(&ours)?);
        table.add("floor, CPU per delivery", "us", bare.cpu_per_delivery_us()?);
        table.add(
            "Longwire, CPU per delivery",
            "us",
            ours.cpu_per_delivery_us()?,
        );
    }
    Ok(table)
}
