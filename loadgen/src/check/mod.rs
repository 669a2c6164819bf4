//! `check`: disturb clients and server in every way at once, record everything, and see whether anybody was
//! lied to.
//!
//! Subscribers ([`clients`]) and publishers ([`publishers`]) write [`records`]; what is done to them and to the
//! server ([`server`]) comes from a seed ([`disturbances`]); what is wrong with the records is said by
//! [`verdict`], which knows nothing else.

mod clients;
mod disturbances;
mod publishers;
mod records;
mod server;
mod verdict;

pub use disturbances::Counts;
pub use verdict::Verdict;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Failure;
use crate::args::CheckArgs;
use crate::backoff::Backoff;
use crate::clock::{now_ns, seconds_between};
use crate::interrupt::Interrupt;
use crate::pace::Schedule;
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::progress::Progress;
use crate::report::{self, CheckReport, Head, Observed};
use crate::run::{Check, Run};
use crate::sampler::Sampler;
use crate::setup::prepare;

use clients::{Control, Order};
use disturbances::{Disturbance, schedule};
use publishers::Publishing;
use records::{Epochs, Published, Records, SubscriberLog};
use server::Server;

/// How often the main thread looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Publishing goes on for so long when everybody is back: what they get then shows that they are.
const LAST_PUBLISHING: Duration = Duration::from_secs(1);
/// So long without a delivery, and no more are awaited.
const QUIET_NS: u64 = 1_500_000_000;

/// Runs the command; true if nothing is wrong.
pub fn run(args: &CheckArgs) -> Result<bool, Failure> {
    let run = Arc::new(plan(args).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("longwire-loadgen: seed {seed}");
    let server = args.server_command.as_deref();
    let server = server.map(|command| Server::start(command, run.address));
    let mut conductor = Conductor {
        args,
        server: server.transpose()?,
        cast: Cast::start(&run, args, seed)?,
        run: Arc::clone(&run),
        interrupt,
        all_read_ns: 0,
        done: Counts::default(),
    };
    let sampler = Sampler::start(&run, None)?;
    let started_ns = now_ns();
    let conducted = conductor.conduct(seed);
    let Conductor {
        cast,
        interrupt,
        done,
        server,
        ..
    } = conductor;
    let records = cast.finish()?;
    drop(server);
    conducted?;
    let totals = run.totals();
    let verdict = verdict::judge(&records);
    let observed = Observed::new(&run, sampler.finish());
    let mut head = Head::new("check", &run, 0.0, observed);
    head.interrupted = interrupt.is_set();
    head.ok = verdict.is_sound() && !head.interrupted;
    let report = CheckReport {
        head,
        seed,
        subscribers: run.connections(),
        channels: args.channels,
        seconds: seconds_between(started_ns, now_ns()),
        client_kills: done.client_kills,
        slow_readers: done.slow_readers,
        storms: done.storms,
        server_kills: done.server_kills,
        freezes: done.freezes,
        core_holds: done.core_holds,
        connects: totals.connected,
        refused: totals.refused,
        verdict,
    };
    report::publish(&report, &args.common)?;
    Ok(report.head.ok)
}

fn plan(args: &CheckArgs) -> Result<Run, String> {
    let common = &args.common;
    if common.rival.rival || !common.hosts.agents.is_empty() {
        return Err("a check is of this server, from this host".to_owned());
    }
    if common.centrifuge.subscriptions > 1 {
        return Err("a check has one subscription per connection".to_owned());
    }
    if args.size < PAYLOAD_BYTES_MIN {
        return Err(format!(
            "--size {}: it takes {PAYLOAD_BYTES_MIN} bytes",
            args.size
        ));
    }
    if args.channels > 1 && !common.names_channel() {
        return Err("several channels need a URL with {channel} in it".to_owned());
    }
    if args.server_command.is_none() && args.server_kills + args.freezes > 0 {
        return Err("to kill or freeze a server takes --server-command to start it".to_owned());
    }
    let mut run = prepare(common, common.channel_url())?;
    run.check = Some(Check {
        run: fastrand::u32(..),
        channels: args.channels,
        publishers: args.publishers.into(),
    });
    if let Some(clients) = &mut run.centrifuge {
        clients.recover = true;
    }
    run.backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(2),
        starts_at_once: false,
    };
    Ok(run)
}

