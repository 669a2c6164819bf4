//! The controller's side: a thread for each agent keeps its counters up to date and fetches its tally.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Failure;
use crate::clock::now_ns;
use crate::counters::Totals;
use crate::machine::Machine;
use crate::report::AgentFigures;
use crate::run::Run;
use crate::worker::{Alike, Tally};

use super::clocks::boot;
use super::wire::{Answer, Found, MESSAGE_BYTES_MAX, PROTOCOL, Request, SILENCE_MAX, Wire};
use super::{Assignment, ClockOffset};

/// Longest wait for an agent to take the connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Closing very many connections takes its time.
const FINISH_TIMEOUT: Duration = Duration::from_secs(180);
/// How often an agent is asked for its figures.
const STATUS_INTERVAL: Duration = Duration::from_millis(20);
/// Round trips to compare clocks with; the fastest one counts.
const CLOCK_ROUND_TRIPS: u32 = 32;

/// The hosts of a run.
#[derive(Clone, Debug)]
pub struct Agents {
    /// Where they listen.
    pub addresses: Vec<String>,
    /// The secret they want to hear.
    pub token: Option<String>,
    /// What they do together.
    pub whole: Assignment,
}

/// A running conversation; ends with what the agent found.
pub type Talk = JoinHandle<Result<Tally, String>>;

/// Has every agent plan its share, and then all begin at the same time.
pub fn start(run: &Arc<Run>, agents: &Agents) -> Result<Vec<Talk>, Failure> {
    let mut conversations = Vec::new();
    for (address, share) in agents.addresses.iter().zip(&run.shares) {
        let mut conversation = Conversation::open(address, agents.token.as_deref())?;
        let assignment = agents.whole.part(run, *share, conversation.clock);
        conversation.prepare(assignment)?;
        conversations.push(conversation);
    }
    let talks = conversations
        .into_iter()
        .enumerate()
        .map(|(number, conversation)| {
            let run = Arc::clone(run);
            std::thread::Builder::new()
                .name(format!("agent-{number}"))
                .spawn(move || conversation.lead(&run, number))
        });
    Ok(talks.collect::<Result<_, _>>()?)
}

struct Conversation {
    name: String,
    wire: Wire,
    machine: Machine,
    /// The agent's, compared with the one of this host.
    clock: ClockOffset,
}

/// From when to when connections do what they are for.
type Span = (u64, u64);

impl Conversation {
    fn open(name: &str, token: Option<&str>) -> Result<Self, Failure> {
        let failed = |reason: String| Failure::Run(format!("agent {name}: {reason}"));
        let address = resolve(name).map_err(failed)?;
        let wire = Wire::open(address, OPEN_TIMEOUT).map_err(|error| failed(error.to_string()))?;
        let mut conversation = Self {
            name: name.to_owned(),
            wire,
            machine: Machine::default(),
            clock: ClockOffset::default(),
        };
        conversation.greet(token).map_err(failed)?;
        Ok(conversation)
    }

    fn greet(&mut self, token: Option<&str>) -> Result<(), String> {
        let greeting = Request::Greet {
            protocol: PROTOCOL,
            token: token.map(str::to_owned),
        };
        let Answer::Welcome {
            machine,
            boot: theirs,
        } = self.ask(&greeting)?
        else {
            return Err(STRANGE.to_owned());
        };
        self.machine = machine;
        let boots = (boot(), theirs);
        let boots = (boots.0.as_deref(), boots.1.as_deref());
        self.clock = self.compare_clocks()?.unless_same(boots);
        Ok(())
    }

    fn prepare(&mut self, assignment: Assignment) -> Result<(), Failure> {
        let answer = self.ask(&Request::Prepare(Box::new(assignment)));
        let named = |reason| format!("agent {}: {reason}", self.name);
        match answer {
            Ok(Answer::Prepared) => Ok(()),
            Ok(Answer::Impossible(reason)) => Err(Failure::Plan(named(reason))),
            Ok(_) => Err(Failure::Run(named(STRANGE.to_owned()))),
            Err(reason) => Err(Failure::Run(named(reason))),
        }
    }

    /// Has the agent work until the run is stopped.
    fn lead(mut self, run: &Run, number: usize) -> Result<Tally, String> {
        let name = self.name.clone();
        self.work(run, number)
            .map_err(|reason| format!("agent {name}: {reason}"))
    }

