//! What a new connection costs the server: accept, handshake, subscription.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::child::Server;
use crate::loadgen;
use crate::options::Options;
use crate::report::{Goal, Table};

use super::{NO_PINGS_S, in_turn, pings_every, presume_quiet, release};

const CONNECTIONS_PER_THREAD: u32 = 15_000;
const IN_FLIGHT: u32 = 256;
/// Longwire's CPU time per connection, in microseconds.
const COST_US_MAX: f64 = 25.0;
/// How often the CPU time is read.
const READ_INTERVAL: Duration = Duration::from_millis(50);
/// The load generator's start, and what the server does behind its last answer.
const SETTLE: Duration = Duration::from_secs(1);
/// Longer than that: nothing but idleness is in it.
const HOLD_S: u32 = 3;

pub fn measure(options: &Options) -> Result<Table, String> {
    let threads = options.threads_or(1);
    let connections = options.connections_or(threads * CONNECTIONS_PER_THREAD);
    let floor = Server::floor(&options.server_cores, threads)?;
    let settings = pings_every(NO_PINGS_S);
    let longwire = Server::longwire(&options.server_cores, threads, &settings)?;
    let load =
        format!("--connections {connections} --connect-in-flight {IN_FLIGHT} --hold {HOLD_S}");
    let about = format!("{connections} connections, {IN_FLIGHT} in flight");
    let mut table = Table::new("connect", about);
    for round in 0..options.rounds {
        let cores = &options.loadgen_cores;
        let (bare, ours) = in_turn(
            options,
            round,
            || {
                let cost = connect(cores, &floor, &load)?;
                release(&floor)?;
                Ok(cost)
            },
            || connect(cores, &longwire, &load),
        )?;
        table.add("floor, CPU per connection", "us", bare.cpu_us);
        let goal = Goal::AtMost(COST_US_MAX);
        table.judge("Longwire, CPU per connection", "us", ours.cpu_us, goal);
        table.add("ratio", "", ours.cpu_us / bare.cpu_us);
        table.add("floor, connections/s", "", bare.connects_per_s);
        table.add("Longwire, connections/s", "", ours.connects_per_s);
    }
    presume_quiet(&mut table, &[&floor, &longwire])?;
    Ok(table)
}

struct Cost {
    cpu_us: f64,
    connects_per_s: f64,
}

fn connect(cores: &str, server: &Server, load: &str) -> Result<Cost, String> {
    let before_ns = server.cpu_ns()?;
    let started = Instant::now();
    let running = loadgen::start(cores, server, "idle", load)?;
    let (found, readings) = std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let reader = scope.spawn(move || {
            let mut readings = Vec::new();
            while stopped.recv_timeout(READ_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                readings.push((started.elapsed(), server.cpu_ns()));
            }
            readings
        });
        let found = running.finish();
        drop(stop);
        (found, reader.join().unwrap_or_default())
    });
    let connecting = found?.sound()?.connecting;
    let until = Duration::from_secs_f64(connecting.connect_seconds) + SETTLE;
    let mut settled = readings.into_iter().filter(|(at, _)| *at >= until);
    let (_, after_ns) = settled.next().ok_or("the load generator ended too early")?;
    let connected = connecting.connected as f64;
    Ok(Cost {
        cpu_us: (after_ns? - before_ns) as f64 / connected / 1000.0,
        connects_per_s: connected / connecting.connect_seconds,
    })
}
