//! The agent: waits for a controller and does its part, then waits for the next.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::Failure;
use crate::args::AgentArgs;
use crate::clock::{cpu_seconds, now_ns};
use crate::crew::Crew;
use crate::interrupt::Interrupt;
use crate::machine::Machine;
use crate::run::Run;

use super::Assignment;
use super::clocks::boot;
use super::wire::{
    Answer, Found, GREETING_BYTES_MAX, GROUPS_PER_MESSAGE, MESSAGE_BYTES_MAX, PROTOCOL, Request,
    SILENCE_MAX, Wire,
};

/// How often somebody new is looked for.
const ACCEPT_POLL: Duration = Duration::from_millis(20);
/// Whoever connects has so long to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to this agent at a time; more are closed at once.
const VISITORS_MAX: usize = 16;

/// Runs the command until it is interrupted.
pub fn run(args: &AgentArgs) -> Result<bool, Failure> {
    if !args.listen.ip().is_loopback() && args.token.is_none() {
        return Err(Failure::Plan(format!(
            "--listen {}: whoever reaches an agent can make it connect anywhere; beyond loopback it needs a \
             --token that its controllers know",
            args.listen
        )));
    }
    let interrupt = Interrupt::install()?;
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| Failure::Run(format!("cannot listen on {}: {error}", args.listen)))?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    let desk = Arc::new(Desk {
        token: args.token.clone(),
        interrupt,
        controller: Mutex::new(None),
        visitors: AtomicUsize::new(0),
    });
    while !desk.interrupt.is_set() {
        match listener.accept() {
            Ok((stream, from)) => desk.receive(stream, from),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(ACCEPT_POLL);
            }
            Err(error) => {
                eprintln!("longwire-loadgen: accept: {error}");
                std::thread::sleep(ACCEPT_POLL);
            }
        }
    }
    Ok(true)
}

/// Where controllers come to. It serves one at a time.
#[derive(Debug)]
struct Desk {
    token: Option<String>,
    interrupt: Interrupt,
    controller: Mutex<Option<SocketAddr>>,
    visitors: AtomicUsize,
}

impl Desk {
    /// Talks to whoever came, on a thread of its own.
    fn receive(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        if self.visitors.load(Ordering::Relaxed) >= VISITORS_MAX {
            return;
        }
        self.visitors.fetch_add(1, Ordering::Relaxed);
        let desk = Arc::clone(self);
        let talk = move || {
            if let Err(error) = desk.talk(stream, from) {
                eprintln!("controller {from}: {error}");
            }
            desk.visitors.fetch_sub(1, Ordering::Relaxed);
        };
        let started = std::thread::Builder::new()
            .name("controller".to_owned())
            .spawn(talk);
        if let Err(error) = started {
            self.visitors.fetch_sub(1, Ordering::Relaxed);
            eprintln!("controller {from}: {error}");
        }
    }

    fn talk(&self, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
        let mut wire = Wire::new(stream)?;
        let greeting = wire.receive(GREETING_BYTES_MAX, GREETING_TIMEOUT)?;
        let refused = match self.judge(greeting) {
            Ok(()) => self.take(from).err(),
            Err(reason) => Some(reason),
        };
        if let Some(reason) = refused {
            eprintln!("controller {from}: refused: {reason}");
            return wire.send(&Answer::Refused(reason));
        }
        let served = serve(&mut wire, from, &self.interrupt);
        *self.seat() = None;
        served
    }

