//! Sends that need not go at once: they gather, and go to the kernel together.
//!
//! For many sockets that costs less than a call for each, and whoever reads on the same cores is woken once in a while
//! instead of once for each message. What is planned is sent before the core is left; what is sent at once meanwhile, to
//! whomever, comes after it, and so does the end of a session. So a client sees everything in the order in which it came
//! up.

use std::io;

use bytes::Bytes;

use crate::hub::Key;
use crate::net::{Burst, Outgoing, Socket};

use super::Core;
use super::client::{Client, Progress};
use super::send::Sent;
use super::session::Session;

/// Sends that wait for each other.
pub(super) struct Sends {
    burst: Burst,
    planned: Vec<Planned>,
    /// What became of each; empty between bursts. Of one that could not go with the others, nothing.
    results: Vec<Option<io::Result<usize>>>,
    /// The same, once its session knows; empty between bursts.
    sent: Vec<Option<Sent>>,
}

struct Planned {
    key: Key,
    bytes: Bytes,
    cargo: Cargo,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cargo {
    /// So many publications.
    Publications(u32),
    /// A ping, or the answer that opens a connection.
    Other,
}

impl Sends {
    /// None yet.
    pub(super) fn new(burst: Burst) -> Self {
        Self {
            burst,
            planned: Vec::with_capacity(Burst::SENDS_MAX),
            results: Vec::with_capacity(Burst::SENDS_MAX),
            sent: Vec::with_capacity(Burst::SENDS_MAX),
        }
    }
}

impl Core {
    /// Plans to send `bytes` to a session: with the next [`Self::make_sends`], before anything else is sent, and before
    /// the core is left. Not twice to one session: should its socket take a part of the first, the second must not
    /// follow.
    pub(super) fn plan_send(&mut self, key: Key, bytes: Bytes, cargo: Cargo) {
        debug_assert!(self.sends.planned.iter().all(|one| one.key != key));
        self.sends.planned.push(Planned { key, bytes, cargo });
        if self.sends.planned.len() >= Burst::SENDS_MAX {
            self.make_sends();
        }
    }

    /// Makes the sends that were planned.
    pub(super) fn make_sends(&mut self) {
        while !self.sends.planned.is_empty() {
            let mut planned = std::mem::take(&mut self.sends.planned);
            match &planned[..] {
                [one] => self.send_cargo(one.key, &one.bytes, one.cargo),
                many => self.make_burst(many),
            }
            planned.clear();
            // What came of them may have planned others.
            if self.sends.planned.is_empty() {
                self.sends.planned = planned;
            }
        }
    }

    fn make_burst(&mut self, planned: &[Planned]) {
        self.hand_over(planned);
        // All sessions know what they have sent before anything is done because of it, which may be about another one.
        self.note_results(planned);
        let mut sent = std::mem::take(&mut self.sends.sent);
        for (one, sent) in planned.iter().zip(sent.drain(..)) {
            match sent {
                Some(sent) => self.note_sent(one.key, sent, one.cargo),
                // It is kept until its client has connected. Or nobody is there any more.
                None => self.send_cargo(one.key, &one.bytes, one.cargo),
            }
        }
        self.sends.sent = sent;
    }

    fn hand_over(&mut self, planned: &[Planned]) {
        let results = &mut self.sends.results;
        results.resize_with(planned.len(), || None);
        let outgoing = planned.iter().enumerate().filter_map(|(place, one)| {
            Some(Outgoing {
                tag: place,
                socket: free_socket(self.sessions.get(one.key)?, one.cargo)?,
                bytes: &one.bytes,
            })
        });
        self.sends
            .burst
            .send(outgoing, |place, result| results[place] = Some(result));
    }

