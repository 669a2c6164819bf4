//! The command line. [`parse`] gives `main` a [`Command`] in which everything is checked and decided.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Assignment, Config, ConfigError, Loaded, Sources};
use crate::limits::Plan;
use crate::net;

mod tokens;

use tokens::TokenOptions;

/// Exit status for a wrong command line or configuration.
const EXIT_USAGE: i32 = 2;

/// The most `--connections` takes, as `max_connections`.
const MAX_CONNECTIONS: i64 = 100_000_000;

const EXAMPLES: &str = "\
Examples:
  longwire                                 serve on http://127.0.0.1:8000
  longwire --config longwire.toml          serve as the file says
  longwire --set heartbeat.ping_interval_ms=20000 --set channels.client_publish=chat,lobby
  LONGWIRE_API_KEYS=secret longwire --listen 0.0.0.0:8000
  longwire check --config longwire.toml    what would be used, how many connections fit
  longwire doctor --connections 1000000    what to change on this host to hold so many
  longwire token --user 42 --secret s      a connection token for development

`longwire --help` lists every setting.";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the server.
    Serve {
        /// The effective configuration.
        config: Arc<Config>,
        /// Shards and connections.
        plan: Plan,
        /// Valid but unwise settings, to be logged.
        warnings: Vec<String>,
        /// Descriptor to write to and close once the server accepts connections.
        ready_fd: Option<RawFd>,
    },
    /// Print the report and exit with 0.
    Check {
        /// The effective configuration as TOML, and the plan and warnings as comments.
        report: String,
    },
    /// Look at the host, print what was found, and exit with 0 if nothing stands in the way, else with 1.
    Doctor(Examination),
    /// Print the token and exit with 0.
    Token {
        /// In its compact form, without a line feed.
        token: String,
    },
}

/// What [`crate::doctor::examine`] is asked.
#[derive(Debug)]
pub struct Examination {
    /// The effective configuration.
    pub config: Arc<Config>,
    /// Connections the host is to hold; `None` = what the configuration and the file limits give.
    pub connections: Option<usize>,
    /// Cores the server would have.
    pub cores: usize,
    /// Folder with the host's `/proc` and `/sys`.
    pub root: PathBuf,
}

/// Why there is no [`Command`].
#[derive(Debug)]
pub enum CliError {
    /// A wrong command line, or a request for help or the version.
    Usage(clap::Error),
    /// A wrong configuration.
    Config(ConfigError),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Usage(error) => error.fmt(f),
            CliError::Config(error) => write!(f, "longwire: {error}"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<clap::Error> for CliError {
    fn from(error: clap::Error) -> Self {
        CliError::Usage(error)
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        CliError::Config(error)
    }
}

/// Reads the process's arguments and environment, and raises its limit on open files.
///
/// Exits by itself: after `--help` and `--version` with 0, after an error with 2.
pub fn parse() -> Command {
    let nofile = net::raise_file_limit();
    match try_parse(std::env::args_os(), std::env::vars_os(), cores(), nofile) {
        Ok(command) => command,
        Err(CliError::Usage(error)) => error.exit(),
        Err(error) => {
            // With stderr closed there is nobody to tell; the status still says it.
            let _ = writeln!(io::stderr(), "{error}");
            process::exit(EXIT_USAGE)
        }
    }
}

/// [`parse`] as a function of its inputs; `args` begins with the program's name.
///
/// # Errors
/// A wrong command line or configuration, or a plan that does not fit `nofile` files per table.
pub fn try_parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    cores: usize,
    nofile: u64,
) -> Result<Command, CliError> {
    let cli = Cli::try_parse_from(args)?;
    let load = |options: Options| config::load(&options.into_sources(env.into_iter().collect())?);
    match cli.action.unwrap_or(Action::Serve(cli.options)) {
        Action::Serve(options) => {
            let ready_fd = options.ready_fd;
            let loaded = load(options)?;
            let plan = plan(&loaded, cores, nofile)?;
            Ok(Command::Serve {
                config: Arc::new(loaded.config),
                plan,
                warnings: loaded.warnings,
                ready_fd,
            })
        }
        Action::Check(options) => {
            let loaded = load(options)?;
            let plan = plan(&loaded, cores, nofile)?;
            let report = report(&loaded, &plan);
            Ok(Command::Check { report })
        }
        Action::Doctor {
            connections,
            root,
            options,
        } => Ok(Command::Doctor(Examination {
            config: Arc::new(load(options)?.config),
            connections: connections.map(|count| count as usize),
            cores,
            root,
        })),
        Action::Token {
            channels,
            token,
            options,
        } => {
            let token = token.connection_token(&channels, &load(options)?)?;
            Ok(Command::Token { token })
        }
        Action::Subtoken {
            channel,
            client,
            token,
            options,
        } => {
            let loaded = load(options)?;
            let token = token.subscription_token(&channel, client.as_deref(), &loaded)?;
            Ok(Command::Token { token })
        }
    }
}

/// Cores this process may use; affinity masks and CPU quotas count.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn plan(loaded: &Loaded, cores: usize, nofile: u64) -> Result<Plan, ConfigError> {
    Plan::new(&loaded.config, cores, nofile).map_err(|error| {
        let origin = loaded.origin(error.key);
        ConfigError::new(format!("{origin}: {error}"))
    })
}

