//! Clients behind proxies: the PROXY protocol, X-Forwarded-For, and what each client may hold.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use crate::harness::{Delivery, End, Peer, Server, wait_until};

/// An address that can be trusted without trusting every program on this machine.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A server with a second listener, for the PROXY protocol; [`PROXY`] is trusted.
fn behind_a_proxy(settings: &[&str]) -> Server {
    let own = [
        "proxy_protocol_listen=127.0.0.1:0",
        "trusted_proxies=127.0.0.2",
    ];
    Server::with(&[&own, settings].concat())
}

/// A connection from the proxy to the plain listener.
fn connect_forwarding(server: &Server) -> Peer {
    Peer::connect_from(PROXY, server.addr())
}

/// A connection from the proxy to the listener for the PROXY protocol, which begins with `header`.
fn connect_proxied(server: &Server, header: &[u8]) -> Peer {
    let mut peer = Peer::connect_from(PROXY, server.proxied_addr());
    peer.offer(header, Delivery::Whole);
    peer
}

/// A header of version 1.
fn v1(client: &str) -> Vec<u8> {
    let (family, own) = match client.contains(':') {
        true => ("TCP6", "::1"),
        false => ("TCP4", "127.0.0.1"),
    };
    format!("PROXY {family} {client} {own} 4711 80\r\n").into_bytes()
}

/// A header of version 2.
fn v2(client: [u8; 4]) -> Vec<u8> {
    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&fixed[..], &client, &[127, 0, 0, 1, 0x12, 0x67, 0, 80]].concat()
}

/// The server says nothing and resets the connection.
fn expect_reset(mut peer: Peer, what: &[u8]) {
    let end = peer.read_to_end();
    assert_eq!(end, (Vec::new(), End::Reset), "{}", what.escape_ascii());
}

#[test]
fn an_address_has_its_share_on_all_shards_together() {
    let server = behind_a_proxy(&["shards=2", "admission.connections_per_address=3"]);
    let connect = |client: &str| {
        let mut peer = connect_proxied(&server, &v1(client));
        (peer.upgrade(""), peer)
    };
    let mut held = Vec::new();
    for client in ["203.0.113.1", "2001:db8:0:1::1"] {
        for _ in 0..3 {
            let (response, peer) = connect(client);
            assert_eq!(response.status, 101);
            held.push(peer);
        }
    }
    for client in ["203.0.113.1", "::ffff:203.0.113.1", "2001:db8:0:1:2:3:4:5"] {
        let (response, mut peer) = connect(client);
        response.expect_refusal("too many connections from this address");
        assert_eq!(peer.read_to_end(), (Vec::new(), End::Eof));
    }
    assert_eq!(connect("203.0.113.2").0.status, 101);
    assert_eq!(connect("2001:db8:0:2::1").0.status, 101);
    assert_eq!(server.metrics().refusals("address_limit"), 3.0);

    held.clear();
    for client in ["203.0.113.1", "2001:db8:0:1::1"] {
        wait_until("a place", || connect(client).0.status == 101);
    }
}

#[test]
fn behind_a_trusted_proxy_each_request_counts_for_its_client() {
    let server = Server::with(&[
        "trusted_proxies=127.0.0.2",
        "admission.connections_per_address=1",
    ]);
    let forwarded = |list: &str| format!("X-Forwarded-For: {list}\r\n");
    let mut held = connect_forwarding(&server);
    assert_eq!(held.upgrade(&forwarded("203.0.113.1")).status, 101);

    let mut second = connect_forwarding(&server);
    second
        .upgrade(&forwarded("198.51.100.7, 203.0.113.1, 127.0.0.2"))
        .expect_refusal("too many connections from this address");
    // What is left of a malformed hop is not looked at: the proxy itself is the client, and exempt.
    let mut malformed = connect_forwarding(&server);
    assert_eq!(malformed.upgrade(&forwarded("203.0.113.1, ?")).status, 101);

    // One connection of the proxy carries requests of many clients.
    let mut shared = connect_forwarding(&server);
    for client in ["203.0.113.2", "203.0.113.3", "203.0.113.2", "", ", ,"] {
        assert_eq!(
            shared.request("GET", "/health", &forwarded(client)).status,
            200
        );
    }
    // And holds none of their places between requests.
    let mut third = connect_forwarding(&server);
    assert_eq!(third.upgrade(&forwarded("203.0.113.2")).status, 101);
    // A refusal ends the connection, as every other answer to an upgrade request does.
    shared
        .request("GET", "/health", &forwarded("203.0.113.1"))
        .expect_refusal("too many connections from this address");

    drop(held);
    wait_until("a place", || {
        let mut peer = connect_forwarding(&server);
        peer.upgrade(&forwarded("203.0.113.1")).status == 101
    });
}

