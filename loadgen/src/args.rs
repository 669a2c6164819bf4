//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::backoff::Backoff;
use crate::check::Counts;
use crate::listen::Transport;
use crate::plan::{Cores, Sources};
use crate::target::{CHANNEL, HttpTarget, Target};

/// Drives a push server with many connections and says what it measured.
///
/// The exit code is 0 only if everything that was asked for happened: 1 if a connection failed or was
/// lost or a message did not arrive as published, 2 if the plan is impossible.
#[derive(Debug, Parser)]
#[command(name = "longwire-loadgen", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect, hold, and say what an idle connection costs the server
    Idle(IdleArgs),
    /// Publish to many subscribers and check that each got every message once, in one order
    Fanout(FanoutArgs),
    /// Send to an echo, check that everything comes back as it was, and time it
    Echo(EchoArgs),
    /// Cut many connections at once, let them come back as well-behaved clients do, and see what that does to
    /// the others
    Storm(StormArgs),
    /// Replace connections steadily, and see whether the server's memory grows
    Churn(ChurnArgs),
    /// Kill clients and server, pause readers, cut everybody, record everything, and check that nobody lost,
    /// doubled or reordered anything without being told
    Check(CheckArgs),
    /// Wait for another host's command, and make a part of its connections
    Agent(AgentArgs),
    /// Put the figures of two runs side by side
    Compare(CompareArgs),
}

/// What every command takes.
#[derive(Args, Debug)]
pub struct CommonArgs {
    /// Where to connect; `{channel}` stands for the channel's name [default:
    /// ws://127.0.0.1:8000/channels/{channel}, or /echo there]
    #[arg(long)]
    pub url: Option<Target>,

    /// Connections in all
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Threads, each with a file table of its own [default: as few as the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,

    /// Local addresses to connect from: one, or FIRST-LAST [default: on loopback as many from
    /// 127.0.0.2 on as 25,000 connections each need, else the system's choice]
    #[arg(long, value_name = "ADDR|RANGE")]
    pub source: Option<Sources>,

    /// Connections being made at a time, over all threads
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_in_flight: u32,

    /// New connections per second, over all threads [default: as fast as it goes]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub connect_rate: Option<f64>,

    /// Longest time for one connection's TCP and WebSocket handshake
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_timeout_ms: u32,

    /// Cores to run on, as in `0,2-3` [default: all]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<Cores>,

    /// Keep each thread on one core, round robin
    #[arg(long)]
    pub pin: bool,

    /// Never let a thread sleep: it looks for bytes again and again. Then a server spends nothing on
    /// waking this side, which otherwise depends on how far behind it happens to be
    #[arg(long)]
    pub spin: bool,

    /// Write the figures as JSON to FILE, or to stdout instead of the summary with `-`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write a report with plots as one HTML page to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write the figures as a Markdown table to FILE
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// The server's processes on this machine: take its memory and CPU time from them and not from its
    /// /metrics page
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub server_pid: Vec<u32>,

    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,

    /// Several hosts.
    #[command(flatten)]
    pub hosts: HostArgs,

    /// What clients of the Centrifuge protocol are like.
    #[command(flatten)]
    pub centrifuge: CentrifugeArgs,

    /// What other servers want.
    #[command(flatten)]
    pub rival: RivalArgs,
}

/// What clients say over their WebSockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Nothing: a URL names the channel
    #[default]
    Plain,
    /// The Centrifuge client protocol in JSON
    Centrifuge,
}

/// Clients of the Centrifuge protocol.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Centrifuge protocol")]
pub struct CentrifugeArgs {
    /// What clients say; Centrifuge clients connect to ws://127.0.0.1:8000/connection/websocket unless --url
    /// says otherwise. They ask for positions, and check them where the server gives any
    #[arg(long, value_enum, value_name = "PROTOCOL", default_value_t = Protocol::Plain, conflicts_with = "rival")]
    pub protocol: Protocol,

    /// Subscriptions of each connection, to as many channels
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub subscriptions: u32,

    /// Length of a channel's name [default: as long as it takes]
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = length)]
    pub channel_bytes: usize,

    /// Connect with tokens signed with this secret (HS256) [default: without tokens]
    #[arg(long, value_name = "SECRET")]
    pub hmac_secret: Option<String>,

    /// Length of the user's name in a token
    #[arg(long, value_name = "BYTES", default_value_t = 1, requires = "hmac_secret", value_parser = length)]
    pub user_bytes: usize,

    /// Length of the user's info in a token, as JSON; the shortest has 11 bytes [default: no info]
    #[arg(long, value_name = "BYTES", default_value_t = 0, requires = "hmac_secret", value_parser = length)]
    pub info_bytes: usize,
}