    fn note_results(&mut self, planned: &[Planned]) {
        let now_s = self.now_s();
        let Self {
            sends,
            sessions,
            limits,
            ..
        } = self;
        let sent = planned
            .iter()
            .zip(sends.results.drain(..))
            .map(|(one, result)| {
                let session = sessions.get_mut(one.key)?;
                let Some(taken) = result else {
                    // It has bytes that go before, or no socket.
                    return (!must_wait(session, one.cargo))
                        .then(|| Self::send_to(session, &one.bytes, &limits.outbox, now_s));
                };
                session.vitals.sent(now_s);
                let sent = Self::note_taken(session, &one.bytes, taken, &limits.outbox, now_s);
                Some(sent)
            });
        sends.sent.extend(sent);
    }
}

/// The socket of a session, if `cargo` may go to it at once.
fn free_socket(session: &Session, cargo: Cargo) -> Option<&Socket> {
    let is_free = session.outbox.is_none() && !must_wait(session, cargo);
    session.socket.as_ref().filter(|_| is_free)
}

/// True of publications while a client's request to connect is not answered.
fn must_wait(session: &Session, cargo: Cargo) -> bool {
    let is_connecting = |client: &Client| client.progress == Progress::Connecting;
    cargo != Cargo::Other && session.client().is_some_and(is_connecting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::metrics::CloseReason;
    use crate::proto::close::CloseCode;
    use crate::shard::testing::{Bed, Client, SEND_BUFFER_BYTES, with_cores};

    const PATH: &str = "/channels/a";

    /// A whole frame with this payload, of 125 bytes at the most.
    fn frame(payload: &[u8]) -> Bytes {
        let mut frame = vec![0x82, payload.len() as u8];
        frame.extend_from_slice(payload);
        frame.into()
    }

    fn plan(bed: &mut Bed, client: &Client, bytes: Bytes) {
        bed.cores[0].plan_send(client.key, bytes, Cargo::Publications(1));
    }

    /// Bytes that wait for a session's socket.
    fn waiting(bed: &Bed, key: Key) -> usize {
        let outbox = bed.cores[0].sessions.get(key).unwrap().outbox.as_ref();
        outbox.map_or(0, |outbox| outbox.bytes())
    }

    #[test]
    fn each_gets_its_own_in_order() {
        const CLIENTS: usize = Burst::SENDS_MAX + 10;
        with_cores(1, Config::default(), |bed| {
            let mut clients: Vec<Client> = (0..CLIENTS).map(|_| bed.websocket(0, PATH)).collect();
            let before = bed.cores[0].metrics.deliveries.get();
            for round in 0..2 {
                for (number, client) in clients.iter().enumerate() {
                    plan(bed, client, frame(&[number as u8, round]));
                }
                bed.cores[0].make_sends();
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.message(), [number as u8, 0]);
                assert_eq!(client.message(), [number as u8, 1]);
            }
            let after = bed.cores[0].metrics.deliveries.get();
            assert_eq!(after - before, 2 * CLIENTS as u64);
        });
    }

    #[test]
    fn what_goes_at_once_comes_after_what_was_planned() {
        with_cores(1, Config::default(), |bed| {
            let names = ["sent", "closed", "published", "ended"];
            let mut clients = names.map(|name| bed.websocket(0, &format!("/channels/{name}")));
            for client in &clients {
                plan(bed, client, frame(b"planned"));
            }
            let core = &mut bed.cores[0];
            core.send(clients[0].key, frame(b"sent"));
            plan(bed, &clients[1], frame(b"planned too"));
            let core = &mut bed.cores[0];
            core.close(
                clients[1].key,
                CloseCode::GoingAway,
                "",
                CloseReason::GoingAway,
            );
            plan(bed, &clients[2], frame(b"planned too"));
            let core = &mut bed.cores[0];
            core.end(clients[3].key, CloseReason::GoingAway, false);
            assert_eq!(bed.post(0, "/channels/published", "", "published").0, 200);
            bed.settle();

            for client in &mut clients {
                assert_eq!(client.message(), b"planned");
            }
            assert_eq!(clients[0].message(), b"sent");
            assert_eq!(clients[1].message(), b"planned too");
            assert_eq!(clients[1].frame().0, 0x88);
            assert_eq!(clients[2].message(), b"planned too");
            assert_eq!(clients[2].message(), b"published");
        });
    }

    #[test]
    fn whoever_cannot_take_its_own_keeps_nobody() {
        with_cores(1, Config::default(), |bed| {
            let names = ["full", "broken", "ended", "behind", "fine"];
            let [full, broken, ended, behind, mut fine] =
                names.map(|name| bed.websocket(0, &format!("/channels/{name}")));
            let big = Bytes::from(vec![7; 50 * SEND_BUFFER_BYTES]);
            bed.cores[0].send(behind.key, big.clone());
            let resets = |bed: &Bed| bed.cores[0].metrics.closes(CloseReason::PeerReset);
            let before = resets(bed);
            let broken_key = broken.key;
            broken.reset();
            bed.cores[0].end(ended.key, CloseReason::Client, false);
            for client in [&full, &ended] {
                plan(bed, client, big.clone());
            }
            let before_it = waiting(bed, behind.key);
            plan(bed, &behind, frame(b"behind"));
            bed.cores[0].plan_send(broken_key, big.clone(), Cargo::Publications(1));
            plan(bed, &fine, frame(b"fine"));
            bed.cores[0].make_sends();

            assert_eq!(fine.message(), b"fine");
            assert!((1..big.len()).contains(&waiting(bed, full.key)));
            let behind_it = waiting(bed, behind.key) - before_it;
            assert!(before_it > 0 && behind_it == frame(b"behind").len());
            assert!(bed.cores[0].sessions.get(broken_key).is_none());
            assert_eq!(resets(bed) - before, 1);
        });
    }
}