    fn work(&mut self, run: &Run, number: usize) -> Result<Tally, String> {
        self.order(&Request::Connect)?;
        let mut span = run.span();
        loop {
            self.pass_on(run, &mut span)?;
            if run.is_stopped() {
                break;
            }
            let Answer::Status { totals, ended } = self.ask(&Request::Status)? else {
                return Err(STRANGE.to_owned());
            };
            self.note(run, number, totals);
            if ended {
                break;
            }
            std::thread::sleep(STATUS_INTERVAL);
        }
        let clock = self.clock.widened_by(self.compare_clocks()?);
        let (found, alike) = self.finish()?;
        let totals = found.totals;
        self.note(run, number, totals);
        let mut tally = found.tally;
        tally.agents_cpu_seconds = found.cpu_seconds;
        tally.agents = vec![AgentFigures {
            address: self.name.clone(),
            machine: self.machine.clone(),
            threads: tally.threads,
            source_addresses: found.source_addresses,
            wanted: run.shares[number].connections as u64,
            connected: totals.connected - totals.returned,
            failed: tally.failed.clone(),
            lost: tally.lost.clone(),
            messages: totals.messages,
            clock,
            cpu_seconds: found.cpu_seconds,
        }];
        tally.alike = alike;
        Ok(tally)
    }

    /// Tells the agent when the command begins or ends what it is for.
    fn pass_on(&mut self, run: &Run, told: &mut Span) -> Result<(), String> {
        let span = run.span();
        if span == *told {
            return Ok(());
        }
        *told = span;
        self.order(&Request::Span {
            start_ns: self.clock.there(span.0),
            end_ns: self.clock.there(span.1),
        })
    }

    fn note(&self, run: &Run, number: usize, totals: Totals) {
        run.counters[number].replace(&Totals {
            last_message_ns: self.clock.here(totals.last_message_ns),
            ..totals
        });
    }

    fn compare_clocks(&mut self) -> Result<ClockOffset, String> {
        let mut best: Option<ClockOffset> = None;
        for _ in 0..CLOCK_ROUND_TRIPS {
            let asked_ns = now_ns();
            let Answer::Clock { now_ns: theirs } = self.ask(&Request::Clock)? else {
                return Err(STRANGE.to_owned());
            };
            let estimate = ClockOffset::of_round_trip(asked_ns, theirs, now_ns());
            best = Some(best.map_or(estimate, |best| best.or(estimate)));
        }
        Ok(best.unwrap_or_default())
    }

    fn finish(&mut self) -> Result<(Found, Vec<Alike>), String> {
        self.send(&Request::Finish)?;
        let mut alike = Vec::new();
        loop {
            match self.receive(FINISH_TIMEOUT)? {
                Answer::Alike(more) => alike.extend(more),
                Answer::Found(found) => return Ok((*found, alike)),
                _ => return Err(STRANGE.to_owned()),
            }
        }
    }

    /// Asks for something that has no answer but that it is done.
    fn order(&mut self, request: &Request) -> Result<(), String> {
        match self.ask(request)? {
            Answer::Done => Ok(()),
            _ => Err(STRANGE.to_owned()),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, String> {
        self.send(request)?;
        self.receive(SILENCE_MAX)
    }

    fn send(&mut self, request: &Request) -> Result<(), String> {
        let sent = self.wire.send(request);
        sent.map_err(|error| format!("cannot be reached any more: {error}"))
    }

    /// The next answer; refusals and failures are errors.
    fn receive(&mut self, timeout: Duration) -> Result<Answer, String> {
        let answer = self.wire.receive(MESSAGE_BYTES_MAX, timeout);
        match answer.map_err(|error| error.to_string())? {
            None => Err("it has ended the connection".to_owned()),
            Some(Answer::Refused(reason) | Answer::Failed(reason)) => Err(reason),
            Some(answer) => Ok(answer),
        }
    }
}

/// What an agent never says unless it is something else.
const STRANGE: &str = "its answer has nothing to do with the question";

fn resolve(name: &str) -> Result<SocketAddr, String> {
    let mut addresses = name.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "has no address".to_owned())
}