impl CentrifugeArgs {
    /// Says why so many subscriptions to so many channels are impossible.
    pub fn check(&self, channels: u32) -> Result<(), String> {
        if self.protocol == Protocol::Plain && self.subscriptions > 1 {
            return Err(
                "several subscriptions of a connection need --protocol centrifuge".to_owned(),
            );
        }
        if self.subscriptions > channels {
            return Err(format!(
                "{} subscriptions of a connection need at least as many channels, not {channels}",
                self.subscriptions
            ));
        }
        Ok(())
    }
}

/// To connect from several hosts, or several processes of one.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Several hosts")]
pub struct HostArgs {
    /// Agents that make the connections, an equal part each; this process publishes and reports. Threads,
    /// cores and source addresses are then those of each agent
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',')]
    pub agents: Vec<String>,

    /// The agents' token
    #[arg(long, value_name = "TOKEN", requires = "agents", value_parser = token)]
    pub token: Option<String>,
}

/// To drive another server than Longwire.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Another server")]
pub struct RivalArgs {
    /// The server is another: look for this program's messages anywhere in its frames, ask for no /metrics
    #[arg(long)]
    pub rival: bool,

    /// Text sent once a WebSocket is open; `{channel}` stands for the channel's name, and `\n`, `\r`, `\\` for
    /// what they mean
    #[arg(long, value_name = "TEXT", requires = "rival")]
    pub subscribe_frame: Option<String>,

    /// How long subscribing may take after the last connection was made
    #[arg(long, value_name = "MS", requires = "rival", default_value_t = 1000)]
    pub subscribe_wait_ms: u32,

    /// A message that the server wants answered with `--rival-pong`
    #[arg(long, value_name = "TEXT", requires = "rival_pong", requires = "rival")]
    pub rival_ping: Option<String>,

    /// The answer to it
    #[arg(long, value_name = "TEXT", requires = "rival_ping")]
    pub rival_pong: Option<String>,
}

impl RivalArgs {
    /// True if each subscription says which channel it is for.
    pub fn names_channel(&self) -> bool {
        let frame = self.subscribe_frame.as_deref();
        frame.is_some_and(|frame| frame.contains(CHANNEL))
    }
}

/// How to publish to another server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Another server")]
pub struct PublishArgs {
    /// Where to POST messages, as http://…; `{channel}` stands for the channel's name
    #[arg(long, value_name = "URL", requires = "rival")]
    pub publish_url: Option<HttpTarget>,

    /// What to POST; `{data}` stands for the message (letters, digits and dots) and `{channel}` for the name
    #[arg(
        long,
        value_name = "TEMPLATE",
        requires = "publish_url",
        default_value = "{data}"
    )]
    pub publish_body: String,

    /// A header of these requests, as `Name: value`; may be given more than once
    #[arg(long, value_name = "HEADER", requires = "publish_url", value_parser = header)]
    pub publish_header: Vec<String>,

    /// A program that publishes instead, one for each publisher: it reads lines of a channel's name, a space
    /// and a message, and answers each with a line
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "rival",
        conflicts_with = "publish_url"
    )]
    pub publish_command: Option<String>,
}

/// `idle`
#[derive(Args, Debug)]
pub struct IdleArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// How long to hold the connections
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub hold: Duration,

    /// The server's interval between two pings of a connection: what pings per second are held against
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = positive)]
    pub ping_interval: f64,

    /// Channels the connections are spread over; more than one takes Centrifuge clients
    #[arg(long, value_name = "C", default_value_t = 1, conflicts_with = "broadcasts", value_parser = clap::value_parser!(u32).range(1..))]
    pub channels: u32,

    /// How connections listen
    #[arg(long, value_enum, value_name = "TRANSPORT", default_value_t = Transport::Websocket, conflicts_with_all = ["rival", "protocol", "agents"])]
    pub transport: Transport,

    /// Messages to all connections at the end of the hold, one after the other
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "rival", value_parser = clap::value_parser!(u16).range(..=1000))]
    pub broadcasts: u16,

    /// What they are like.
    #[command(flatten)]
    pub broadcast: BroadcastArgs,
}

/// Messages to all connections.
#[derive(Args, Clone, Debug)]
pub struct BroadcastArgs {
    /// Pause after each of them
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, requires = "broadcasts")]
    pub broadcast_interval: Duration,

    /// Payload size
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 100,
        requires = "broadcasts"
    )]
    pub size: usize,

    /// Key for publishing, sent as X-API-Key
    #[arg(long, value_name = "KEY", requires = "broadcasts")]
    pub api_key: Option<String>,

    /// Give up on what is missing of a broadcast after so long without a delivery
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 10_000,
        requires = "broadcasts"
    )]
    pub settle_ms: u32,

    /// Also time a message every 50 ms to one subscriber of another channel, while they are under way and
    /// otherwise
    #[arg(long, requires = "broadcasts")]
    pub quiet_channel: bool,
}