fn report(loaded: &Loaded, plan: &Plan) -> String {
    let mut report = loaded.to_toml();
    report += &format!(
        "\n# Plan: shards {}, connections {} (at most {} in one shard), files per table {}\n",
        plan.shards, plan.max_connections, plan.connections_per_shard, plan.files_per_table
    );
    for warning in &loaded.warnings {
        report += &format!("# Warning: {warning}\n");
    }
    report
}

/// A push server for long-lived connections.
#[derive(Debug, Parser)]
#[command(
    name = "longwire",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES,
    after_long_help = long_help()
)]
struct Cli {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the server; the same as no command
    Serve(Options),
    /// Validate the configuration, print it with the place each value came from, and what the file limits hold
    Check(Options),
    /// Look at this host: what it holds, and what to change for a number of connections
    Doctor {
        /// Connections the host is to hold; without it, what the configuration and the file limits give
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_CONNECTIONS))]
        connections: Option<u32>,
        /// Look at the /proc and /sys below this folder instead, for tests and images
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// Make a connection token for development and print it
    Token {
        /// A channel the server subscribes the client to; may be given several times
        #[arg(long = "channel", value_name = "NAME")]
        channels: Vec<String>,
        #[command(flatten)]
        token: TokenOptions,
        #[command(flatten)]
        options: Options,
    },
    /// Make a subscription token for development and print it
    Subtoken {
        /// The channel
        #[arg(long, value_name = "NAME")]
        channel: String,
        /// The one client that may use it
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        #[command(flatten)]
        token: TokenOptions,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args, Debug)]
struct Options {
    /// Configuration file: TOML, or JSON if its name ends in .json; also one of Centrifugo
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, such as 127.0.0.1:8000 or `[::]:8000`; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Number of shards; 0 = one per core, more where the file limit asks for it
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Connections to hold; 0 = as many as the file limits allow
    #[arg(long, value_name = "N")]
    max_connections: Option<String>,
    /// Any setting by its dotted name; items of a list are separated by commas; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Open descriptor to write a line to once connections are accepted
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    ready_fd: Option<RawFd>,
}

impl Options {
    fn into_sources(self, env: Vec<(OsString, OsString)>) -> Result<Sources, ConfigError> {
        let listen = (!self.listen.is_empty()).then(|| self.listen.join(","));
        let named = [
            ("--listen", "listen", listen),
            ("--shards", "shards", self.shards),
            ("--max-connections", "max_connections", self.max_connections),
        ];
        let mut flags = Vec::new();
        for (flag, key, value) in named {
            flags.extend(value.map(|value| assignment(flag, key, &value)));
        }
        for text in &self.set {
            flags.push(split_assignment(text)?);
        }
        Ok(Sources {
            file: self.config,
            env,
            flags,
        })
    }
}

fn split_assignment(text: &str) -> Result<Assignment, ConfigError> {
    match text.split_once('=') {
        Some((key, value)) => Ok(assignment("--set", key.trim(), value.trim())),
        None => Err(ConfigError::new(format!(
            "flag --set: {text:?} has no value; write --set key=value"
        ))),
    }
}

