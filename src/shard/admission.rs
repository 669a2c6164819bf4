//! Who is let in: bounds on connections, on each client's share of them, on handshakes and on memory.
//! Whoever is not is told so, with a time to come back that differs from client to client.

use std::net::{IpAddr, SocketAddr};

use crate::hub::Key;
use crate::memory::Pressure;
use crate::metrics::{CloseReason, RefusalReason};
use crate::net::Socket;
use crate::proto::http::{Request, forwarded_for};
use crate::proto::proxy::ProxiedClient;

use super::addresses::AddressPlace;
use super::http::HttpStage;
use super::session::Stage;
use super::{Core, Reply};

/// Connections that are being refused, at a time. They are not among those the shard is to hold, and
/// their descriptors come out of the reserve.
const REFUSALS_AT_ONCE: usize = 32;
/// Time for the PROXY protocol's header: the proxy sends it before anything else.
const PROXY_HEADER_TIMEOUT_S: u32 = 3;
/// Places of the session table looked at per second for large outboxes, while memory is short.
const SHED_PLACES: usize = 16_384;
/// Sessions closed per second for the size of their outboxes.
const SHED_AT_ONCE: usize = 64;

impl Core {
    /// False while so many connections are being refused that another could not be told.
    pub(super) fn may_accept(&self) -> bool {
        self.sessions.len() < self.shared.connections_per_shard + REFUSALS_AT_ONCE
    }

    /// True when room for connections has become less by half since the last time, or none is left.
    pub(super) fn is_filling(&mut self) -> bool {
        let room = self.room();
        let told = self.room_told.max(room);
        let is_filling = room <= told / 2 && told > 0;
        self.room_told = if is_filling { room } else { told };
        is_filling
    }

    fn room(&self) -> usize {
        let connections = self.sessions.len() - self.refusing;
        self.shared
            .connections_per_shard
            .saturating_sub(connections)
    }

    /// A connection has been accepted; `proxied` if a PROXY protocol header must come first. `None` if
    /// it is over already.
    pub(super) fn accept(
        &mut self,
        socket: Socket,
        peer: SocketAddr,
        proxied: bool,
    ) -> Option<Key> {
        self.metrics.accepts.add(1);
        let address = peer.ip().to_canonical();
        let is_proxy = self.shared.trusts(address);
        if proxied && !is_proxy {
            self.refuse_connection(RefusalReason::UntrustedProxy, Some(address));
            socket.reset_on_close();
            return None;
        }
        let place = match self.room_for(address) {
            Ok(place) => place,
            Err(reason) => return self.turn_away(socket, address, reason),
        };
        let timeout_s = match proxied {
            true => PROXY_HEADER_TIMEOUT_S,
            false => self.limits.ready_timeout_s,
        };
        let deadline_s = self.now_s() + timeout_s;
        let stage = HttpStage::new(address, is_proxy, proxied, deadline_s);
        Some(self.admit(socket, stage, place))
    }

    fn room_for(&self, address: IpAddr) -> Result<Option<AddressPlace>, RefusalReason> {
        if self.is_draining {
            Err(RefusalReason::Draining)
        } else if self.room() == 0 {
            Err(RefusalReason::ConnectionLimit)
        } else if self.shared.memory.pressure() >= Pressure::High {
            Err(RefusalReason::Memory)
        } else {
            self.take_place(address)
        }
    }

    /// Counts a connection of `address`, unless it is exempt.
    fn take_place(&self, address: IpAddr) -> Result<Option<AddressPlace>, RefusalReason> {
        let limit = self.shared.config.admission.connections_per_address;
        if limit == 0 || address.is_loopback() || self.shared.trusts(address) {
            return Ok(None);
        }
        match self.shared.addresses.take(address, limit) {
            Some(place) => Ok(Some(place)),
            None => Err(RefusalReason::AddressLimit),
        }
    }

