//! `storm`: cut many connections at once, and see how they come back and what the others notice.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::args::StormArgs;
use crate::clock::{now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::idle::connecting;
use crate::interrupt::Interrupt;
use crate::metrics_scrape::Snapshot;
use crate::progress::Progress;
use crate::publications::{Publications, Published};
use crate::report::{self, Connecting, Head, Observed, ReturnWork, Returning, StormReport};
use crate::run::{Departures, Run};
use crate::server_probe::ServerWatch;
use crate::stayers;
use crate::worker::Tally;

/// The cut comes a little in the future, so that all threads cut together.
const CUT_DELAY_NS: u64 = 50_000_000;
/// Longest wait until the server has noticed that connections are gone.
const GONE_PATIENCE_NS: u64 = 10_000_000_000;
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
    let storm = Storm {
        run: &run,
        crew: &crew,
        server: &server,
        args,
    };
    let (passed, published) = storm.pass(publications)?;
    let observed = Observed::new(&run, sampler.finish());
    let totals = run.totals();
    let mut tally = crew.finish().map_err(Failure::Run)?;
    let connecting = connecting(&run, &totals, &mut tally, connect_seconds);
    let found = Found {
        passed,
        published,
        observed,
        totals,
        tally,
        connecting,
    };
    let report = build(&run, args, found).judged(interrupt.is_set());
    report::publish(&report, &args.common)?;
    Ok(report.head.ok)
}

/// All that a report is made of.
struct Found {
    passed: Passed,
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
    match &mut run.centrifuge {
        Some(clients) => clients.recover = args.recover,
        None if args.recover => return Err("--recover needs --protocol centrifuge".to_owned()),
        None => {}
    }
    if args.missed.is_some() {
        run.hold_returns();
    }
    Ok(run)
}

/// How the storm passed.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// Until all were back, from the cut or from when they were let back; `None` if they were not.
    all_back_seconds: Option<f64>,
    /// What that cost the server; `None` if it did not say.
    return_work: Option<ReturnWork>,
}

/// What goes through a storm.
struct Storm<'a> {
    run: &'a Arc<Run>,
    crew: &'a Crew,
    server: &'a ServerWatch,
    args: &'a StormArgs,
}

impl Storm<'_> {
    /// Calm, storm, calm; stops publishing behind it.
    fn pass(&self, publications: Publications) -> Result<(Passed, Published), Failure> {
        let Self { run, crew, .. } = self;
        let quiet = self.args.common.quiet;
        // Without all of them there is no storm worth its name; the report says what failed.
        if run.totals().connected < run.connections() {
            return Ok((Passed::default(), stayers::settle(publications, crew)?));
        }
        calm(crew, self.args.calm, quiet);
        match self.args.missed {
            None => {
                let before = self.server.read_again();
                let passed = self.wait_until_back(self.cut(), before);
                calm(crew, self.args.calm, quiet);
                Ok((passed, stayers::settle(publications, crew)?))
            }
            Some(missed) => {
                let mut published = stayers::settle(publications, crew)?;
                self.cut();
                self.wait_until_gone();
                let more = stayers::publish_missed(run, crew, &self.args.stayers, missed)?;
                published.merge(more);
                let before = self.server.read_again();
                let released_ns = now_ns();
                run.release_returns(released_ns);
                let passed = self.wait_until_back(released_ns, before);
                calm(crew, self.args.calm, quiet);
                Ok((passed, published))
            }
        }
    }

    /// Cuts; returns when.
    fn cut(&self) -> u64 {
        let cut_ns = now_ns() + CUT_DELAY_NS;
        self.run.begin(cut_ns, u64::MAX);
        cut_ns
    }

    /// Connections that are cut.
    fn wanted(&self) -> u64 {
        Departures::chosen(self.args.common.connections as usize, self.args.share)
    }

    /// Waits until the server, too, has noticed what was cut.
    fn wait_until_gone(&self) {
        let left = (self.run.connections() - self.wanted()) as f64;
        let give_up_ns = now_ns() + GONE_PATIENCE_NS;
        self.crew.watch(|totals| {
            let open = || self.server.read_again()?.total("longwire_connections");
            // The one that asks is a connection too.
            let has_noticed = || open().is_none_or(|open| open <= left + 1.0);
            (totals.replaced >= self.wanted() && has_noticed()) || now_ns() >= give_up_ns
        });
    }

    /// Waits until all are back that went.
    fn wait_until_back(&self, from_ns: u64, before: Option<Snapshot>) -> Passed {
        let wanted = self.wanted();
        let give_up_ns = from_ns + self.args.give_up.as_nanos() as u64;
        let mut progress = Progress::begin("coming back", wanted, self.args.common.quiet);
        let mut back_ns = None;
        self.crew.watch(|totals| {
            progress.show(totals.returned, || {
                format!("refused {}, lost {}", totals.refused, totals.lost)
            });
            if totals.returned >= wanted {
                back_ns = Some(now_ns());
            }
            back_ns.is_some() || now_ns() >= give_up_ns
        });
        let after = self.server.read_again();
        let back = self.run.totals().returned;
        Passed {
            all_back_seconds: back_ns.map(|back_ns| seconds_between(from_ns, back_ns)),
            return_work: before
                .zip(after)
                .and_then(|(before, after)| ReturnWork::between(&before, &after, back)),
        }
    }
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
        head: Head::new("storm", run, tally.agents_cpu_seconds, found.observed),
        connecting: found.connecting,
        share: args.share,
        cut: totals.replaced,
        back: totals.returned,
        all_back_seconds: found.passed.all_back_seconds,
        missed: args.missed,
        return_work: found.passed.return_work,
        positions: run.centrifuge.is_some().then_some(tally.positions),
        away: tally.away.summary(),
        reconnects: tally.away.over_time(CURVE_POINTS),
        stayers: stayers::report(&published, &tally),
        returning: Returning {
            reconnect_latency: tally.reconnect_latency.summary(),
            refusals: tally.refused,
            lost: tally.lost,
        },
    }
}