/// `fanout`
#[derive(Args, Debug)]
pub struct FanoutArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Channels the subscribers are spread over
    #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub channels: u32,

    /// Publishers, each with a keep-alive connection of its own
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub publishers: u32,

    /// Messages to publish in all [default: 1000, if no duration is given]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    pub messages: Option<u64>,

    /// How long to publish
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Messages per second in all, on a fixed schedule: latency counts from the scheduled time
    /// [default: each publisher sends the next when the last was answered]
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,

    /// Payload size
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub size: usize,

    /// Key for publishing, sent as X-API-Key
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,

    /// How to publish to another server.
    #[command(flatten)]
    pub publish: PublishArgs,

    /// Once all is published: give up on what is missing after so long without a delivery
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub settle_ms: u32,
}

/// `echo`
#[derive(Args, Debug)]
pub struct EchoArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// How long to send
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,

    /// Payload size
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=16 << 20))]
    pub size: u32,

    /// Messages per second over all connections, which take turns: latency counts from the time a message
    /// was due if an earlier one kept it [default: the next when an echo came]
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,

    /// Messages of a connection that may be under way at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,

    /// At the end: give up on what is missing after so long without an echo
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub settle_ms: u32,
}

/// What is published to connections that stay while others go.
#[derive(Args, Debug)]
pub struct StayersArgs {
    /// Channels the subscribers are spread over
    #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub channels: u32,

    /// Messages per second published, over all channels
    #[arg(long, value_name = "R", default_value = "10", value_parser = positive)]
    pub rate: f64,

    /// Payload size
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub size: usize,

    /// Key for publishing, sent as X-API-Key
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
}

/// How connections come back.
#[derive(Args, Clone, Copy, Debug)]
pub struct BackoffArgs {
    /// A client waits a random time up to this before it comes back, and up to twice as long after each
    /// attempt that fails; what a 503 asks for with Retry-After comes on top
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub backoff_base_ms: u32,

    /// Longest such wait
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    pub backoff_cap_ms: u32,
}

/// `storm`
#[derive(Args, Debug)]
pub struct StormArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// What those that stay get.
    #[command(flatten)]
    pub stayers: StayersArgs,

    /// How the others come back.
    #[command(flatten)]
    pub backoff: BackoffArgs,

    /// Which part of the connections is cut
    #[arg(long, value_name = "0..1", default_value = "0.5", value_parser = share)]
    pub share: f64,

    /// Those that come back recover what they missed, and check that it is all of it. Takes Centrifuge clients,
    /// and a server that keeps a history
    #[arg(long)]
    pub recover: bool,

    /// Those that are cut stay away until so many messages were published on each channel, and nothing else is
    /// published until they are back
    #[arg(long, value_name = "N", requires = "recover", conflicts_with = "agents", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub missed: Option<u32>,

    /// How long to publish before the cut, and again when all are back
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub calm: Duration,

    /// How long to wait until all are back
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub give_up: Duration,
}

/// `check`
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Channels the subscribers are spread over
    #[arg(long, value_name = "C", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub channels: u32,

    /// Publishers, each with a keep-alive connection of its own
    #[arg(long, value_name = "P", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub publishers: u16,

    /// Messages per second published, over all channels
    #[arg(long, value_name = "R", default_value = "100", value_parser = positive)]
    pub rate: f64,

    /// Payload size
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub size: usize,

    /// Key for publishing, sent as X-API-Key
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,

    /// How long to disturb
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub duration: Duration,

    /// Connections to reset, one at a time
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub client_kills: u32,

    /// Times to let a subscriber read nothing for `--slow-ms`
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub slow_readers: u32,

    /// How long such a subscriber reads nothing
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub slow_ms: u32,

    /// Times to reset all connections at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub storms: u32,

    /// Starts the server, as a shell command; it is killed at the end
    #[arg(long, value_name = "COMMAND")]
    pub server_command: Option<String>,

    /// Times to kill the server with SIGKILL and start it again
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub server_kills: u32,

    /// Times to stop the whole server with SIGSTOP for `--freeze-ms`
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub freezes: u32,

    /// How long it is stopped
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub freeze_ms: u32,

    /// Times to hold one core of the server for `--hold-ms`, while the others go on; takes a server built with
    /// `--features test-hooks`
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub core_holds: u32,

    /// How long it is held
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub hold_ms: u32,

    /// How long to wait until everybody is back and has everything
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub settle: Duration,

    /// Chooses what is disturbed when, and where publications go [default: any; it is reported]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl CheckArgs {
    /// How often each thing is done.
    pub fn counts(&self) -> Counts {
        Counts {
            client_kills: self.client_kills,
            slow_readers: self.slow_readers,
            storms: self.storms,
            server_kills: self.server_kills,
            freezes: self.freezes,
            core_holds: self.core_holds,
        }
    }
}

