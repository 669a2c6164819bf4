//! `longwire-loadgen`: many WebSocket connections from one machine or several, and what came of them.
//!
//! The main thread plans ([`plan`]), starts a thread per file table of connections ([`crew`],
//! [`worker`]) and watches their counters. A connection is one small task ([`connect`], then
//! [`session`]); fan-outs are published by threads of their own ([`publisher`]). Threads share nothing
//! but counters and a stop flag ([`run`]); what else they found is collected when they end. On several
//! hosts a thread per host takes the place of the threads of connections ([`agents`]).

mod agents;
mod args;
mod backoff;
mod blocking;
mod broadcasts;
mod centrifuge;
mod check;
mod churn;
mod clock;
mod compare;
mod connect;
mod counters;
mod crew;
mod echo;
mod fanout;
mod heartbeat;
mod html;
mod http;
mod idle;
mod interrupt;
mod kernel;
mod last;
mod latency;
mod listen;
mod local;
mod machine;
mod metrics_scrape;
mod newcomers;
mod order;
mod pace;
mod payload;
mod plan;
mod process;
mod progress;
mod publications;
mod publisher;
mod quiet;
mod report;
mod rival;
mod run;
mod sampler;
mod series;
mod server_probe;
mod session;
mod setup;
mod stayers;
mod storm;
mod target;
mod worker;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Why a command has no report.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for is impossible; says why.
    Plan(String),
    /// It could not be carried through.
    Run(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Run(error.to_string())
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Idle(args) => idle::run(&args),
        Command::Fanout(args) => fanout::run(&args),
        Command::Echo(args) => echo::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Churn(args) => churn::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Agent(args) => agents::run(&args),
        Command::Compare(args) => compare::run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Plan(reason)) => complain(&reason, 2),
        Err(Failure::Run(reason)) => complain(&reason, 1),
    }
}

fn complain(reason: &str, code: u8) -> ExitCode {
    eprintln!("longwire-loadgen: {reason}");
    ExitCode::from(code)
}