    /// Tells a connection that it is not let in, and waits for it to go: closing at once could reset it
    /// before it has read the answer. When too many linger already, that risk is taken.
    fn turn_away(&mut self, socket: Socket, address: IpAddr, reason: RefusalReason) -> Option<Key> {
        let must_hurry = self.refusing >= REFUSALS_AT_ONCE;
        let deadline_s = self.now_s() + self.limits.ready_timeout_s;
        let stage = HttpStage::new(address, false, false, deadline_s);
        let key = self.admit(socket, stage, None);
        let reply = self.refusal(reason, Some(address));
        self.reply_and_finish(key, &reply, CloseReason::Refused);
        if must_hurry {
            self.end(key, CloseReason::Refused, false);
        }
        self.sessions.get(key).is_some().then_some(key)
    }

    /// Counts a refusal and forms its answer.
    fn refusal(&mut self, reason: RefusalReason, address: Option<IpAddr>) -> Reply {
        self.refuse_connection(reason, address);
        let retry_s = self.random.u32(1..=10);
        Reply::text(503, explain(reason))
            .with("Retry-After", retry_s.to_string())
            .closing()
    }

    /// Counts a connection that was not let in.
    pub(super) fn refuse_connection(&mut self, reason: RefusalReason, address: Option<IpAddr>) {
        self.metrics.refused(reason);
        self.peer_log.refused(reason, address, self.clock.now_s());
    }

    /// Notes a page that was refused for its origin.
    pub(crate) fn refuse_page(&mut self, origin: &str) {
        self.peer_log.page_refused(origin, self.clock.now_s());
    }

    /// Admits a WebSocket handshake, by the shard's rate.
    pub(super) fn admit_handshake(&mut self) -> Result<(), Reply> {
        let limit = self.shared.config.admission.handshakes_per_s;
        if limit == 0 || self.handshakes.take(limit, self.clock.now_ms()) {
            return Ok(());
        }
        Err(self.refusal(RefusalReason::HandshakeRate, None))
    }

    /// A proxy said whose connection it is.
    pub(super) fn proxied(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        client: ProxiedClient,
    ) -> Result<(), Reply> {
        http.deadline_s = self.now_s() + self.limits.ready_timeout_s;
        if let ProxiedClient::Tcp { source, .. } = client {
            let address = source.ip().to_canonical();
            http.peer = address;
            http.client = address;
            http.is_proxy = self.shared.trusts(address);
            self.count_client(key, address)?;
        }
        Ok(())
    }

    /// A request came: whose is it? Behind a proxy every request may be another client's.
    pub(super) fn identify(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        request: &Request<'_>,
    ) -> Result<(), Reply> {
        if !http.is_proxy {
            return Ok(());
        }
        let lines: Vec<&[u8]> = request.headers("x-forwarded-for").collect();
        http.client = forwarded_for(http.peer, &lines, |address| self.shared.trusts(address));
        self.count_client(key, http.client)
    }

    /// Counts a proxy's connection as one of `address`, for as long as that client uses it.
    fn count_client(&mut self, key: Key, address: IpAddr) -> Result<(), Reply> {
        self.release_place(key);
        match self.take_place(address) {
            Ok(place) => {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.place = place;
                }
                Ok(())
            }
            Err(reason) => Err(self.refusal(reason, Some(address))),
        }
    }

    /// The session no longer counts as one of its client's.
    pub(super) fn release_place(&mut self, key: Key) {
        let place = self.sessions.get_mut(key).and_then(|s| s.place.take());
        if let Some(place) = place {
            self.shared.addresses.give_back(place);
        }
    }

    /// No PROXY protocol header came where there must be one.
    pub(super) fn end_unproxied(&mut self, key: Key) {
        let peer = match self.stage(key) {
            Some(Stage::Http(http)) => Some(http.peer),
            _ => None,
        };
        self.refuse_connection(RefusalReason::ProxyHeader, peer);
        self.end(key, CloseReason::Refused, true);
    }

    /// Once a second: makes room while memory is short.
    pub(super) fn relieve_memory(&mut self) {
        let pressure = self.shared.memory.pressure();
        if pressure >= Pressure::Critical {
            self.shed();
        }
        if pressure >= Pressure::High {
            self.shared.memory.collect();
        }
    }

    /// Closes the slowest readers, a few at a time.
    fn shed(&mut self) {
        let places = self.sessions.places();
        let mut largest = Vec::new();
        for _ in 0..places.min(SHED_PLACES) {
            self.shed_slot = (self.shed_slot + 1) % places as u32;
            if let Some((key, session)) = self.sessions.at_mut(self.shed_slot)
                && let Some(outbox) = &session.outbox
            {
                largest.push((outbox.bytes(), key));
            }
        }
        largest.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, key) in largest.into_iter().take(SHED_AT_ONCE) {
            self.close_slow_reader(key);
        }
    }
}