/// A thread of clients, which gives what they heard.
type ClientThread = JoinHandle<Result<Vec<SubscriberLog>, String>>;

/// The threads of a check.
struct Cast {
    clients: Vec<(Arc<Control>, ClientThread)>,
    publishing: Arc<Publishing>,
    publishers: Vec<JoinHandle<Result<Vec<Published>, String>>>,
}

impl Cast {
    /// Starts subscribers, and publishers behind them.
    fn start(run: &Arc<Run>, args: &CheckArgs, seed: u64) -> Result<Self, Failure> {
        let epochs = Arc::new(Mutex::new(Epochs::default()));
        let clients = (0..run.shares.len()).map(|thread| {
            let control = Arc::new(Control::default());
            let (run, epochs) = (Arc::clone(run), Arc::clone(&epochs));
            let given = Arc::clone(&control);
            let spawned = std::thread::Builder::new()
                .name(format!("subscribers-{thread}"))
                .spawn(move || clients::run_thread(run, thread, given, epochs));
            spawned.map(|spawned| (control, spawned))
        });
        let clients = clients.collect::<Result<_, _>>()?;
        let key = args.api_key.as_deref();
        let key = key.map_or(String::new(), |key| format!("X-API-Key: {key}\r\n"));
        let publishing = Arc::new(Publishing {
            run: Arc::clone(run),
            epochs,
            seed,
            size_bytes: args.size,
            headers: format!("Content-Type: text/plain\r\n{key}"),
            schedule: Schedule {
                start_ns: now_ns(),
                rate: args.rate,
                lanes: u64::from(args.publishers),
            },
            stop: AtomicBool::new(false),
        });
        let publishers = (0..args.publishers).map(|number| {
            let publishing = Arc::clone(&publishing);
            std::thread::Builder::new()
                .name(format!("publisher-{number}"))
                .spawn(move || publishers::publish(&publishing, number))
        });
        let publishers = publishers.collect::<Result<_, _>>()?;
        Ok(Self {
            clients,
            publishing,
            publishers,
        })
    }

    /// Gives an order about the subscriber of this number.
    fn give(&self, run: &Run, number: usize, order: impl Fn(usize) -> Order) {
        let mut owners = run.shares.iter().zip(&self.clients);
        let owner = owners.find(|(share, _)| number < share.first + share.connections);
        if let Some((share, (control, _))) = owner {
            control.give(order(number - share.first));
        }
    }

    fn has_ended(&self) -> bool {
        self.clients.iter().any(|(_, thread)| thread.is_finished())
            || self.publishers.iter().any(JoinHandle::is_finished)
    }

    /// Ends all threads and collects what they recorded.
    fn finish(self) -> Result<Records, Failure> {
        self.publishing.stop.store(true, Ordering::Relaxed);
        for (control, _) in &self.clients {
            control.stop();
        }
        let mut records = Records::default();
        for publisher in self.publishers {
            records.published.extend(joined(publisher)?);
        }
        for (_, thread) in self.clients {
            records.subscribers.extend(joined(thread)?);
        }
        Ok(records)
    }
}

fn joined<T>(thread: JoinHandle<Result<T, String>>) -> Result<T, Failure> {
    let panicked = |_| Err("a thread panicked".to_owned());
    thread.join().unwrap_or_else(panicked).map_err(Failure::Run)
}

/// Does what is to be done, when it is due.
struct Conductor<'a> {
    args: &'a CheckArgs,
    run: Arc<Run>,
    server: Option<Server>,
    cast: Cast,
    interrupt: Interrupt,
    /// When the last paused reader reads again.
    all_read_ns: u64,
    done: Counts,
}

