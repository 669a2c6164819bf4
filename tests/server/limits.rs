//! Caps on what the server takes on.

use crate::harness::{Delivery, Metrics, Server, upgrade_request, wait_until};

#[test]
fn one_connection_too_many_gets_503_and_a_freed_place_is_used_again() {
    let server = Server::start(&["--shards", "1", "--max-connections", "10"]);
    let mut sockets: Vec<_> = (0..10).map(|_| server.subscribe("demo")).collect();
    let mut late = server.connect();
    // It may be refused before it has asked for anything.
    let request = upgrade_request("/channels/demo", &server.host(), "");
    late.offer(request, Delivery::Whole);
    assert_eq!(late.response().status, 503);
    late.expect_end();

    sockets.pop();
    let mut tenth = None;
    wait_until("the freed place is given away", || {
        tenth = server.try_websocket("/channels/demo", "").ok();
        tenth.is_some()
    });
    // The scrape needs a place too.
    drop((sockets, tenth));
    wait_until("the refusal is counted", || {
        let answer = server.get("/metrics");
        answer.status == 200 && Metrics::parse(&answer.text()).sum("longwire_refused_total") >= 1.0
    });
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let server = Server::start(&["--shards", "1", "--max-connections", "20"]);
    for _ in 0..10 {
        let sockets: Vec<_> = (0..10).map(|_| server.subscribe("demo")).collect();
        drop(sockets);
        wait_until("all have left", || {
            // But for the one that asks.
            server.metrics().sum("longwire_connections") <= 1.0
        });
    }
    assert!(server.metrics().sum("longwire_accepts_total") >= 100.0);
}
