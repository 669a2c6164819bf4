//! Configuration from its three sources, as the command line reads it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use longwire::cli::{CliError, Command, try_parse};
use longwire::config::{
    Config, Loaded, Origin, SETTINGS, Sources, channel_options_markdown, load, proxy_markdown,
    table_markdown, token_markdown,
};
use proptest::prelude::*;

/// A configuration file; each test has names of its own.
fn file(name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn variables(env: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let pair = |(name, value): &(&str, &str)| (name.into(), value.into());
    env.iter().map(pair).collect()
}

fn from_path(path: PathBuf) -> Result<Loaded, String> {
    let sources = Sources {
        file: Some(path),
        ..Sources::default()
    };
    load(&sources).map_err(|error| error.to_string())
}

fn from_file(name: &str, text: &str) -> Result<Loaded, String> {
    from_path(file(name, text))
}

/// The error for a file, without the directory the file is in.
fn file_error(name: &str, text: &str) -> String {
    let error = from_file(name, text).unwrap_err();
    assert!(!error.contains('\n'), "{error}");
    error.replace(concat!(env!("CARGO_TARGET_TMPDIR"), "/"), "")
}

fn from_env(env: &[(&str, &str)]) -> Result<Loaded, String> {
    let sources = Sources {
        env: variables(env),
        ..Sources::default()
    };
    load(&sources).map_err(|error| error.to_string())
}

fn served(args: &[&str], env: &[(&str, &str)]) -> Result<Arc<Config>, CliError> {
    let args = std::iter::once("longwire").chain(args.iter().copied());
    match try_parse(args.map(OsString::from), variables(env), 2, 20_000)? {
        Command::Serve { config, .. } => Ok(config),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_setting_can_be_given_in_a_file() {
    let defaults = Loaded::default().to_toml();
    let loaded = from_file("every_setting.toml", &defaults).unwrap();
    assert_eq!(loaded.config, Config::default());
    for setting in SETTINGS {
        assert!(matches!(loaded.origin(setting.key), Origin::File { .. }));
    }
}

#[test]
fn every_setting_can_be_given_in_the_environment() {
    for setting in SETTINGS {
        let value = setting.default_value().to_string();
        let text = value.trim_matches(['[', ']']).replace('"', "");
        let name = setting.env_name();
        let loaded = from_env(&[(&name, &text)]).unwrap();
        let expected = match setting.key.split('.').next() {
            Some("client" | "channel") => Config::declared(),
            _ => Config::default(),
        };
        // What nobody has a word on may be open for development, and this has its word now.
        let mut shown = expected.clone();
        setting.set(&mut shown, &setting.default_value()).unwrap();
        assert_eq!(loaded.config, shown, "{}", setting.key);
        assert_eq!(loaded.origin(setting.key), &Origin::Env(name));
    }
}

#[test]
fn what_check_prints_is_a_file_that_gives_the_same() {
    let text = "shards = 3\norigins = [\"https://a.example\"]\n\
                [channels]\nclient_publish = [\"a\\\"b\", \"\\u0007\"]\n";
    let first = from_file("printed_1.toml", text).unwrap();
    let second = from_file("printed_2.toml", &first.to_toml()).unwrap();
    assert_eq!(first.config, second.config);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let path = file(
        "precedence.toml",
        "[outbox]\nsoft_bytes = 2000\nhard_bytes = 3000\nstall_timeout_ms = 1\n",
    );
    let path = path.to_str().unwrap();
    let env = [
        ("LONGWIRE_OUTBOX__SOFT_BYTES", "2001"),
        ("LONGWIRE_OUTBOX__HARD_BYTES", "3001"),
    ];
    let args = ["--config", path, "--set", "outbox.hard_bytes=3002"];
    let outbox = &served(&args, &env).unwrap().outbox;
    assert_eq!(outbox.stall_timeout_ms, 1);
    assert_eq!(outbox.soft_bytes, 2001);
    assert_eq!(outbox.hard_bytes, 3002);
    assert_eq!(outbox.soft_timeout_ms, 5000);
}

#[test]
fn dotted_keys_are_the_same_as_sections() {
    let loaded = from_file("dotted.toml", "heartbeat.max_missed = 7\n").unwrap();
    assert_eq!(loaded.config.heartbeat.max_missed, 7);
}

#[test]
fn unknown_keys_in_a_file_name_the_nearest_known_one() {
    for (text, expected) in [
        (
            "# a typo\n\n[hearbeat]\nping_interval_ms = 1000\n",
            "unknown.toml:4: unknown setting hearbeat.ping_interval_ms; did you mean heartbeat.ping_interval_ms?",
        ),
        (
            "ping_interval_ms = 1000\n",
            "unknown.toml:1: unknown setting ping_interval_ms; did you mean heartbeat.ping_interval_ms?",
        ),
        (
            "[redis]\n",
            "unknown.toml:1: unknown setting redis; longwire --help lists all settings",
        ),
        (
            "[http.head_bytes]\nx = 1\n",
            "unknown.toml:1: http.head_bytes = a table: wrong type; takes 256 to 65536 bytes",
        ),
        (
            "http = 3\n",
            "unknown.toml:1: http is a section; write [http] and its settings on the lines below",
        ),
        (
            "[[http]]\nheaders = 3\n",
            "unknown.toml:1: http is a section; write [http] and its settings on the lines below",
        ),
    ] {
        assert_eq!(file_error("unknown.toml", text), expected);
    }
}

#[test]
fn wrong_values_in_a_file_name_line_key_value_and_cure() {
    for (text, expected) in [
        (
            "[heartbeat]\nmax_missed = 101\n",
            "value.toml:2: heartbeat.max_missed = 101: out of range; takes 1 to 100",
        ),
        (
            "[heartbeat]\nmax_missed = -1\n",
            "value.toml:2: heartbeat.max_missed = -1: out of range; takes 1 to 100",
        ),
        (
            "[heartbeat]\nping_interval_ms = \"10s\"\n",
            "value.toml:2: heartbeat.ping_interval_ms = \"10s\": wrong type; \
             takes 1 to 3600000 milliseconds, rounded up to whole seconds",
        ),
        (
            "listen = \"127.0.0.1:80\"\n",
            "value.toml:1: listen = \"127.0.0.1:80\": wrong type; \
             takes a list of addresses such as 127.0.0.1:8000 or [::]:8000",
        ),
        (
            "listen = [8000]\n",
            "value.toml:1: listen = a list of other things than strings: wrong type; \
             takes a list of addresses such as 127.0.0.1:8000 or [::]:8000",
        ),
        (
            "log_level = \"loud\"\n",
            "value.toml:1: log_level = \"loud\": not one of its values; takes error, warn, info, debug, trace",
        ),
        (
            "echo = 1.5\n",
            "value.toml:1: echo = 1.5: wrong type; takes true or false",
        ),
    ] {
        assert_eq!(file_error("value.toml", text), expected);
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, expected) in [
        (
            "[outbox]\nhard_bytes = 5000\n",
            "rule.toml:2: outbox.soft_bytes = 65536 (default) exceeds outbox.hard_bytes = 5000 (rule.toml:2); \
             lower the first or raise the second",
        ),
        (
            "[http]\nrequest_line_bytes = 9000\n",
            "rule.toml:2: http.request_line_bytes = 9000 (rule.toml:2) exceeds http.head_bytes = 8192 (default); \
             lower the first or raise the second",
        ),
        (
            "listen = []\n",
            "rule.toml:1: listen = []: nothing to listen on; give an address such as 127.0.0.1:8000",
        ),
        (
            "proxy_protocol_listen = [\"127.0.0.1:9000\"]\n",
            "rule.toml:1: proxy_protocol_listen is for trusted proxies, and trusted_proxies is empty; set it to the \
             proxies' networks",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/8\"]\nproxy_protocol_listen = [\"127.0.0.1:8000\"]\n",
            "rule.toml:2: proxy_protocol_listen has 127.0.0.1:8000 twice, or listen has it too; remove one",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/8\"]\nproxy_protocol_listen = [\"0.0.0.0:9000\"]\n",
            "rule.toml:2: proxy_protocol_listen = 0.0.0.0:9000 is reachable from other machines, and anybody there \
             could publish; set api_keys, or insecure = true to allow it, or listen on 127.0.0.1",
        ),
        (
            "trusted_proxies = [\"10.0.0.1/8\"]\n",
            "rule.toml:1: trusted_proxies = [\"10.0.0.1/8\"]: item 1 is not valid; takes a list of networks such as \
             10.0.0.0/8, 2001:db8::/32 or 192.0.2.1",
        ),
        (
            "[channels]\nname_bytes = 3\n",
            "default: channels.client_publish has a name of 4 bytes, longer than channels.name_bytes = 3 \
             (rule.toml:2); shorten it or raise the limit",
        ),
    ] {
        assert_eq!(file_error("rule.toml", text), expected);
    }
}

#[test]
fn the_first_error_in_the_file_is_the_one_reported() {
    let error = file_error("first.toml", "shards = 5000\necho = 1\n");
    assert!(error.starts_with("first.toml:1: shards = 5000"), "{error}");
}

#[test]
fn syntax_errors_name_their_line() {
    for text in ["echo = true\nshards = = 2\n", "shards = 1\nshards = 2\n"] {
        let error = file_error("syntax.toml", text);
        assert!(
            error.starts_with("syntax.toml:2: not valid TOML: "),
            "{error}"
        );
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = from_path("no/such/file.toml".into()).unwrap_err();
    assert!(error.starts_with("cannot read the configuration file no/such/file.toml: "));
    let error = from_path(file("binary.toml", b"echo = true\n# \xff\n")).unwrap_err();
    assert!(error.ends_with("binary.toml:2: not UTF-8; save the file as UTF-8"));
}

#[test]
fn environment_errors_name_the_variable() {
    for (name, value, expected) in [
        (
            "LONGWIRE_HEARTBEAT__MAX_MISSED",
            "many",
            "environment LONGWIRE_HEARTBEAT__MAX_MISSED: heartbeat.max_missed = \"many\": \
             not a whole number; takes 1 to 100",
        ),
        (
            "LONGWIRE_HEARTBEAT_MAX_MISSED",
            "2",
            "environment LONGWIRE_HEARTBEAT_MAX_MISSED: unknown setting; \
             did you mean LONGWIRE_HEARTBEAT__MAX_MISSED?",
        ),
        (
            "LONGWIRE_FLUX_CAPACITOR",
            "1",
            "environment LONGWIRE_FLUX_CAPACITOR: unknown setting; \
             unset it, or see longwire --help for all settings",
        ),
        (
            "LONGWIRE_API_KEYS",
            "s3cret,with space",
            "environment LONGWIRE_API_KEYS: api_keys = [\"***\", \"***\"]: item 2 is not valid; \
             takes a list of keys of printable ASCII characters without spaces",
        ),
        (
            "LONGWIRE_API_KEYS",
            "[\"s3cret\"]",
            "environment LONGWIRE_API_KEYS: api_keys = ***: has brackets; here a list is written a,b; \
             takes a list of keys of printable ASCII characters without spaces",
        ),
    ] {
        assert_eq!(from_env(&[(name, value)]).unwrap_err(), expected);
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let env = [
        ("PATH", "/bin"),
        ("LONGWIRE_SERVICE_HOST", "10.0.0.1"),
        ("LONGWIRE_SERVICE_PORT_HTTP", "8000"),
        ("LONGWIRE_PORT", "tcp://10.0.0.1:8000"),
        ("LONGWIRE_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("LONGWIRE_METRICS_PORT_9000_TCP", "tcp://10.0.0.1:9000"),
    ];
    assert_eq!(from_env(&env).unwrap().config, Config::default());
}

#[test]
fn secrets_stay_out_of_file_errors() {
    for text in ["api_keys = \"s3cret\"\n", "api_keys = [\"s3c ret\"]\n"] {
        let error = file_error("secret.toml", text);
        assert!(!error.contains("s3c") && error.contains("***"), "{error}");
    }
}

#[test]
fn other_than_loopback_takes_a_key_or_consent() {
    let listen = ("LONGWIRE_LISTEN", "127.0.0.1:8000,0.0.0.0:8000");
    let error = from_env(&[listen]).unwrap_err();
    assert_eq!(
        error,
        "environment LONGWIRE_LISTEN: listen = 0.0.0.0:8000 is reachable from other machines, and anybody there \
         could publish; set api_keys, or insecure = true to allow it, or listen on 127.0.0.1"
    );
    assert!(from_env(&[listen, ("LONGWIRE_API_KEYS", "k")]).is_ok());
    assert!(from_env(&[listen, ("LONGWIRE_INSECURE", "true")]).is_ok());
    assert!(from_env(&[listen, ("LONGWIRE_API_KEYS", "")]).is_err());
    let loopback = "127.0.0.2:1,[::1]:1,[::ffff:127.0.0.1]:1";
    assert!(from_env(&[("LONGWIRE_LISTEN", loopback)]).is_ok());
}

#[test]
fn a_ping_interval_of_a_minute_is_worth_a_warning() {
    let key = "LONGWIRE_HEARTBEAT__PING_INTERVAL_MS";
    assert!(from_env(&[(key, "59999")]).unwrap().warnings.is_empty());
    let warnings = from_env(&[(key, "60000")]).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("60000"));
}

#[test]
fn the_table_has_a_row_per_setting() {
    let table = table_markdown();
    // The options of channels, tokens and backends have tables of their own, one for all their places.
    let rows = |table: String| table.lines().count() - 2;
    let elsewhere =
        rows(channel_options_markdown()) + 2 * rows(token_markdown()) + 6 * rows(proxy_markdown());
    assert_eq!(table.lines().count() + elsewhere, 2 + SETTINGS.len());
    for row in table.lines() {
        assert_eq!(row.matches('|').count(), 5, "{row}");
    }
    assert!(table.contains("| `heartbeat.max_missed` | `2` | 1 to 100 | "));
}

/// Text that is often nearly a configuration file.
fn file_text() -> impl Strategy<Value = String> {
    let key = (0..SETTINGS.len()).prop_map(|index| SETTINGS[index].key.to_owned());
    let name = prop_oneof![key, "\\PC{0,8}", Just("[http]\n\"a\\nb\"".to_owned())];
    let value = prop_oneof![
        "-?[0-9]{1,25}",
        "\"[^\"\\\\]{0,9}\"",
        ".{0,9}",
        "\\[\"[a-z:]{0,9}\"\\]"
    ];
    let line = (name, value).prop_map(|(name, value)| format!("{name} = {value}\n"));
    prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn any_file_gives_a_configuration_or_one_line(text in file_text()) {
        if let Err(error) = from_file("any.toml", &text) {
            prop_assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn any_assignment_gives_a_configuration_or_one_line(text in ".*", index in 0..SETTINGS.len()) {
        let known = format!("--set={}={text}", SETTINGS[index].key);
        for argument in [known, format!("--set={text}"), format!("--listen={text}")] {
            if let Err(error @ CliError::Config(_)) = served(&[&argument], &[]) {
                let error = error.to_string();
                prop_assert!(!error.contains(char::is_control), "{error:?}");
            }
        }
    }
}