fn assignment(flag: &'static str, key: &str, value: &str) -> Assignment {
    Assignment {
        flag,
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn long_help() -> String {
    format!(
        "{EXAMPLES}\n\n\
         Settings:\n\
         A setting comes from the file, over it the environment, over it the flags. \
         The file has a section for each first word: heartbeat.max_missed is max_missed under [heartbeat]. \
         Lists of tables come from it only: [[channel.namespaces]] and [[rpc.namespaces]] with a name and the settings of \
         without_namespace, [[proxies]] with a name and those of rpc.proxy, [[http_api.keys]] with key, methods and channels. \
         The environment has LONGWIRE_ and the name in capitals, with two underscores for the dot: \
         LONGWIRE_HEARTBEAT__MAX_MISSED. There and in --set, items of a list are separated by commas.\n\n{}",
        config::table_help()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{CLAIMS_BYTES_MAX, TokenError, TokenSettings, TokenVerifier};
    use crate::clock::unix_s;
    use clap::CommandFactory;

    fn run(args: &[&str]) -> Result<Command, CliError> {
        run_with_env(args, &[])
    }

    fn run_with_env(args: &[&str], env: &[(&str, &str)]) -> Result<Command, CliError> {
        let args = std::iter::once("longwire").chain(args.iter().copied());
        let env = env.iter().map(|(name, value)| (name.into(), value.into()));
        try_parse(args.map(OsString::from), env, 2, 20_000)
    }

    fn served(args: &[&str]) -> (Arc<Config>, Plan) {
        match run(args) {
            Ok(Command::Serve { config, plan, .. }) => (config, plan),
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn config_error(args: &[&str]) -> String {
        match run(args) {
            Err(error @ CliError::Config(_)) => error.to_string(),
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn clap_finds_no_fault_in_the_declaration() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        assert_eq!(served(&[]), served(&["serve"]));
        assert_eq!(*served(&[]).0, Config::default());
        assert_eq!(
            served(&["--shards", "1"]),
            served(&["serve", "--shards", "1"])
        );
    }

    #[test]
    fn flags_set_their_settings() {
        let (config, plan) = served(&[
            "--listen",
            "127.0.0.1:0",
            "--listen=[::1]:9000",
            "--shards=3",
            "--max-connections=600",
            "--set",
            "echo=true",
            "--set=heartbeat.max_missed=5",
        ]);
        let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:0", "[::1]:9000"]);
        assert!(config.echo);
        assert_eq!(config.heartbeat.max_missed, 5);
        assert_eq!((plan.shards, plan.max_connections), (3, 600));
    }

    #[test]
    fn the_ready_descriptor_is_handed_on() {
        match run(&["serve", "--ready-fd", "7"]) {
            Ok(Command::Serve { ready_fd, .. }) => assert_eq!(ready_fd, Some(7)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(run(&["--ready-fd=-1"]), Err(CliError::Usage(_))));
    }

    #[test]
    fn config_errors_are_one_line_and_name_the_flag() {
        for (args, start) in [
            (
                &["--shards", "two"][..],
                "longwire: flag --shards: shards = \"two\": not a whole number; takes",
            ),
            (
                &["--set", "echo"],
                "longwire: flag --set: \"echo\" has no value; write --set key=value",
            ),
            (
                &["--set", "ecko=true"],
                "longwire: flag --set: unknown setting ecko; did you mean echo?",
            ),
            (
                &["--set=shards=1", "--shards=2"],
                "longwire: flag --set: shards is set twice, first by flag --shards",
            ),
            (
                &["--listen", "localhost:80"],
                "longwire: flag --listen: listen = [\"localhost:80\"]: item 1 is not valid",
            ),
            (
                &["--set=listen=127.0.0.1:1,127.0.0.1:1"],
                "longwire: flag --set: listen has 127.0.0.1:1 twice",
            ),
            (
                &["--set=a\nb=1"],
                "longwire: flag --set: unknown setting a\\nb;",
            ),
            (
                &["--shards=2", "--max-connections=90000"],
                "longwire: flag --max-connections: max_connections = 90000 does not fit",
            ),
        ] {
            let error = config_error(args);
            assert!(error.starts_with(start), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn options_before_a_command_are_refused_rather_than_dropped() {
        let result = run(&["--shards=1", "check"]);
        assert!(matches!(result, Err(CliError::Usage(_))), "{result:?}");
    }

    #[test]
    fn check_prints_valid_toml_with_the_plan_and_the_warnings() {
        let env = [("LONGWIRE_API_KEYS", "hunter2"), ("LONGWIRE_SHARDS", "1")];
        let result = run_with_env(&["check", "--set=heartbeat.ping_interval_ms=90000"], &env);
        let Ok(Command::Check { report }) = result else {
            panic!("{result:?}");
        };
        let table: toml::Table = report.parse().unwrap();
        assert_eq!(
            table["heartbeat"]["ping_interval_ms"].as_integer(),
            Some(90_000)
        );
        assert!(report.contains("ping_interval_ms = 90000  # flag --set\n"));
        assert!(report.contains("shards = 1  # environment LONGWIRE_SHARDS\n"));
        assert!(report.contains("api_keys = [\"***\"]  # environment LONGWIRE_API_KEYS\n"));
        assert!(report.contains(
            "# Plan: shards 1, connections 19218 (at most 19218 in one shard), files per table 20000\n"
        ));
        assert!(report.contains("# Warning: flag --set: heartbeat.ping_interval_ms = 90000"));
        assert!(!report.contains("hunter2"));
    }

    fn token(args: &[&str]) -> String {
        match run(args) {
            Ok(Command::Token { token }) => token,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn verifier() -> TokenVerifier {
        TokenVerifier::new(&TokenSettings {
            hmac_secret_key: "secret".to_owned(),
            ..TokenSettings::default()
        })
        .unwrap()
    }

    #[test]
    fn a_connection_token_says_what_the_flags_say() {
        let flags = ["--user=42", "--ttl=60", "--channel=a", "--channel=b"];
        let args = [
            &["token", "--secret=secret"][..],
            &flags,
            &["--info={\"n\": 1}"],
        ]
        .concat();
        let claims = verifier().verify_connect(&token(&args), unix_s()).unwrap();
        assert_eq!(claims.user, "42");
        let channels: Vec<&str> = claims.subs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(channels, ["a", "b"]);
        assert_eq!(claims.info.as_deref(), Some(&b"{\"n\":1}"[..]));
        let life_s = claims.expire_at_s.unwrap() - claims.issued_at_s.unwrap();
        assert_eq!(life_s, 60);
        let endless = token(&["token", "--secret=secret", "--ttl=0"]);
        let claims = verifier().verify_connect(&endless, i64::MAX).unwrap();
        assert_eq!((claims.user.as_str(), claims.expire_at_s), ("", None));
    }

    #[test]
    fn a_subscription_token_is_for_one_channel_and_client() {
        let flags = [
            "--user=42",
            "--channel=news",
            "--client=c1",
            "--expire-at=7",
        ];
        let token = token(&[&["subtoken", "--secret=secret"][..], &flags].concat());
        let now_s = unix_s();
        let verify =
            |channel, client| verifier().verify_subscribe(&token, "42", channel, client, now_s);
        assert_eq!(verify("news", "c1").unwrap().expire_at_s, Some(7));
        assert_eq!(verify("chat", "c1"), Err(TokenError::Mismatch("channel")));
        assert_eq!(verify("news", "c2"), Err(TokenError::Mismatch("client")));
        assert!(matches!(
            run(&["subtoken", "--secret=s"]),
            Err(CliError::Usage(_))
        ));
    }

    #[test]
    fn a_token_needs_a_secret_and_json() {
        let error = config_error(&["token"]);
        let expected = "longwire: no secret to sign with: set client.token.hmac_secret_key";
        assert!(error.starts_with(expected), "{error}");
        let error = config_error(&["token", "--secret="]);
        assert!(error.starts_with(expected), "{error}");
        let wrong = run(&["token", "--secret=s", "--info={"]);
        assert!(matches!(wrong, Err(CliError::Usage(_))), "{wrong:?}");
        let info = format!("--info=\"{}\"", "x".repeat(CLAIMS_BYTES_MAX));
        let error = config_error(&["token", "--secret=s", &info]);
        assert!(
            error.starts_with("longwire: claims of more than"),
            "{error}"
        );
    }

    #[test]
    fn long_help_lists_every_setting() {
        let help = Cli::command().render_long_help().to_string();
        for setting in config::SETTINGS {
            assert!(help.contains(setting.key), "{}", setting.key);
        }
        assert!(
            !Cli::command()
                .render_help()
                .to_string()
                .contains("outbox.soft_bytes")
        );
    }
}