impl Conductor<'_> {
    fn conduct(&mut self, seed: u64) -> Result<(), Failure> {
        let patience = self.args.settle;
        let all = self.run.connections();
        self.watch("connecting", patience, |conductor| {
            conductor.run.totals().open() >= all
        });
        let counts = self.args.counts();
        let duration_ms = self.args.duration.as_millis() as u64;
        let due = schedule(seed, &counts, all as usize, duration_ms.max(1));
        let started_ns = now_ns();
        let mut progress = Progress::begin("disturbing", due.len() as u64, self.args.common.quiet);
        for (n, (due_ms, disturbance)) in (0..).zip(due) {
            progress.show(n, || format!("{} delivered", self.run.totals().messages));
            self.sleep_until(started_ns + due_ms * 1_000_000);
            if self.is_over() {
                return Ok(());
            }
            self.disturb(disturbance)?;
        }
        self.sleep_until(started_ns + duration_ms * 1_000_000);
        drop(progress);
        self.settle();
        Ok(())
    }

    fn disturb(&mut self, disturbance: Disturbance) -> Result<(), Failure> {
        let Self {
            run, cast, done, ..
        } = self;
        match (disturbance, &mut self.server) {
            (Disturbance::KillClient(who), _) => {
                cast.give(run, who, Order::Kill);
                done.client_kills += 1;
            }
            (Disturbance::PauseReader(who), _) => {
                let pause = Duration::from_millis(self.args.slow_ms.into());
                cast.give(run, who, |number| Order::Pause(number, pause));
                self.all_read_ns = now_ns() + pause.as_nanos() as u64;
                done.slow_readers += 1;
            }
            (Disturbance::Storm, _) => {
                for (control, _) in &cast.clients {
                    control.give(Order::KillAll);
                }
                done.storms += 1;
            }
            (Disturbance::KillServer, Some(server)) => {
                server.restart()?;
                done.server_kills += 1;
            }
            (Disturbance::FreezeServer, Some(server)) => {
                server.freeze(Duration::from_millis(self.args.freeze_ms.into()))?;
                done.freezes += 1;
            }
            (Disturbance::HoldCore, _) => {
                server::hold_core(run, Duration::from_millis(self.args.hold_ms.into()))?;
                done.core_holds += 1;
            }
            (Disturbance::KillServer | Disturbance::FreezeServer, None) => {}
        }
        Ok(())
    }

    /// Waits until all are back, and have got everything.
    fn settle(&mut self) {
        self.sleep_until(self.all_read_ns);
        let patience = self.args.settle;
        let all = self.run.connections();
        self.watch("settling", patience, |conductor| {
            conductor.run.totals().open() >= all
        });
        self.sleep_until(now_ns() + LAST_PUBLISHING.as_nanos() as u64);
        self.cast.publishing.stop.store(true, Ordering::Relaxed);
        let mut latest = (0, now_ns());
        self.watch("settling", patience, |conductor| {
            let totals = conductor.run.totals();
            if totals.messages != latest.0 {
                latest = (totals.messages, now_ns());
            }
            totals.open() >= all && now_ns() - latest.1 >= QUIET_NS
        });
    }

    fn watch(&self, what: &'static str, patience: Duration, mut done: impl FnMut(&Self) -> bool) {
        let give_up_ns = now_ns() + patience.as_nanos() as u64;
        let all = self.run.connections();
        let mut progress = Progress::begin(what, all, self.args.common.quiet);
        while !done(self) && !self.interrupt.is_set() && now_ns() < give_up_ns {
            progress.show(self.run.totals().open(), String::new);
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn is_over(&self) -> bool {
        self.interrupt.is_set() || self.cast.has_ended()
    }

    fn sleep_until(&self, due_ns: u64) {
        while !self.is_over() {
            let left = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK_INTERVAL));
        }
    }
}
