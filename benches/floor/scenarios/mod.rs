//! The scenarios. Each keeps both servers up and drives them in turn.

mod broadcast;
mod coalescing;
mod connect;
mod delivery;
mod heartbeat;
mod latency;

use serde::Serialize;

use crate::child::Server;
use crate::client::{floor_reset, floor_status};
use crate::loadgen::{self, Found};
use crate::options::{Options, Scenario};
use crate::report::Table;

/// A ping interval at which nobody is pinged while something is measured.
const NO_PINGS_S: u32 = 3600;

/// A server that waits longer than this for its core shares it with another program,
const WAITED_PERCENT_MAX: f64 = 10.0;
/// unless it is short each time: waking up takes that long, and some wake up for little.
const WAKE_US_MAX: f64 = 50.0;

/// All figures of a run.
#[derive(Serialize)]
struct Figures<'a> {
    kernel: String,
    cores: usize,
    server_cores: &'a str,
    loadgen_cores: &'a str,
    rounds: u32,
    tables: &'a [Table],
}

/// Measures what was asked for, and prints each table when it is there.
pub fn run(options: &Options) -> Result<(), String> {
    let (mut tables, mut failed) = (Vec::new(), 0);
    for scenario in options.scenarios() {
        match measure(options, *scenario) {
            Ok(table) => {
                print!("{table}");
                tables.push(table);
                write_json(options, &tables)?;
            }
            Err(reason) => {
                eprintln!("floor: {scenario:?}: {reason}");
                failed += 1;
            }
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} scenarios could not be measured")),
    }
}

fn measure(options: &Options, scenario: Scenario) -> Result<Table, String> {
    match scenario {
        Scenario::Delivery => delivery::measure(options),
        Scenario::Coalescing => coalescing::measure(options),
        Scenario::Latency => latency::measure(options),
        Scenario::Heartbeat => heartbeat::measure(options),
        Scenario::Connect => connect::measure(options),
        Scenario::Broadcast => broadcast::measure(options),
    }
}

fn write_json(options: &Options, tables: &[Table]) -> Result<(), String> {
    let Some(path) = &options.json else {
        return Ok(());
    };
    let kernel = rustix::system::uname();
    let figures = Figures {
        kernel: kernel.release().to_string_lossy().into_owned(),
        cores: longwire::net::core_count(),
        server_cores: &options.server_cores,
        loadgen_cores: &options.loadgen_cores,
        rounds: options.rounds,
        tables,
    };
    let text = serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())?;
    std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
}

/// One round: the floor first in even ones, Longwire first in odd ones.
fn in_turn<F, L>(
    options: &Options,
    round: u32,
    floor: impl FnOnce() -> Result<F, String>,
    longwire: impl FnOnce() -> Result<L, String>,
) -> Result<(F, L), String> {
    eprintln!("round {} of {}", round + 1, options.rounds);
    if round.is_multiple_of(2) {
        let floor = floor()?;
        Ok((floor, longwire()?))
    } else {
        let longwire = longwire()?;
        Ok((floor()?, longwire))
    }
}

/// Publishes through the floor server, and lets its connections go.
fn fan_out_floor(cores: &str, floor: &Server, load: &str) -> Result<Found, String> {
    let found = loadgen::run(cores, floor, "fanout", load)?.sound()?;
    release(floor)?;
    Ok(found)
}

/// Lets go of the floor's connections, of which none may have been lost.
fn release(floor: &Server) -> Result<(), String> {
    floor_reset(floor.address)?;
    match floor_status(floor.address)?.lost {
        0 => Ok(()),
        lost => Err(format!("the floor server has lost {lost} connections")),
    }
}

/// Publishes through Longwire.
fn fan_out(cores: &str, longwire: &Server, load: &str) -> Result<Found, String> {
    loadgen::run(cores, longwire, "fanout", load)?.sound()
}

/// Presumes that the servers had their cores for themselves, all along.
fn presume_quiet(table: &mut Table, servers: &[&Server]) -> Result<(), String> {
    for server in servers {
        let waited = server.waited()?;
        let (percent, each_us) = (100.0 * waited.share, waited.each_us);
        table.presume(percent <= WAITED_PERCENT_MAX || each_us <= WAKE_US_MAX, || {
            format!(
                "a server waited for its core, {percent:.0} % of the time it ran and {each_us:.0} us each time: \
                 something else is running"
            )
        });
    }
    Ok(())
}

/// Settings of Longwire for a ping interval.
fn pings_every(seconds: u32) -> Vec<String> {
    let interval_ms = seconds * 1000;
    let timeout_ms = interval_ms.min(15_000);
    vec![
        format!("heartbeat.ping_interval_ms={interval_ms}"),
        format!("heartbeat.pong_timeout_ms={timeout_ms}"),
    ]
}
