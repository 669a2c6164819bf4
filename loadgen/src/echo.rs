//! `echo`: send to an echo, check that everything comes back as it was, and time it.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::args::EchoArgs;
use crate::clock::{now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::fanout::per_second;
use crate::idle::connecting;
use crate::interrupt::Interrupt;
use crate::metrics_scrape::Snapshot;
use crate::progress::Progress;
use crate::report::{self, EchoReport, Head, MessageCost, Observed};
use crate::run::{Echo, Run};
use crate::server_probe::ServerWatch;
use crate::setup::prepare;
use crate::worker::Tally;

/// Sending starts a little in the future, so that all threads start together.
const START_DELAY_NS: u64 = 50_000_000;

/// Runs the command; true if everything came back.
pub fn run(args: &EchoArgs) -> Result<bool, Failure> {
    let run = Arc::new(plan(args).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let mut server = ServerWatch::begin(&run);
    let started_ns = now_ns();
    let crew = Crew::start(&run, &interrupt)?;
    let sampler = server.sample()?;
    crew.watch_connecting(args.common.quiet);
    let connect_seconds = seconds_between(started_ns, now_ns());
    server.first = server.read_again();
    let start_ns = exchange(&run, &crew, args);
    let after = server.read_again();
    let observed = Observed::new(&run, sampler.finish());
    let totals = run.totals();
    let tally = crew.finish().map_err(Failure::Run)?;
    let mut report = build(
        &run,
        args,
        (&totals, tally, observed),
        connect_seconds,
        start_ns,
    );
    report.server = cost(server.first, after, totals.messages);
    report.head.interrupted = interrupt.is_set();
    report::publish(&report, &args.common)?;
    Ok(report.head.ok)
}

fn cost(before: Option<Snapshot>, after: Option<Snapshot>, messages: u64) -> Option<MessageCost> {
    let (before, after) = before.zip(after)?;
    MessageCost::between(&before, &after, messages)
}

fn plan(args: &EchoArgs) -> Result<Run, String> {
    args.common.refuse_centrifuge()?;
    let mut run = prepare(&args.common, args.common.echo_url())?;
    run.echo = Some(Echo {
        size_bytes: args.size as usize,
        in_flight: args.in_flight as usize,
        rate: args.rate,
        connections: u64::from(args.common.connections),
    });
    Ok(run)
}

/// Lets all connections send for as long as asked, then waits for what is under way. Returns the start.
fn exchange(run: &Run, crew: &Crew, args: &EchoArgs) -> u64 {
    let start_ns = now_ns() + START_DELAY_NS;
    let end_ns = start_ns + args.duration.as_nanos() as u64;
    run.begin(start_ns, end_ns);
    let mut progress = Progress::begin("echoing", args.duration.as_secs(), args.common.quiet);
    crew.watch(|totals| {
        let passed = Duration::from_nanos(now_ns().saturating_sub(start_ns));
        progress.show(passed.as_secs(), || {
            let Totals { messages, lost, .. } = totals;
            format!("s  {messages} echoed, {lost} connections lost")
        });
        now_ns() >= end_ns || totals.open() == 0
    });
    run.end_at(now_ns());
    settle(crew, args);
    start_ns
}

fn settle(crew: &Crew, args: &EchoArgs) {
    let patience_ns = u64::from(args.settle_ms) * 1_000_000;
    let mut latest = (0, now_ns());
    crew.watch(|totals| {
        if totals.messages != latest.0 {
            latest = (totals.messages, now_ns());
        }
        totals.messages >= totals.sent || now_ns() - latest.1 >= patience_ns
    });
}

fn build(
    run: &Run,
    args: &EchoArgs,
    (totals, mut tally, observed): (&Totals, Tally, Observed),
    connect_seconds: f64,
    start_ns: u64,
) -> EchoReport {
    let connecting = connecting(run, totals, &mut tally, connect_seconds);
    let seconds = seconds_between(start_ns, totals.last_message_ns);
    let missing = totals.sent.saturating_sub(totals.messages);
    let mut head = Head::new("echo", run, tally.agents_cpu_seconds, observed);
    head.ok = connecting.is_complete() && missing == 0 && tally.lost.total() == 0;
    EchoReport {
        head,
        connecting,
        size_bytes: args.size as usize,
        in_flight: args.in_flight,
        wanted_rate_per_s: args.rate,
        seconds,
        sent: totals.sent,
        echoed: totals.messages,
        echoed_per_s: per_second(totals.messages, seconds),
        missing,
        echo_latency: tally.delivery_latency.summary(),
        lost: tally.lost,
        pings_answered: totals.pings,
        server: None,
    }
}