#[test]
fn loopback_and_whoever_is_not_trusted_to_forward_count_as_loopback() {
    let server = Server::with(&["admission.connections_per_address=1"]);
    let mut held: Vec<Peer> = (0..5).map(|_| server.connect()).collect();
    for peer in &mut held {
        assert_eq!(peer.upgrade("X-Forwarded-For: 203.0.113.1\r\n").status, 101);
    }
    assert_eq!(server.metrics().refusals("address_limit"), 0.0);
}

#[test]
fn the_header_says_whose_connection_it_is() {
    let server = behind_a_proxy(&[]);
    let publish = "POST /channels/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for (header, status) in [
        (v1("203.0.113.9"), 403),
        (v2([203, 0, 113, 9]), 403),
        (b"PROXY UNKNOWN\r\n".to_vec(), 403),
        (local, 403),
        // A program on this machine that takes the way through the proxy.
        (v1("127.0.0.1"), 200),
        (v2([127, 0, 0, 1]), 200),
    ] {
        let whole = [&header, publish.as_bytes()].concat();
        let mut peer = connect_proxied(&server, &whole);
        assert_eq!(peer.response().status, status, "{header:?}");
        let mut peer = connect_proxied(&server, b"");
        for byte in &whole {
            peer.offer([*byte], Delivery::Whole);
        }
        assert_eq!(peer.response().status, status, "{header:?} byte by byte");
    }
    assert_eq!(server.metrics().refusals("proxy_header"), 0.0);
}

#[test]
fn a_trusted_proxy_is_no_program_on_this_machine() {
    let server = behind_a_proxy(&[]);
    let post =
        |peer: &mut Peer, headers: &str| peer.request("POST", "/channels/demo", headers).status;
    assert_eq!(post(&mut server.connect(), ""), 200);
    assert_eq!(post(&mut connect_forwarding(&server), ""), 403);
    let forwarded = "X-Forwarded-For: 127.0.0.1\r\n";
    assert_eq!(post(&mut connect_forwarding(&server), forwarded), 403);
    assert_eq!(post(&mut server.connect(), forwarded), 403);
    let mut behind_two = connect_proxied(&server, &v1("127.0.0.2"));
    assert_eq!(post(&mut behind_two, ""), 403);
}

#[test]
fn a_missing_or_bad_header_resets_the_connection() {
    let server = behind_a_proxy(&[]);
    let oversized = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    let bad: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PROXY TCP4 203.0.113.9 127.0.0.1 1 99999\r\n",
        b"\x16\x03\x01\x02",
        oversized,
    ];
    for header in bad {
        expect_reset(connect_proxied(&server, header), header);
    }
    // One that never comes, or not to its end.
    for part in [&b""[..], b"PROXY TCP4 "] {
        expect_reset(connect_proxied(&server, part), part);
    }
    wait_until("all are counted", || {
        server.metrics().refusals("proxy_header") >= 6.0
    });
}

#[test]
fn only_trusted_proxies_may_use_the_listener_for_them() {
    let server = behind_a_proxy(&[]);
    match Peer::try_connect(server.proxied_addr()) {
        Ok(mut peer) => {
            peer.offer(v1("203.0.113.9"), Delivery::Whole);
            expect_reset(peer, b"another address");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    wait_until("it is counted", || {
        server.metrics().refusals("untrusted_proxy") >= 1.0
    });
    // Nor is the header understood where it is not asked for.
    let mut peer = connect_forwarding(&server);
    peer.offer(v1("203.0.113.9"), Delivery::Whole);
    assert_eq!(peer.upgrade("").status, 400);
}
