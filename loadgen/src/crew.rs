//! All threads of connections, seen from the main thread.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Failure;
use crate::agents;
use crate::counters::Totals;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::run::Run;
use crate::worker::{self, Tally};

/// How often the main thread looks at the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The running threads.
#[derive(Debug)]
pub struct Crew {
    run: Arc<Run>,
    threads: Vec<JoinHandle<Result<Tally, String>>>,
    interrupt: Interrupt,
}

impl Crew {
    /// Starts a thread per share; they begin to connect at once, or have agents do so.
    pub fn start(run: &Arc<Run>, interrupt: &Interrupt) -> Result<Self, Failure> {
        let threads = match &run.agents {
            Some(agents) => agents::start(run, agents)?,
            None => start_here(run)?,
        };
        Ok(Self {
            run: Arc::clone(run),
            threads,
            interrupt: interrupt.clone(),
        })
    }

    /// What they do.
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Looks at the counters until `done` says so. Ends early when interrupted, or when a thread gave up.
    pub fn watch(&self, mut done: impl FnMut(&Totals) -> bool) {
        while !done(&self.run.totals()) && !self.interrupt.is_set() && !self.has_ended() {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until every connection was made or failed.
    pub fn watch_connecting(&self, quiet: bool) {
        let wanted = self.run.connections();
        let mut progress = Progress::begin("connecting", wanted, quiet);
        self.watch(|totals| {
            progress.show(totals.connected, || format!("failed {}", totals.failed));
            totals.connected + totals.failed >= wanted
        });
    }

    /// Closes all connections and collects what the threads report.
    pub fn finish(self) -> Result<Tally, String> {
        self.run.stop();
        let mut all = Tally::default();
        for thread in self.threads {
            let panicked = |_| Err("a thread panicked".to_owned());
            all.merge(thread.join().unwrap_or_else(panicked)?);
        }
        Ok(all)
    }

    /// True once a thread gave up.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

fn start_here(run: &Arc<Run>) -> io::Result<Vec<JoinHandle<Result<Tally, String>>>> {
    let threads = (0..run.shares.len()).map(|thread| {
        let run = Arc::clone(run);
        let failed = move |error| format!("thread {thread}: {error}");
        std::thread::Builder::new()
            .name(format!("connections-{thread}"))
            .spawn(move || worker::run_thread(run, thread).map_err(failed))
    });
    threads.collect()
}
