//! `storm`: cut many connections at once, and see how they come back and what the others notice.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::args::StormArgs;
use crate::clock::{cpu_seconds, now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::idle::connecting;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::publications::Published;
use crate::report::{self, Connecting, Observed, StormReport};
use crate::run::{Departures, Run};
use crate::server_probe::ServerWatch;
use crate::stayers;
use crate::worker::Tally;

/// The cut comes a little in the future, so that all threads cut together.
const CUT_DELAY_NS: u64 = 50_000_000;
/// Points of the curve of connects over time.
const CURVE_POINTS: u32 = 120;

/// Runs the command; true if all came back and nothing happened to those that stayed.
pub fn run(args: &StormArgs) -> Result<bool, Failure> {
    let run = Arc::new(plan(args).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let server = ServerWatch::begin(&run);
    let started_ns = now_ns();
    let crew = Crew::start(&run, &interrupt)?;
    let sampler = server.sample()?;
    crew.watch_connecting(args.common.quiet);
    let connect_seconds = seconds_between(started_ns, now_ns());
    let publications = stayers::publish(&run, &args.stayers)?;
    let all_back_seconds = pass(&run, &crew, args);
    let published = stayers::settle(publications, &crew)?;
    let observed = Observed::new(&run, sampler.finish());
    let totals = run.totals();
    let mut tally = crew.finish().map_err(Failure::Run)?;
    let connecting = connecting(&run, &totals, &mut tally, connect_seconds);
    let found = Found {
        all_back_seconds,
        published,
        observed,
        totals,
        tally,
        connecting,
    };
    let report = build(&run, args, found).judged(interrupt.is_set());
    report::publish(&report, &args.common)?;
    Ok(report.ok)
}

/// All that a report is made of.
struct Found {
    all_back_seconds: Option<f64>,
    published: Published,
    observed: Observed,
    totals: Totals,
    tally: Tally,
    connecting: Connecting,
}

fn plan(args: &StormArgs) -> Result<Run, String> {
    let mut run = stayers::plan(&args.common, &args.stayers)?;
    run.departures = Some(Departures::AtOnce { share: args.share });
    run.backoff = args.backoff.backoff(false);
    Ok(run)
}

/// Calm, storm, calm. Returns how long it took until all were back; `None` if they were not.
fn pass(run: &Run, crew: &Crew, args: &StormArgs) -> Option<f64> {
    let quiet = args.common.quiet;
    // Without all of them there is no storm worth its name; the report says what failed.
    if run.totals().connected < run.connections() {
        return None;
    }
    calm(crew, args.calm, quiet);
    let cut_ns = now_ns() + CUT_DELAY_NS;
    run.begin(cut_ns, u64::MAX);
    let wanted = Departures::chosen(args.common.connections as usize, args.share);
    let give_up_ns = cut_ns + args.give_up.as_nanos() as u64;
    let mut progress = Progress::begin("coming back", wanted, quiet);
    let mut back_ns = None;
    crew.watch(|totals| {
        progress.show(totals.returned, || {
            format!("refused {}, lost {}", totals.refused, totals.lost)
        });
        if totals.returned >= wanted {
            back_ns = Some(now_ns());
        }
        back_ns.is_some() || now_ns() >= give_up_ns
    });
    drop(progress);
    calm(crew, args.calm, quiet);
    back_ns.map(|back_ns| seconds_between(cut_ns, back_ns))
}

fn calm(crew: &Crew, calm: Duration, quiet: bool) {
    let started_ns = now_ns();
    let mut progress = Progress::begin("calm", calm.as_secs(), quiet);
    crew.watch(|totals| {
        let passed = Duration::from_nanos(now_ns() - started_ns);
        progress.show(passed.as_secs(), || {
            format!("s  {} open, {} delivered", totals.open(), totals.messages)
        });
        passed >= calm
    });
}

fn build(run: &Run, args: &StormArgs, found: Found) -> StormReport {
    let Found {
        totals,
        tally,
        published,
        ..
    } = found;
    StormReport {
        ok: false,
        interrupted: false,
        url: run.target.to_string(),
        connecting: found.connecting,
        share: args.share,
        cut: totals.replaced,
        back: totals.returned,
        all_back_seconds: found.all_back_seconds,
        away: tally.away.summary(),
        reconnect_latency: tally.reconnect_latency.summary(),
        reconnects: tally.away.over_time(CURVE_POINTS),
        stayers: stayers::report(&published, &tally),
        refusals: tally.refused,
        lost: tally.lost,
        loadgen_cpu_seconds: cpu_seconds() + tally.agents_cpu_seconds,
        observed: found.observed,
    }
}
