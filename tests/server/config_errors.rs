//! What cannot work is refused at the start: one line that names it, and an exit code.

use std::net::TcpListener;

use crate::harness::{Server, command, run_to_exit, write_config};

/// The server must refuse these arguments with one line on stderr that holds all of `names`.
fn refused(args: &[&str], names: &[&str]) -> Option<i32> {
    let exit = run_to_exit(command(args));
    assert!(!exit.status.success(), "{args:?} was accepted");
    assert!(!exit.stdout.contains("listening on"), "{args:?} served");
    assert_eq!(
        exit.stderr.trim().lines().count(),
        1,
        "not one line: {}",
        exit.stderr
    );
    for name in names {
        assert!(
            exit.stderr.contains(name),
            "{name} not named in: {}",
            exit.stderr
        );
    }
    exit.status.code()
}

#[test]
fn a_busy_port_is_refused() {
    let busy = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = busy.local_addr().expect("addr").to_string();
    refused(&["--listen", &addr], &[&addr]);
}

#[test]
fn the_port_of_another_longwire_is_not_shared() {
    let server = Server::start(&[]);
    refused(&["--listen", &server.host()], &[&server.host()]);
}

#[test]
fn an_unknown_key_is_refused() {
    let key = "heartbeat.ping_intervall_ms";
    assert_eq!(refused(&["--set", &format!("{key}=1")], &[key]), Some(2));
    let path = write_config("[heartbeat]\nping_intervall_ms = 1\n");
    let path = path.to_str().expect("UTF-8");
    assert_eq!(
        refused(&["--config", path], &["ping_intervall_ms", path]),
        Some(2)
    );
    assert_eq!(
        refused(&["check", "--config", path], &["ping_intervall_ms", path]),
        Some(2)
    );
}

#[test]
fn a_bad_value_is_refused() {
    for setting in [
        "shards=many",
        "shards=-1",
        "heartbeat.ping_interval_ms=soon",
        "heartbeat.ping_interval_ms=-5",
        "http.body_bytes=99999999999999999999",
        "echo=perhaps",
        "listen=nowhere",
    ] {
        let (key, value) = setting.split_once('=').expect("key=value");
        assert_eq!(
            refused(&["--set", setting], &[key, value]),
            Some(2),
            "{setting}"
        );
    }
}

#[test]
fn a_bad_value_in_the_environment_is_refused() {
    let mut command = command(&[]);
    command.env("LONGWIRE_HEARTBEAT__PING_INTERVAL_MS", "soon");
    let exit = run_to_exit(command);
    assert_eq!(exit.status.code(), Some(2));
    assert_eq!(exit.stderr.trim().lines().count(), 1, "{}", exit.stderr);
    let named = exit.stderr.contains("LONGWIRE_HEARTBEAT__PING_INTERVAL_MS");
    assert!(named, "{}", exit.stderr);
}

#[test]
fn a_setting_without_a_value_is_refused() {
    assert_eq!(refused(&["--set", "echo"], &["echo"]), Some(2));
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let missing = "/nonexistent/longwire.toml";
    assert_eq!(refused(&["--config", missing], &[missing]), Some(2));
    let directory = env!("CARGO_TARGET_TMPDIR");
    assert_eq!(refused(&["--config", directory], &[directory]), Some(2));
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let path = write_config("shards = 1\necho = \n");
    let path = path.to_str().expect("UTF-8");
    assert_eq!(refused(&["--config", path], &[path, "2"]), Some(2));
}

#[test]
fn a_public_address_without_a_key_is_refused_and_told_both_ways_out() {
    for addr in ["0.0.0.0:0", "[::]:0"] {
        let code = refused(&["--listen", addr], &["api_keys", "insecure"]);
        assert_eq!(code, Some(2), "{addr}");
    }
}

#[test]
fn a_public_address_is_served_with_insecure_set() {
    let server = Server::start_on("0.0.0.0:0", &["--set", "insecure=true"]);
    assert_ne!(server.addr().port(), 0);
}

#[test]
fn an_unknown_flag_is_refused() {
    let exit = run_to_exit(command(&["--no-such-flag"]));
    assert_eq!(exit.status.code(), Some(2));
    assert!(exit.stderr.contains("--no-such-flag"));
}

#[test]
fn check_prints_the_effective_configuration() {
    let path = write_config("[heartbeat]\nping_interval_ms = 23456\n");
    let mut command = command(&["check", "--config", path.to_str().expect("UTF-8")]);
    command.env("LONGWIRE_OUTBOX__HARD_BYTES", "345678");
    let exit = run_to_exit(command);
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    for value in ["23456", "345678"] {
        assert!(
            exit.stdout.contains(value),
            "{value} not in: {}",
            exit.stdout
        );
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let path = write_config("echo = false\n[channels]\nclient_publish = []\n");
    let path = path.to_str().expect("UTF-8");
    let server = Server::start(&["--config", path, "--set", "echo=true"]);
    server.websocket("/echo");
}
