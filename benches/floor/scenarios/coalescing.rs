//! What coalescing makes possible: more messages than passes.

use crate::child::Server;
use crate::loadgen::{self, Found};
use crate::options::Options;
use crate::report::{Goal, Table};

use super::{NO_PINGS_S, fan_out, fan_out_floor, in_turn, pings_every, presume_quiet};

const CONNECTIONS: u32 = 10_000;
/// Messages per second, to everybody.
const RATE: f64 = 150.0;
/// Of the p99 to the floor's time for one pass.
const PASSES_MAX: f64 = 2.5;
/// Frames per second that a core is to send.
const FRAMES_PER_S_MIN: f64 = 1.5e6;
/// The floor's passes that are timed in a round, far enough apart not to meet.
const FLOOR_LOAD: &str = "--rate 2 --messages 8";
const FLOOR_PASS_MS_MAX: f64 = 500.0;
/// The load of Longwire; one publisher alone would wait for answers.
const PUBLISHERS: u32 = 4;
/// The search multiplies the rate until it is too high, then halves the gap.
const SEARCH_FACTOR: f64 = 1.25;
const SEARCH_HALVINGS: u32 = 2;
/// A rate is held if so much of it was published.
const HELD_SHARE: f64 = 0.98;

pub fn measure(options: &Options) -> Result<Table, String> {
    let connections = options.connections_or(CONNECTIONS);
    let floor = Server::floor(&options.server_cores, 1)?;
    let longwire = Server::longwire(&options.server_cores, 1, &pings_every(NO_PINGS_S))?;
    let drive = |rate: f64| Load {
        connections,
        rate,
        seconds: options.seconds,
    };
    let about = format!("{connections} subscribers, {RATE} messages/s of 100 B, coalescing on");
    let mut table = Table::new("coalescing", about);
    for round in 0..options.rounds {
        let cores = &options.loadgen_cores;
        let (bare, (ours, highest)) = in_turn(
            options,
            round,
            || {
                let load = format!("--connections {connections} {FLOOR_LOAD}");
                fan_out_floor(cores, &floor, &load)
            },
            || {
                let found = fan_out(cores, &longwire, &drive(RATE).arguments())?;
                let highest = highest_held(|rate| {
                    let load = drive(rate);
                    let found = loadgen::run(cores, &longwire, "fanout", &load.arguments())?;
                    Ok(load.is_held(&found))
                })?;
                Ok((found, highest))
            },
        )?;
        let (pass_ms, latency) = (bare.pass_ms()?, ours.delivery_latency()?);
        let p99_ms = latency.p99_us / 1000.0;
        table.presume(pass_ms < FLOOR_PASS_MS_MAX, || {
            format!("the floor's passes of {pass_ms:.0} ms met")
        });
        let made = ours.publications_per_s;
        table.presume(made >= HELD_SHARE * RATE, || {
            format!("{made:.0} of {RATE} messages/s were published")
        });
        table.add("floor, one pass", "ms", pass_ms);
        table.add("Longwire, p50", "ms", latency.p50_us / 1000.0);
        table.add("Longwire, p99", "ms", p99_ms);
        let goal = Goal::AtMost(PASSES_MAX);
        table.judge("p99 in passes of the floor", "", p99_ms / pass_ms, goal);
        table.add("Longwire, frames/s", "", ours.deliveries_per_s);
        table.add("CPU per delivery", "us", ours.cpu_per_delivery_us()?);
        table.add("refused", "", ours.refused as f64);
        table.add("highest rate held, messages/s", "", highest);
        let frames = highest * f64::from(connections);
        let goal = Goal::AtLeast(FRAMES_PER_S_MIN);
        table.judge("frames/s at that rate", "", frames, goal);
    }
    presume_quiet(&mut table, &[&floor, &longwire])?;
    Ok(table)
}

struct Load {
    connections: u32,
    rate: f64,
    seconds: u32,
}

impl Load {
    fn arguments(&self) -> String {
        let Self {
            connections,
            rate,
            seconds,
        } = self;
        format!(
            "--connections {connections} --publishers {PUBLISHERS} --rate {rate} --duration {seconds}"
        )
    }

    /// True if nothing was refused, nothing was lost, and the publishers kept their pace.
    fn is_held(&self, found: &Found) -> bool {
        found.ok && found.refused == 0 && found.publications_per_s >= HELD_SHARE * self.rate
    }
}

/// The highest rate found that `is_held`; 0 if the first is not.
fn highest_held(mut is_held: impl FnMut(f64) -> Result<bool, String>) -> Result<f64, String> {
    let (mut held, mut too_high) = (0.0, RATE);
    while is_held(too_high)? {
        held = too_high;
        too_high *= SEARCH_FACTOR;
    }
    if held == 0.0 {
        return Ok(held);
    }
    for _ in 0..SEARCH_HALVINGS {
        let middle = (held + too_high) / 2.0;
        match is_held(middle)? {
            true => held = middle,
            false => too_high = middle,
        }
    }
    Ok(held)
}