    fn judge(&self, greeting: Option<Request>) -> Result<(), String> {
        let Some(Request::Greet { protocol, token }) = greeting else {
            return Err("a controller greets first".to_owned());
        };
        // Before anything is said about this program.
        let known = match (&self.token, &token) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.as_bytes().ct_eq(theirs.as_bytes()).into(),
            _ => false,
        };
        if !known {
            return Err("not the token of this agent".to_owned());
        }
        if protocol != PROTOCOL {
            return Err(format!(
                "the controller speaks version {protocol} of their protocol and this agent version {PROTOCOL}; \
                 use the same release on all hosts"
            ));
        }
        Ok(())
    }

    /// Begins to serve a controller, unless there is one.
    fn take(&self, from: SocketAddr) -> Result<(), String> {
        let mut controller = self.seat();
        if let Some(other) = *controller {
            return Err(format!("this agent works for another controller, {other}"));
        }
        *controller = Some(from);
        Ok(())
    }

    fn seat(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.controller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a controller wants done, as far as it has come.
enum Work {
    None,
    Planned(Box<Run>),
    Running(Crew, f64),
}

/// Does what a controller says. If that one goes away, so do the connections.
fn serve(wire: &mut Wire, from: SocketAddr, interrupt: &Interrupt) -> io::Result<()> {
    wire.send(&Answer::Welcome {
        machine: Machine::read(),
        boot: boot(),
    })?;
    let mut work = Work::None;
    let done = obey(wire, from, interrupt, &mut work);
    if let Work::Running(crew, _) = work {
        eprintln!("controller {from}: went away");
        // Nobody is left to tell.
        let _ = crew.finish();
    }
    done
}

fn obey(
    wire: &mut Wire,
    from: SocketAddr,
    interrupt: &Interrupt,
    work: &mut Work,
) -> io::Result<()> {
    while let Some(request) = wire.receive(MESSAGE_BYTES_MAX, SILENCE_MAX)? {
        let answer = match (request, std::mem::replace(work, Work::None)) {
            (Request::Clock, before) => {
                *work = before;
                Answer::Clock { now_ns: now_ns() }
            }
            (Request::Prepare(assignment), Work::None) => match plan(&assignment) {
                Ok(run) => {
                    let connections = assignment.share().connections;
                    eprintln!("controller {from}: {connections} to {}", assignment.url());
                    *work = Work::Planned(Box::new(run));
                    Answer::Prepared
                }
                Err(reason) => Answer::Impossible(reason),
            },
            (Request::Connect, Work::Planned(run)) => match start(*run, interrupt) {
                Ok(crew) => {
                    *work = Work::Running(crew, cpu_seconds());
                    Answer::Done
                }
                Err(reason) => Answer::Failed(reason),
            },
            (Request::Span { start_ns, end_ns }, Work::Running(crew, before)) => {
                crew.run().begin(start_ns, end_ns);
                *work = Work::Running(crew, before);
                Answer::Done
            }
            (Request::Status, Work::Running(crew, before)) => {
                let (totals, ended) = (crew.run().totals(), crew.has_ended());
                *work = Work::Running(crew, before);
                Answer::Status { totals, ended }
            }
            (Request::Finish, Work::Running(crew, before)) => {
                let answer = finish(wire, crew, before)?;
                eprintln!("controller {from}: done");
                answer
            }
            (_, before) => {
                *work = before;
                Answer::Refused("that is not to be asked now".to_owned())
            }
        };
        wire.send(&answer)?;
    }
    Ok(())
}

fn plan(assignment: &Assignment) -> Result<Run, String> {
    let run = assignment.plan()?;
    let names_no_channel = run.check.is_some_and(|check| check.channels == 0);
    if assignment.share().connections == 0 || names_no_channel {
        return Err("a part of no connections or no channels".to_owned());
    }
    Ok(run)
}

fn start(mut run: Run, interrupt: &Interrupt) -> Result<Crew, String> {
    if let Some(schedule) = &mut run.connect_schedule {
        // Other agents took their time to plan.
        schedule.start_ns = now_ns();
    }
    Crew::start(&Arc::new(run), interrupt).map_err(|failure| match failure {
        Failure::Plan(reason) | Failure::Run(reason) => reason,
    })
}

/// Closes the connections and sends what was found; the last message is returned.
fn finish(wire: &mut Wire, crew: Crew, cpu_before: f64) -> io::Result<Answer> {
    let run = Arc::clone(crew.run());
    let totals = run.totals();
    let mut tally = match crew.finish() {
        Ok(tally) => tally,
        Err(reason) => return Ok(Answer::Failed(reason)),
    };
    let mut alike = std::mem::take(&mut tally.alike).into_iter().peekable();
    while alike.peek().is_some() {
        let some = alike.by_ref().take(GROUPS_PER_MESSAGE).collect();
        wire.send(&Answer::Alike(some))?;
    }
    Ok(Answer::Found(Box::new(Found {
        tally,
        totals,
        source_addresses: run.local.source_count(),
        cpu_seconds: cpu_seconds() - cpu_before,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(token: Option<&str>) -> Desk {
        Desk {
            token: token.map(str::to_owned),
            interrupt: Interrupt::default(),
            controller: Mutex::new(None),
            visitors: AtomicUsize::new(0),
        }
    }

    fn greeting(protocol: u32, token: Option<&str>) -> Option<Request> {
        let token = token.map(str::to_owned);
        Some(Request::Greet { protocol, token })
    }

    #[test]
    fn only_a_controller_with_the_token_and_the_version_is_let_in() {
        let judge = |ours, theirs| desk(ours).judge(greeting(PROTOCOL, theirs));
        assert_eq!(judge(None, None), Ok(()));
        assert_eq!(judge(Some("a"), Some("a")), Ok(()));
        for (ours, theirs) in [
            (Some("a"), None),
            (Some("a"), Some("b")),
            (Some("a"), Some("aa")),
            (None, Some("a")),
        ] {
            assert!(judge(ours, theirs).unwrap_err().contains("token"));
        }
        let newer = desk(None).judge(greeting(PROTOCOL + 1, None)).unwrap_err();
        assert!(newer.contains("version"), "{newer}");
        assert!(desk(None).judge(Some(Request::Status)).is_err());
        assert!(desk(None).judge(None).is_err());
    }

    #[test]
    fn one_controller_is_served_at_a_time() {
        let desk = desk(None);
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(desk.take(address(1)), Ok(()));
        assert!(desk.take(address(2)).unwrap_err().contains("127.0.0.1:1"));
        *desk.seat() = None;
        assert_eq!(desk.take(address(2)), Ok(()));
    }
}