fn explain(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::ConnectionLimit | RefusalReason::Descriptors => {
            "no room for another connection"
        }
        RefusalReason::AddressLimit => "too many connections from this address",
        RefusalReason::HandshakeRate => "too many handshakes at once",
        RefusalReason::Memory => "short of memory",
        RefusalReason::Draining => "the server is shutting down",
        RefusalReason::UntrustedProxy | RefusalReason::ProxyHeader => "not a trusted proxy",
    }
}

/// Lets so many pass per second, in a burst at most as many as in one second.
#[derive(Debug, Default)]
pub(super) struct TokenBucket {
    /// Thousandths of a token used up; 0 in a full bucket.
    used_milli: u64,
    /// When that was so.
    at_ms: u64,
}

impl TokenBucket {
    /// Takes a token if there is one at `now_ms`.
    pub fn take(&mut self, per_s: u32, now_ms: u64) -> bool {
        let per_s = u64::from(per_s);
        // So many thousandths come back each millisecond.
        let returned = now_ms.saturating_sub(self.at_ms).saturating_mul(per_s);
        self.used_milli = self.used_milli.saturating_sub(returned);
        self.at_ms = now_ms;
        if self.used_milli + 1000 > per_s * 1000 {
            return false;
        }
        self.used_milli += 1000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Admission, Config};
    use crate::shard::testing::{Bed, Client, upgrade, with_cores};
    use proptest::prelude::*;
    use std::io::Read;
    use std::net::Shutdown;

    /// Everybody here is a proxy.
    fn behind_proxies() -> Config {
        Config {
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
            admission: Admission {
                connections_per_address: 2,
                ..Admission::default()
            },
            ..Config::default()
        }
    }

