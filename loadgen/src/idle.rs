//! `idle`: connect, hold, and see what that costs and whether it lasts.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::args::IdleArgs;
use crate::clock::{cpu_seconds, now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::report::{self, Connecting, IdleReport, Observed, ServerMemory};
use crate::run::Run;
use crate::server_probe::ServerWatch;
use crate::setup::prepare;
use crate::worker::Tally;

/// Runs the command; true if all connected and none was lost.
pub fn run(args: &IdleArgs) -> Result<bool, Failure> {
    let quiet = args.common.quiet;
    let run = Arc::new(prepare(&args.common, args.common.channel_url()).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let server = ServerWatch::begin(&run);
    let mut timing = Timing {
        started_ns: now_ns(),
        ..Timing::default()
    };
    let crew = Crew::start(&run, &interrupt)?;
    let sampler = server.sample()?;
    crew.watch_connecting(quiet);
    timing.connected_ns = now_ns();
    hold(&crew, args.hold, quiet);
    timing.ended_ns = now_ns();
    // At the end of the hold: what handshakes took for a moment is given back by now.
    let after = server.read_again();
    let observed = Observed::new(&run, sampler.finish());
    let totals = run.totals();
    let tally = crew.finish().map_err(Failure::Run)?;
    let held = totals.open();
    let mut report = build(&run, &timing, &totals, tally, observed);
    report.server = server
        .first
        .zip(after)
        .and_then(|(before, after)| ServerMemory::between(&before, &after, held));
    report.interrupted = interrupt.is_set();
    report::publish(&report, &args.common)?;
    Ok(report.ok)
}

/// When the phases ended, in CLOCK_MONOTONIC nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    started_ns: u64,
    connected_ns: u64,
    ended_ns: u64,
}

fn hold(crew: &Crew, hold: Duration, quiet: bool) {
    let started_ns = now_ns();
    let mut progress = Progress::begin("holding", hold.as_secs(), quiet);
    crew.watch(|totals| {
        let held = Duration::from_nanos(now_ns() - started_ns);
        let open = totals.open();
        progress.show(held.as_secs(), || {
            format!(
                "s  {open} open, {} lost, {} pings answered",
                totals.lost, totals.pings
            )
        });
        held >= hold || open == 0
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

fn build(
    run: &Run,
    timing: &Timing,
    totals: &Totals,
    mut tally: Tally,
    observed: Observed,
) -> IdleReport {
    let connect_seconds = seconds_between(timing.started_ns, timing.connected_ns);
    let connecting = connecting(run, totals, &mut tally, connect_seconds);
    IdleReport {
        ok: connecting.is_complete() && totals.lost == 0,
        interrupted: false,
        url: run.target.to_string(),
        connecting,
        held_seconds: seconds_between(timing.connected_ns, timing.ended_ns),
        lost: tally.lost,
        pings_answered: totals.pings,
        server: None,
        loadgen_cpu_seconds: cpu_seconds() + tally.agents_cpu_seconds,
        observed,
    }
}
