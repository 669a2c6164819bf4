//! How it begins: with a ring or not at all, and on sockets it was handed.

use std::net::TcpStream;

use crate::harness::{Server, command_through, run_to_exit, wait_until};

/// What a kernel or a sandbox without io_uring answers, and what the message must name.
#[test]
fn without_io_uring_it_says_why_and_exits_with_78() {
    let (eperm, enosys, einval, enomem) = ("1", "38", "22", "12");
    for (errno, cure) in [
        (eperm, "seccomp"),
        (enosys, "Linux 6.1"),
        (einval, "Linux 6.1"),
        (enomem, "ulimit -l"),
    ] {
        let args = ["--listen", "127.0.0.1:0"];
        let exit = run_to_exit(command_through("without_io_uring.py", errno, &args));
        assert_eq!(exit.status.code(), Some(78), "{}", exit.stderr);
        assert!(exit.stderr.contains("io_uring") || exit.stderr.contains("ring"));
        assert!(exit.stderr.contains(cure), "{}", exit.stderr);
        assert_eq!(exit.stderr.trim().lines().count(), 1, "{}", exit.stderr);
    }
}

#[test]
fn a_socket_handed_over_is_served_by_every_shard_and_left_open() {
    let mut server = Server::spawn(command_through(
        "hand_over.py",
        "127.0.0.1:0",
        &["--shards", "4"],
    ));
    for expected in 1..=8 {
        assert_eq!(server.publish("demo", "x").0, expected);
    }
    let mut subscriber = server.subscribe("demo");
    server.publish("demo", "heard");
    subscriber.expect_text("heard");
    server.terminate();
    subscriber.expect_close(1001);
    assert!(server.exit_status().success());
}

#[test]
fn a_socket_handed_over_that_others_can_reach_needs_a_key() {
    let exit = run_to_exit(command_through("hand_over.py", "0.0.0.0:0", &[]));
    assert!(!exit.status.success());
    assert!(exit.stderr.contains("LISTEN_FDS") && exit.stderr.contains("api_keys"));
}

#[test]
fn readiness_is_written_to_the_descriptor_asked_for() {
    let ready = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("ready");
    let _ = std::fs::remove_file(&ready);
    let args = ["--listen", "127.0.0.1:0", "--ready-fd", "7"];
    let path = ready.to_str().expect("UTF-8");
    let server = Server::spawn(command_through("ready_fd.sh", path, &args));
    wait_until("readiness", || {
        std::fs::read_to_string(&ready).is_ok_and(|text| text == "ready\n")
    });
    TcpStream::connect(server.addr()).expect("it listens");
}

#[test]
fn it_starts_again_at_once_on_the_port_of_one_that_was_killed() {
    let killed = Server::start(&[]);
    let host = killed.host();
    let client = killed.subscribe("demo");
    drop(killed);
    let successor = Server::start_on(&host, &[]);
    assert_eq!(successor.host(), host);
    drop(client);
}

#[test]
fn every_shard_has_a_file_table_of_its_own() {
    let server = Server::start(&["--shards", "3"]);
    let clients: Vec<TcpStream> = (0..90)
        .map(|_| TcpStream::connect(server.addr()).expect("connect"))
        .collect();
    wait_until("accepted", || {
        server.metrics().sum("longwire_accepts_total") >= 90.0
    });
    // Each shard's table holds its own connections only.
    let mut open: Vec<usize> = server.open_files_by_shard();
    open.sort_unstable();
    assert_eq!(open.len(), 3);
    assert!(
        open.iter().sum::<usize>() < 90 + 3 * 60,
        "shared tables: {open:?}"
    );
    drop(clients);
}
