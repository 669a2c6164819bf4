//! What one host is to do: all of a run, or an agent's part.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::args::CommonArgs;
use crate::backoff::Backoff;
use crate::centrifuge::Centrifuge;
use crate::clock::now_ns;
use crate::local::LocalAddresses;
use crate::pace::Schedule;
use crate::plan::{Plan, Share, Wanted};
use crate::rival::Rival;
use crate::run::{Check, Departures, Echo, Run};
use crate::setup::{host, keep_to_cores, resolve};
use crate::target::Target;

use super::ClockOffset;

/// Connections to make on one host, how, and what for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Where to connect.
    url: String,
    /// Which connections, and how many are made at a time.
    share: Share,
    /// Threads, if given.
    threads: Option<usize>,
    /// Source addresses, if given.
    sources: Option<Vec<IpAddr>>,
    /// New connections per second.
    connect_rate: Option<f64>,
    /// Longest time for one connection's handshakes.
    connect_timeout: Duration,
    /// Cores to run on, if given.
    cores: Option<Vec<usize>>,
    /// Keep each thread on one core.
    pin: bool,
    /// Never let a thread sleep.
    spin: bool,
    /// What another server's clients say.
    rival: Option<Rival>,
    /// What clients of the Centrifuge protocol are like.
    centrifuge: Option<Centrifuge>,
    /// What connections check.
    check: Option<Check>,
    /// What connections send to be echoed.
    echo: Option<Echo>,
    /// Which connections go on purpose.
    departures: Option<Departures>,
    /// How those come back.
    backoff: Backoff,
    /// The publishers' clock, compared with the one of this host.
    publishers_clock: ClockOffset,
}

impl Assignment {
    /// All that the command line asks for but the command's own purpose.
    pub fn whole(args: &CommonArgs, target: &Target) -> Self {
        Self {
            url: target.to_string(),
            share: Share {
                first: 0,
                connections: args.connections as usize,
                connect_in_flight: args.connect_in_flight as usize,
            },
            threads: args.threads.map(|threads| threads as usize),
            sources: args.sources().map(<[_]>::to_vec),
            connect_rate: args.connect_rate,
            connect_timeout: Duration::from_millis(u64::from(args.connect_timeout_ms)),
            cores: args.cores.as_ref().map(|cores| cores.0.clone()),
            pin: args.pin,
            spin: args.spin,
            rival: Rival::of(&args.rival),
            centrifuge: Centrifuge::of(&args.centrifuge),
            check: None,
            echo: None,
            departures: None,
            backoff: Backoff::NONE,
            publishers_clock: ClockOffset::default(),
        }
    }

    /// An agent's part of a run that is all of this. `clock` is the agent's, seen from here.
    pub fn part(&self, run: &Run, share: Share, clock: ClockOffset) -> Self {
        let fraction = share.connections as f64 / self.share.connections as f64;
        Self {
            share,
            connect_rate: self.connect_rate.map(|rate| rate * fraction),
            centrifuge: run.centrifuge.clone(),
            check: run.check,
            echo: run.echo,
            departures: run.departures.map(|departures| match departures {
                Departures::AtOnce { share } => Departures::AtOnce { share },
                Departures::Steady { rate } => Departures::Steady {
                    rate: rate * fraction,
                },
            }),
            backoff: run.backoff,
            publishers_clock: ClockOffset {
                ahead_ns: clock.ahead_ns.saturating_neg(),
                ..clock
            },
            ..self.clone()
        }
    }

    /// Plans it on this host, or says why it is impossible.
    pub fn plan(&self) -> Result<Run, String> {
        if let Some(cores) = &self.cores {
            keep_to_cores(cores)?;
        }
        let target: Target = self.url.parse()?;
        let address = resolve(&target)?;
        let wanted = Wanted {
            target: address,
            share: self.share,
            threads: self.threads,
            sources: self.sources.as_deref(),
        };
        let plan = Plan::new(&wanted, &host())?;
        let offset = fastrand::usize(..);
        let local = LocalAddresses::new(plan.sources, plan.local_ports, self.share, offset);
        let lanes = plan.shares.len() as u64;
        let mut run = Run::new(target, address, local, plan.shares);
        run.connect_timeout = self.connect_timeout;
        run.connect_schedule = self.connect_rate.map(|rate| Schedule {
            start_ns: now_ns(),
            rate,
            lanes,
        });
        run.pin = self.pin;
        run.spin = self.spin;
        run.rival.clone_from(&self.rival);
        run.centrifuge.clone_from(&self.centrifuge);
        run.check = self.check;
        run.echo = self.echo;
        run.departures = self.departures;
        run.backoff = self.backoff;
        run.publishers_clock = self.publishers_clock;
        Ok(run)
    }

    /// Which connections.
    pub fn share(&self) -> Share {
        self.share
    }

    /// Where to.
    pub fn url(&self) -> &str {
        &self.url
    }
}