    fn forwarded(request: &str, client: &str) -> String {
        request.replacen("\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n"), 1)
    }

    /// A WebSocket of the client at 203.0.113.1, behind a proxy.
    fn open(bed: &mut Bed) -> Client {
        let mut client = bed.connect(0);
        let request = forwarded(&upgrade("/channels/demo"), "203.0.113.1");
        bed.say(&mut client, request.as_bytes());
        bed.pass_messages();
        client
    }

    /// What is left behind when everything is over.
    fn assert_nothing_held(bed: &Bed) {
        let core = &bed.cores[0];
        assert_eq!((core.sessions.len(), core.refusing), (0, 0));
        assert_eq!(core.shared.addresses.held(), 0);
    }

    #[test]
    fn a_place_comes_back_however_its_session_ends() {
        let ends: [fn(&mut Bed, Client); 5] = [
            |bed, client| {
                client.socket.shutdown(Shutdown::Write).unwrap();
                bed.receive(&client);
            },
            |bed, client| {
                let key = client.key;
                client.reset();
                bed.cores[0].broken(key);
            },
            |bed, mut client| {
                // A frame that is not masked.
                bed.say(&mut client, b"\x81\x01x");
                client.socket.shutdown(Shutdown::Write).unwrap();
                bed.receive(&client);
            },
            // Pings are never answered.
            |bed, _client| bed.pass_seconds(100),
            |bed, _client| {
                bed.cores[0].begin_drain();
                bed.cores[0].close_some(1, false);
                bed.pass_seconds(10);
            },
        ];
        for end in ends {
            with_cores(1, behind_proxies(), |bed| {
                let client = open(bed);
                assert_eq!(bed.cores[0].shared.addresses.held(), 1);
                end(bed, client);
                assert_nothing_held(bed);
            });
        }
    }

    #[test]
    fn a_refused_client_holds_nothing_when_it_is_gone() {
        with_cores(1, behind_proxies(), |bed| {
            let clients = [open(bed), open(bed), open(bed)];
            assert_eq!(bed.cores[0].shared.addresses.held(), 2);
            for client in &clients {
                client.socket.shutdown(Shutdown::Write).unwrap();
                bed.receive(client);
            }
            assert_nothing_held(bed);
        });
    }

    #[test]
    fn a_request_of_a_proxy_counts_for_its_client_until_its_answer() {
        let config = Config {
            insecure: true,
            ..behind_proxies()
        };
        with_cores(2, config, |bed| {
            let mut proxy = bed.connect(0);
            let channel = bed.channel_of(1);
            let publish = format!(
                "POST /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
            );
            for client in ["203.0.113.1", "203.0.113.2"] {
                bed.say(&mut proxy, forwarded(&publish, client).as_bytes());
                assert_eq!(bed.cores[0].shared.addresses.held(), 1);
                bed.pass_messages();
                assert_eq!(bed.cores[0].shared.addresses.held(), 0);
            }
            assert!(proxy.head().starts_with("HTTP/1.1 200 "));
        });
    }

    #[test]
    fn of_many_that_are_refused_a_few_linger_and_all_are_told() {
        let config = Config {
            admission: Admission {
                memory_bytes: 1,
                ..Admission::default()
            },
            ..Config::default()
        };
        with_cores(1, config, |bed| {
            bed.cores[0].shared.memory.sample();
            let clients: Vec<_> = (0..2 * REFUSALS_AT_ONCE).map(|_| bed.dial(0)).collect();
            assert_eq!(bed.cores[0].sessions.len(), REFUSALS_AT_ONCE);
            for (_, mut socket) in clients {
                let mut answer = [0; 12];
                socket.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"HTTP/1.1 503");
            }
            bed.pass_seconds(10);
            assert_nothing_held(bed);
        });
    }

    #[test]
    fn the_largest_outboxes_are_given_up_while_memory_is_nearly_used_up() {
        with_cores(1, Config::default(), |bed| {
            let reader = bed.websocket(0, "/channels/small");
            let slow = bed.websocket(0, "/channels/large");
            bed.cores[0].send(slow.key, vec![0; 100_000]);
            bed.cores[0].relieve_memory();
            let is_open = |bed: &Bed, client: &Client| {
                matches!(bed.cores[0].stage(client.key), Some(Stage::WebSocket(_)))
            };
            assert!(is_open(bed, &slow));
            bed.cores[0].shed();
            assert!(!is_open(bed, &slow) && is_open(bed, &reader));
        });
    }

    fn taken(bucket: &mut TokenBucket, per_s: u32, now_ms: u64, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(per_s, now_ms)).count()
    }

    #[test]
    fn a_full_bucket_holds_one_second() {
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, 10, 0, 50), 10);
        assert_eq!(taken(&mut bucket, 10, 99, 50), 0);
        assert_eq!(taken(&mut bucket, 10, 100, 50), 1);
        assert_eq!(taken(&mut bucket, 10, 350, 50), 2);
        assert_eq!(taken(&mut bucket, 10, 399, 50), 0);
        assert_eq!(taken(&mut bucket, 10, 400, 50), 1);
        assert_eq!(taken(&mut bucket, 10, 90_000, 50), 10);
    }

    proptest! {
        #[test]
        fn any_second_has_at_most_two_bursts_and_no_token_is_lost(
            per_s in 1u32..2_000,
            steps in prop::collection::vec((0u64..1_500, 0usize..50), 1..50),
        ) {
            let mut bucket = TokenBucket::default();
            let (mut now_ms, mut all) = (0, 0);
            for (step_ms, tries) in steps {
                now_ms += step_ms;
                all += taken(&mut bucket, per_s, now_ms, tries) as u64;
                prop_assert!(all * 1000 <= u64::from(per_s) * (1000 + now_ms));
            }
            now_ms += 1000;
            prop_assert_eq!(taken(&mut bucket, per_s, now_ms, 3_000), per_s as usize);
        }
    }
}
