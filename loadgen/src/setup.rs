//! From the command line to a run that can start.

use std::net::{SocketAddr, ToSocketAddrs};

use longwire::net;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::agents::{Agents, Assignment};
use crate::args::CommonArgs;
use crate::centrifuge::Centrifuge;
use crate::local::LocalAddresses;
use crate::plan::Host;
use crate::rival::Rival;
use crate::run::Run;
use crate::target::Target;

/// The kernel's default range of local ports, should it not say.
const LOCAL_PORTS_DEFAULT: (u16, u16) = (32_768, 60_999);

/// Plans a run, or says why it is impossible. What agents do they plan themselves.
pub fn prepare(args: &CommonArgs, target: Target) -> Result<Run, String> {
    let whole = Assignment::whole(args, &target);
    let mut run = if args.hosts.agents.is_empty() {
        whole.plan()?
    } else {
        delegate(args, target, whole)?
    };
    run.server_processes.clone_from(&args.server_pid);
    Ok(run)
}

/// A run that agents make the connections of.
fn delegate(args: &CommonArgs, target: Target, whole: Assignment) -> Result<Run, String> {
    let addresses = args.hosts.agents.clone();
    let (share, count) = (whole.share(), addresses.len());
    if share.connections < count {
        let connections = share.connections;
        return Err(format!(
            "{connections} connections are too few for {count} agents"
        ));
    }
    let address = resolve(&target)?;
    let local = LocalAddresses::new(Vec::new(), LOCAL_PORTS_DEFAULT, share, 0);
    let mut run = Run::new(target, address, local, share.split(count));
    run.rival = Rival::of(&args.rival);
    run.centrifuge = Centrifuge::of(&args.centrifuge);
    run.agents = Some(Agents {
        addresses,
        token: args.hosts.token.clone(),
        whole,
    });
    Ok(run)
}

/// Restricts the calling thread, and every thread it starts from now on.
pub fn keep_to_cores(cores: &[usize]) -> Result<(), String> {
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

/// What this host allows.
pub fn host() -> Host {
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