/// `agent`
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Where to wait for controllers, one at a time
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7600")]
    pub listen: SocketAddr,

    /// A secret that controllers have to know; needed if others than this host can reach the address. It
    /// and all else goes over the network as it is
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    pub token: Option<String>,
}

/// `compare`
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// What `--json` wrote for one run
    #[arg(value_name = "A.json")]
    pub first: PathBuf,

    /// The same for another
    #[arg(value_name = "B.json")]
    pub second: PathBuf,

    /// Write the comparison with plots as one HTML page to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `churn`
#[derive(Args, Debug)]
pub struct ChurnArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// What those that stay get.
    #[command(flatten)]
    pub stayers: StayersArgs,

    /// How replacements try again that do not get in; the first attempt comes at once.
    #[command(flatten)]
    pub backoff: BackoffArgs,

    /// Connections replaced per minute, in percent of all; every tenth connection is never replaced
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = positive)]
    pub replace_percent_per_minute: f64,

    /// How long to replace
    #[arg(long, value_name = "SECONDS", default_value = "1800", value_parser = seconds)]
    pub duration: Duration,

    /// Minutes after which the growth of the server's memory counts
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    pub settle_minutes: f64,

    /// Growth per thousand replaced connections above which the run fails [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = positive)]
    pub max_growth_bytes: Option<f64>,
}

impl BackoffArgs {
    /// For clients whose first attempt comes at once or not.
    pub fn backoff(self, starts_at_once: bool) -> Backoff {
        let ms = |ms| Duration::from_millis(u64::from(ms));
        Backoff {
            base: ms(self.backoff_base_ms),
            cap: ms(self.backoff_cap_ms),
            starts_at_once,
        }
    }
}

impl CommonArgs {
    /// Where to subscribe.
    pub fn channel_url(&self) -> Target {
        match self.centrifuge.protocol {
            Protocol::Plain => self.url_or("/channels/{channel}"),
            Protocol::Centrifuge => self.url_or("/connection/websocket"),
        }
    }

    /// True if connections can subscribe to more than one channel at that URL.
    pub fn names_channel(&self) -> bool {
        self.centrifuge.protocol == Protocol::Centrifuge
            || self.channel_url().names_channel()
            || self.rival.names_channel()
    }

    /// Says why a command that knows no other protocol cannot do what is asked for.
    pub fn refuse_centrifuge(&self) -> Result<(), String> {
        match self.centrifuge.protocol {
            Protocol::Plain => Ok(()),
            Protocol::Centrifuge => {
                Err("--protocol centrifuge is for idle, fanout, storm and check".to_owned())
            }
        }
    }

    /// Where to find an echo.
    pub fn echo_url(&self) -> Target {
        self.url_or("/echo")
    }

    fn url_or(&self, path: &str) -> Target {
        self.url.clone().unwrap_or_else(|| Target {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            path: path.to_owned(),
        })
    }

    /// The addresses to connect from, if given.
    pub fn sources(&self) -> Option<&[IpAddr]> {
        self.source.as_ref().map(|sources| sources.0.as_slice())
    }
}

fn header(text: &str) -> Result<String, String> {
    match text.split_once(": ") {
        Some((name, _)) if !name.is_empty() && !text.contains(['\r', '\n']) => Ok(text.to_owned()),
        _ => Err("must look like `Name: value`".to_owned()),
    }
}

fn token(text: &str) -> Result<String, String> {
    match text.len() {
        1..=1024 => Ok(text.to_owned()),
        _ => Err("must have 1 to 1024 bytes".to_owned()),
    }
}

fn length(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(bytes) if bytes <= 1024 => Ok(bytes),
        _ => Err("must be a number of bytes, 1024 at most".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("must be a number above 0".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("must be a number above 0 and at most 1".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|value| Duration::try_from_secs_f64(value).ok())
        .ok_or_else(|| "must be a number of seconds, 0 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn odd_numbers_are_refused() {
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(positive(bad).is_err(), "{bad}");
        }
        for bad in ["x", ": y", "a: b\r\nc: d"] {
            assert!(header(bad).is_err(), "{bad}");
        }
        for bad in ["0", "1.1", "nan", "-0.5"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert!(seconds("-1").is_err());
        assert!(seconds("1e300").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    }
}
