//! `idle`: connect, hold, and see what that costs and whether it lasts.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::args::IdleArgs;
use crate::broadcasts::{self, Broadcaster, Broadcasts};
use crate::clock::{now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::heartbeat::{Heartbeat, PingCount, cpu_between, timeouts_between};
use crate::interrupt::Interrupt;
use crate::kernel::{KernelCost, KernelMemory};
use crate::metrics_scrape::Snapshot;
use crate::process;
use crate::progress::Progress;
use crate::quiet::{Heard, QuietChannel};
use crate::report::{self, Connecting, Head, IdleReport, Observed, ServerMemory};
use crate::run::Run;
use crate::server_probe::ServerWatch;
use crate::setup::prepare;
use crate::worker::Tally;

/// Pings count from here on after the last connection was made: none is sent in a connection's first second.
/// From then on they are even, since each connection's first ping comes at a random moment of the interval.
const FIRST_PING: Duration = Duration::from_secs(1);

/// Runs the command; true if all connected, none was lost and every broadcast arrived.
pub fn run(args: &IdleArgs) -> Result<bool, Failure> {
    let run = Arc::new(plan(args).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let server = ServerWatch::begin(&run);
    let before = Memory::read(&run);
    let started_ns = now_ns();
    let crew = Crew::start(&run, &interrupt)?;
    let sampler = server.sample()?;
    crew.watch_connecting(args.common.quiet);
    let connect_seconds = seconds_between(started_ns, now_ns());
    let connected = server.read_again();
    let held_from_ns = now_ns();
    let quiet = start_quiet(&run, args)?;
    let calm = calm(&crew, &server, args);
    // At the end of the calm: what handshakes took for a moment is given back by now.
    let after = Memory::read(&run);
    let broadcaster = Broadcaster {
        run: &run,
        crew: &crew,
        server: &server,
        interrupt: &interrupt,
    };
    let broadcasts = broadcaster.run(args)?;
    let held_seconds = seconds_between(held_from_ns, now_ns());
    let quiet = quiet.map(QuietChannel::finish).transpose()?;
    let last = server.read_again();
    let observed = Observed::new(&run, sampler.finish());
    let totals = run.totals();
    let found = Found {
        held: totals.open(),
        tally: crew.finish().map_err(Failure::Run)?,
        totals,
        connect_seconds,
        held_seconds,
        calm,
        memory: (before, after),
        server: [server.first.clone(), connected, last],
        broadcasts,
        quiet,
        observed,
    };
    let mut report = build(&run, args, found);
    report.head.interrupted = interrupt.is_set();
    report::publish(&report, &args.common)?;
    Ok(report.head.ok)
}

fn plan(args: &IdleArgs) -> Result<Run, String> {
    args.common.centrifuge.check(args.channels)?;
    let mut run = prepare(&args.common, args.common.channel_url())?;
    run.transport = args.transport;
    match &mut run.centrifuge {
        Some(clients) => clients.channels = args.channels,
        None if args.channels > 1 => {
            return Err(
                "several channels of idle connections need --protocol centrifuge".to_owned(),
            );
        }
        None => {}
    }
    if args.broadcasts > 0 {
        if run.agents.is_some() {
            return Err("broadcasts are checked in this program; leave out --agents".to_owned());
        }
        broadcasts::check(args)?;
        run.broadcasts = Some(fastrand::u32(..));
    }
    Ok(run)
}

fn start_quiet(run: &Run, args: &IdleArgs) -> Result<Option<QuietChannel>, Failure> {
    let wanted = args.broadcast.quiet_channel;
    let api_key = args.broadcast.api_key.as_deref();
    wanted
        .then(|| QuietChannel::start(run, api_key))
        .transpose()
}

/// Memory that is not in the server's own figures.
#[derive(Debug)]
struct Memory {
    kernel: Option<KernelMemory>,
    /// Resident memory of this program.
    loadgen_bytes: Option<f64>,
}

impl Memory {
    fn read(run: &Run) -> Self {
        // Elsewhere the server's end is in another kernel.
        let kernel = if run.address.ip().is_loopback() {
            KernelMemory::read()
                .inspect_err(|error| eprintln!("longwire-loadgen: {error}"))
                .ok()
        } else {
            None
        };
        let own = process::read(&[std::process::id()]).ok();
        Self {
            kernel,
            loadgen_bytes: own.and_then(|own| own.total("process_resident_memory_bytes")),
        }
    }
}

/// The part of the hold in which nothing but the heartbeat goes on.
#[derive(Debug)]
struct Calm {
    pings: PingCount,
    seconds: f64,
    /// The server at both ends.
    server: [Option<Snapshot>; 2],
}

/// Holds, until it is time for the broadcasts.
fn calm(crew: &Crew, server: &ServerWatch, args: &IdleArgs) -> Calm {
    let quiet = args.common.quiet;
    let ends = args.broadcast.broadcast_interval * u32::from(args.broadcasts);
    let calm = args.hold.saturating_sub(ends);
    let mut progress = Progress::begin("holding", args.hold.as_secs(), quiet);
    let held_from_ns = now_ns();
    hold(
        crew,
        FIRST_PING.min(calm),
        &mut progress,
        held_from_ns,
        |_| (),
    );
    let first = server.read_again();
    let from_ns = now_ns();
    let mut pings = None;
    let rest = calm.saturating_sub(FIRST_PING);
    hold(crew, rest, &mut progress, held_from_ns, |totals| {
        pings
            .get_or_insert_with(|| PingCount::begin(from_ns, totals.pings))
            .look(now_ns(), totals.pings);
    });
    Calm {
        seconds: seconds_between(from_ns, now_ns()),
        pings: pings.unwrap_or_else(|| PingCount::begin(from_ns, 0)),
        server: [first, server.read_again()],
    }
}

fn hold(
    crew: &Crew,
    hold: Duration,
    progress: &mut Progress,
    held_from_ns: u64,
    mut look: impl FnMut(&Totals),
) {
    let started_ns = now_ns();
    crew.watch(|totals| {
        look(totals);
        let open = totals.open();
        let held_s = (now_ns() - held_from_ns) / 1_000_000_000;
        progress.show(held_s, || {
            format!(
                "s  {open} open, {} lost, {} pings answered",
                totals.lost, totals.pings
            )
        });
        Duration::from_nanos(now_ns() - started_ns) >= hold || open == 0
    });
}

/// How connecting went, for any command.
pub fn connecting(run: &Run, totals: &Totals, tally: &mut Tally, seconds: f64) -> Connecting {
    // Those made again are another matter.
    let connected = totals.connected - totals.returned;
    Connecting {
        threads: tally.threads,
        wanted: run.connections(),
        connected,
        failed: std::mem::take(&mut tally.failed),
        connect_seconds: seconds,
        connects_per_s: connected as f64 / seconds,
        connect_latency: tally.connect_latency.summary(),
        agents: std::mem::take(&mut tally.agents),
    }
}

/// All that a report is made of.
struct Found {
    totals: Totals,
    /// Connections open at the end.
    held: u64,
    tally: Tally,
    connect_seconds: f64,
    held_seconds: f64,
    calm: Calm,
    /// Before the first connection, and with all of them.
    memory: (Memory, Memory),
    /// The server before the first connection, with the last one, and at the end.
    server: [Option<Snapshot>; 3],
    broadcasts: Broadcasts,
    quiet: Option<Heard>,
    observed: Observed,
}

fn build(run: &Run, args: &IdleArgs, mut found: Found) -> IdleReport {
    let (totals, held) = (found.totals, found.held);
    let connecting = connecting(run, &totals, &mut found.tally, found.connect_seconds);
    let [first, connected, _] = &found.server;
    let heartbeat = heartbeat(run, args, &found);
    let per_connection =
        |after: Option<f64>, before: Option<f64>| Some((after? - before?) / held.max(1) as f64);
    let (before, after) = &found.memory;
    let kernel = before.kernel.as_ref().zip(after.kernel.as_ref());
    let of_calm = found.calm.server[1].as_ref();
    let is_sound = connecting.is_complete() && totals.lost == 0 && found.tally.positions.is_sound();
    let mut report = IdleReport {
        head: Head::new("idle", run, found.tally.agents_cpu_seconds, found.observed),
        connect_cpu_us: first
            .as_ref()
            .zip(connected.as_ref())
            .and_then(|(first, connected)| cpu_between(first, connected))
            .map(|cpu_seconds| cpu_seconds * 1e6 / connecting.connected.max(1) as f64),
        connecting,
        held_seconds: found.held_seconds,
        held,
        pings_answered: totals.pings,
        heartbeat,
        server: first
            .as_ref()
            .zip(of_calm)
            .and_then(|(before, after)| ServerMemory::between(before, after, held)),
        kernel: kernel.map(|(before, after)| KernelCost::between(before, after, held)),
        loadgen_rss_per_connection_bytes: per_connection(after.loadgen_bytes, before.loadgen_bytes),
        broadcasts: None,
        positions: run.centrifuge.is_some().then_some(found.tally.positions),
        lost: found.tally.lost,
    };
    report.head.ok = is_sound;
    if args.broadcasts > 0 {
        let tally = &found.tally.broadcasts;
        let busy = found.broadcasts.busy(tally);
        let quiet = found.quiet.map(|quiet| quiet.report(&busy));
        let broadcasts = found.broadcasts.report(args, tally, quiet);
        report.head.ok &= broadcasts.is_sound();
        report.broadcasts = Some(broadcasts);
    }
    report
}

fn heartbeat(run: &Run, args: &IdleArgs, found: &Found) -> Heartbeat {
    let expected_per_s = run.connections() as f64 / args.ping_interval;
    let [from, to] = &found.calm.server;
    let [first, _, last] = &found.server;
    let calm = &found.calm;
    let server = from.as_ref().zip(to.as_ref());
    Heartbeat {
        false_timeouts: first
            .as_ref()
            .zip(last.as_ref())
            .and_then(|(first, last)| timeouts_between(first, last)),
        ..Heartbeat::of(expected_per_s, &calm.pings, calm.seconds, server)
    }
}
