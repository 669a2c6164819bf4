//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Longwire beside the bare kernel, in alternating rounds.
#[derive(Debug, Parser)]
#[command(name = "floor")]
pub struct Options {
    /// What to measure [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub scenario: Vec<Scenario>,

    /// Rounds, each of the floor and Longwire
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Connections [default: 10,000 for fan-outs, 15,000 per thread for heartbeat, connect and broadcast]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: Option<u32>,

    /// Threads of the floor and shards of Longwire [default: 1; of broadcast 2]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,

    /// Messages per second in `delivery`, at which both servers keep up
    #[arg(long, value_name = "R", default_value_t = 15.0)]
    pub rate: f64,

    /// How long to publish, or to ping, in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,

    /// Seconds between two pings of a connection [default: 2 in `heartbeat`, 30 in `broadcast`, where only
    /// Longwire pings]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub ping_interval_s: Option<u32>,

    /// Seconds between two messages of `broadcast` [default: 1, and one more per 50,000 connections]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub broadcast_interval_s: Option<u32>,

    /// Cores of the servers
    #[arg(long, value_name = "LIST", default_value = "0")]
    pub server_cores: String,

    /// Cores of the load generator; `broadcast`, and two shards in `latency`, have all cores on both sides
    #[arg(long, value_name = "LIST", default_value = "1")]
    pub loadgen_cores: String,

    /// Write all figures of all rounds to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Be the floor server
    #[arg(long, hide = true, value_name = "ADDR")]
    serve: Option<SocketAddr>,

    /// Run the command on these cores, for as long as the parent lives
    #[arg(long, hide = true, value_name = "CORES", requires = "command")]
    launch: Option<String>,

    /// The command of `--launch`
    #[arg(hide = true, last = true)]
    command: Vec<String>,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    Delivery,
    Coalescing,
    Latency,
    Heartbeat,
    Connect,
    Broadcast,
}

/// What this process is for.
pub enum Mode<'a> {
    Launch {
        cores: &'a str,
        command: &'a [String],
    },
    Serve {
        address: SocketAddr,
        threads: usize,
    },
    Measure,
    Smoke,
}

impl Options {
    pub fn mode(&self) -> Mode<'_> {
        if let Some(cores) = &self.launch {
            let command = &self.command;
            return Mode::Launch { cores, command };
        }
        if let Some(address) = self.serve {
            let threads = self.threads_or(1) as usize;
            return Mode::Serve { address, threads };
        }
        match self.bench {
            true => Mode::Measure,
            false => Mode::Smoke,
        }
    }

    /// The scenarios asked for, all if none is.
    pub fn scenarios(&self) -> &[Scenario] {
        match self.scenario.is_empty() {
            true => Scenario::value_variants(),
            false => &self.scenario,
        }
    }

    pub fn connections_or(&self, default: u32) -> u32 {
        self.connections.unwrap_or(default)
    }

    pub fn threads_or(&self, default: u32) -> u32 {
        self.threads.unwrap_or(default)
    }
}
