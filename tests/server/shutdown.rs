//! SIGTERM: everyone is told, and the server ends by itself.

use crate::harness::{CLOSE, Delivery, End, FIN, Server, masked_frame, wait_until};

#[test]
fn on_sigterm_every_client_gets_1001_before_tcp_ends() {
    let mut server = Server::start(&["--shards", "4", "--set", "drain.window_ms=1000"]);
    let paths = ["/channels/one", "/channels/two", "/chat"];
    let connect = |i: usize| server.websocket(paths[i % paths.len()]);
    let mut sockets: Vec<_> = (0..200).map(connect).collect();
    server.terminate();
    for socket in &mut sockets {
        let close = socket.frame();
        assert_eq!(close.close_code(), 1001);
        let answer = masked_frame(FIN | CLOSE, &close.payload);
        socket.peer.offer(answer, Delivery::Whole);
    }
    for socket in &mut sockets {
        assert_eq!(socket.peer.read_to_end(), (Vec::new(), End::Eof));
    }
    assert_eq!(server.exit_status().code(), Some(0));
}

#[test]
fn clients_that_do_not_answer_do_not_hold_it_up() {
    let settings = ["drain.window_ms=500", "websocket.close_timeout_ms=1000"];
    let mut server = Server::with(&settings);
    let sockets: Vec<_> = (0..10).map(|_| server.subscribe("demo")).collect();
    server.terminate();
    assert_eq!(server.exit_status().code(), Some(0));
    for mut socket in sockets {
        assert_eq!(socket.frame().close_code(), 1001);
        socket.peer.expect_end();
    }
}

#[test]
fn without_clients_it_ends_at_once() {
    let mut server = Server::with(&["drain.window_ms=600000"]);
    server.terminate();
    assert_eq!(server.exit_status().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_drain() {
    let mut server = Server::with(&["drain.window_ms=600000"]);
    let sockets: Vec<_> = (0..10).map(|_| server.subscribe("demo")).collect();
    wait_until("the server ends", || {
        server.terminate();
        server.has_exited()
    });
    assert_ne!(server.exit_status().code(), Some(0));
    drop(sockets);
}

#[test]
fn while_draining_a_publisher_is_answered_or_refused_but_never_left_in_between() {
    let mut server = Server::with(&["drain.window_ms=2000", "websocket.close_timeout_ms=1000"]);
    let sockets: Vec<_> = (0..20).map(|_| server.subscribe("demo")).collect();
    let mut peer = server.connect();
    let request = format!(
        "POST /channels/demo HTTP/1.1\r\nHost: {}\r\nContent-Length: 1\r\n\r\nx",
        server.host()
    );
    peer.send(&request);
    assert_eq!(peer.response().status, 200);
    server.terminate();
    // A response once begun is whole, or `try_response` fails the test.
    loop {
        peer.offer(&request, Delivery::Whole);
        let Ok(answer) = peer.try_response() else {
            break;
        };
        assert!([200, 503].contains(&answer.status), "{}", answer.status);
    }
    assert_eq!(server.exit_status().code(), Some(0));
    drop(sockets);
}

#[test]
fn while_draining_it_is_not_ready_and_takes_no_one_new() {
    let mut server = Server::with(&["drain.window_ms=600000"]);
    let sockets: Vec<_> = (0..10).map(|_| server.subscribe("demo")).collect();
    let mut peer = server.connect();
    let request = format!("GET /ready HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    peer.send(&request);
    assert_eq!(peer.response().status, 200);
    server.terminate();
    // Either the connection lives on and says so, or it is ended as the idle one it is.
    wait_until("not ready", || {
        peer.offer(&request, Delivery::Whole);
        peer.try_response()
            .map_or(true, |answer| answer.status == 503)
    });
    wait_until("no longer listening", || {
        std::net::TcpStream::connect(server.addr()).is_err()
    });
    assert!(!server.has_exited(), "its clients are still there");
    drop(sockets);
}
