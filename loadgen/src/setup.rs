//! From the command line to a run that can start.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use longwire::net;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::args::CommonArgs;
use crate::clock::now_ns;
use crate::local::LocalAddresses;
use crate::pace::Schedule;
use crate::plan::{Host, Plan, Wanted};
use crate::rival::Rival;
use crate::run::Run;
use crate::target::Target;

/// The kernel's default range of local ports, should it not say.
const LOCAL_PORTS_DEFAULT: (u16, u16) = (32_768, 60_999);

/// Plans a run, or says why it is impossible.
pub fn prepare(args: &CommonArgs, target: Target) -> Result<Run, String> {
    if let Some(cores) = &args.cores {
        keep_to_cores(&cores.0)?;
    }
    let address = resolve(&target)?;
    let plan = Plan::new(&wanted(args, address), &host())?;
    let connections = args.connections as usize;
    let offset = fastrand::usize(..);
    let local = LocalAddresses::new(plan.sources, plan.local_ports, connections, offset);
    let lanes = plan.shares.len() as u64;
    let mut run = Run::new(target, address, local, plan.shares);
    run.connect_timeout = Duration::from_millis(u64::from(args.connect_timeout_ms));
    run.connect_schedule = args.connect_rate.map(|rate| Schedule {
        start_ns: now_ns(),
        rate,
        lanes,
    });
    run.pin = args.pin;
    run.server_processes = args.server_pid.clone();
    run.rival = Rival::of(&args.rival);
    Ok(run)
}

fn wanted(args: &CommonArgs, target: SocketAddr) -> Wanted<'_> {
    Wanted {
        target,
        connections: args.connections as usize,
        threads: args.threads.map(|threads| threads as usize),
        sources: args.sources(),
        connect_in_flight: args.connect_in_flight as usize,
    }
}

/// Restricts the calling thread, and every thread it starts from now on.
fn keep_to_cores(cores: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).map_err(|error| format!("cannot run on cores {cores:?}: {error}"))
}

/// The first address of a host.
pub fn resolve(target: &Target) -> Result<SocketAddr, String> {
    let host = target.host_name();
    let mut addresses = (host, target.port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot resolve {host}: {error}"))?;
    addresses
        .next()
        .ok_or_else(|| format!("{host} has no address"))
}

fn host() -> Host {
    Host {
        files: usize::try_from(net::raise_file_limit()).unwrap_or(usize::MAX),
        local_ports: local_ports().unwrap_or(LOCAL_PORTS_DEFAULT),
    }
}

fn local_ports() -> Option<(u16, u16)> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_ascii_whitespace().map(str::parse::<u16>);
    let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
    (low <= high).then_some((low, high))
}
