//! Commands of clients whose connection only goes one way: they come by requests of their own, to whichever shard,
//! and go to the one that holds the session.

use bytes::Bytes;
use subtle::ConstantTimeEq;

use crate::hub::Key;
use crate::proto::centrifuge::Format;
use crate::proto::frame::Opcode;

use super::asks::AnswerTo;
use super::client::Client;
use super::inbox::{Asker, Message};
use super::{Core, scribe};

/// Commands of one client that wait for answers before it may send no further ones.
const COMMANDS_IN_FLIGHT_MAX: usize = 1024;

/// Commands that came by a request, for a session that cannot receive them itself.
#[derive(Debug)]
pub struct Emulated {
    /// The session's name, as its client was told it.
    pub session: Box<str>,
    /// The format of the commands.
    pub format: Format,
    /// A frame of commands.
    pub commands: Bytes,
}

/// The same on its way to the session's shard.
#[derive(Debug)]
pub struct Emulate {
    /// The request that waits for word of it.
    pub asker: Asker,
    /// What it brought.
    pub emulated: Emulated,
}

/// What became of commands that came by a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// They are being dealt with; answers come on the session's own connection.
    Accepted,
    /// Nobody has such a session.
    Unknown,
    /// Too much of that session, or between the shards, is under way.
    Busy,
}

/// Where a session is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    shard: u16,
    slot: u32,
}

/// A session's name: where it is, and what nobody can guess.
pub(super) fn session_name(shard: u16, slot: u32, secret: [u64; 2]) -> Box<str> {
    let [high, low] = secret;
    format!("{shard:04x}{slot:08x}{high:016x}{low:016x}").into()
}

/// Where the session called `name` is, if that is a name.
fn place_of(name: &str) -> Option<Place> {
    Some(Place {
        shard: u16::from_str_radix(name.get(..4)?, 16).ok()?,
        slot: u32::from_str_radix(name.get(4..12)?, 16).ok()?,
    })
}

impl Core {
    /// Brings commands to their session. What became of them, or nothing if another shard will say so.
    pub(super) fn emulate(&mut self, asker: Asker, emulated: Emulated) -> Option<Emulation> {
        let place = place_of(&emulated.session);
        let Some(shard) = place.map(|place| place.shard) else {
            return Some(Emulation::Unknown);
        };
        if shard == self.id {
            return Some(self.emulate_here(&emulated));
        }
        let Some(link) = self.links.get_mut(usize::from(shard)) else {
            return Some(Emulation::Unknown);
        };
        if !link.has_room(emulated.commands.len()) {
            return Some(Emulation::Busy);
        }
        link.send_data(Message::Emulate(Box::new(Emulate { asker, emulated })));
        None
    }

    /// Commands came for a session of this shard, by a request on another.
    pub(super) fn emulate_for(&mut self, from: u16, emulate: &Emulate) {
        let outcome = self.emulate_here(&emulate.emulated);
        self.answer_to(from, emulate.asker, AnswerTo::Emulation(outcome));
    }

    fn emulate_here(&mut self, emulated: &Emulated) -> Emulation {
        let Some(key) = self.session_called(&emulated.session) else {
            return Emulation::Unknown;
        };
        let opcode = scribe::opcode_of(emulated.format);
        self.emulate_for_key(key, opcode, &emulated.commands)
    }

    /// Commands came for a session of this shard.
    pub(super) fn emulate_for_key(
        &mut self,
        key: Key,
        opcode: Opcode,
        commands: &[u8],
    ) -> Emulation {
        let most_bytes = self.limits.outbox.hard_bytes;
        let Ok(client) = self.client_mut(key) else {
            return Emulation::Unknown;
        };
        let waiting = client.waiting.len();
        let held = &mut client.rare_mut().command_bytes;
        if waiting == 0 {
            *held = 0;
        }
        *held += commands.len();
        if waiting >= COMMANDS_IN_FLIGHT_MAX || (waiting > 0 && *held > most_bytes) {
            *held -= commands.len();
            return Emulation::Busy;
        }
        let now_s = self.now_s();
        if let Some(session) = self.sessions.get_mut(key) {
            session.vitals.received(now_s);
        }
        self.receive_commands(key, opcode, commands);
        Emulation::Accepted
    }

    /// The session of this shard with that name. How long it takes says nothing about names that are near.
    fn session_called(&self, name: &str) -> Option<Key> {
        let key = self.sessions.key_at(place_of(name)?.slot)?;
        let own = session_of(self.client(key).ok()?)?;
        bool::from(own.as_bytes().ct_eq(name.as_bytes())).then_some(key)
    }
}

fn session_of(client: &Client) -> Option<&str> {
    client.rare.as_ref()?.session.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::shard::testing::{Bed, Client as Peer, with_cores};

    const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

    fn post(path: &str, body: &str) -> String {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    /// A stream on a shard, and the name of its session.
    fn stream(bed: &mut Bed, shard: usize) -> (Peer, String) {
        let mut peer = bed.connect(shard);
        bed.say(
            &mut peer,
            post("/connection/http_stream", CONNECT).as_bytes(),
        );
        assert!(peer.head().starts_with("HTTP/1.1 200 "));
        let reply = line(&mut peer);
        let (_, rest) = reply.split_once("\"session\":\"").unwrap();
        (peer, rest.split('"').next().unwrap().to_owned())
    }

    fn line(peer: &mut Peer) -> String {
        String::from_utf8(peer.chunk()).unwrap()
    }

    fn emulate(bed: &mut Bed, shard: usize, session: &str, data: &str) -> String {
        let data = data.replace('"', "\\\"");
        let body = format!(r#"{{"session":"{session}","node":"test","data":"{data}"}}"#);
        let mut peer = bed.connect(shard);
        bed.say(&mut peer, post("/emulation", &body).as_bytes());
        bed.pass_messages();
        peer.head()
    }

    #[test]
    fn a_name_says_where_its_session_is() {
        let name = session_name(3, 70_000, [1, 2]);
        assert_eq!(name.len(), 44);
        let place = Place {
            shard: 3,
            slot: 70_000,
        };
        assert_eq!(place_of(&name), Some(place));
        for bad in ["", "0", "00030001117", "zzzz00000000", "ééééééééé"] {
            assert_eq!(place_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn commands_reach_their_session_from_every_shard() {
        with_cores(2, Config::default(), |bed| {
            let channels = [bed.channel_of(0), bed.channel_of(1)];
            let (mut peer, session) = stream(bed, 0);
            for (shard, channel) in channels.iter().enumerate() {
                let command = format!(
                    r#"{{"id":{},"subscribe":{{"channel":"{channel}"}}}}"#,
                    shard + 2
                );
                let head = emulate(bed, shard, &session, &command);
                assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
                let reply = line(&mut peer);
                assert!(
                    reply.starts_with(&format!(r#"{{"id":{},"subscribe""#, shard + 2)),
                    "{reply}"
                );
            }
        });
    }

    #[test]
    fn nobody_has_a_session_by_half_its_name() {
        with_cores(2, Config::default(), |bed| {
            let (_peer, session) = stream(bed, 0);
            let wrong = [
                format!("{}{:032x}", &session[..12], 0),
                session[..12].to_owned(),
                format!("00ff{}", &session[4..]),
                format!("0001{}", &session[4..]),
                String::new(),
            ];
            for shard in 0..2 {
                for name in &wrong {
                    let head = emulate(bed, shard, name, "{}");
                    assert!(head.starts_with("HTTP/1.1 404 "), "{name}: {head}");
                }
            }
        });
    }

    #[test]
    fn a_session_that_ended_is_unknown() {
        with_cores(1, Config::default(), |bed| {
            let (peer, session) = stream(bed, 0);
            let key = peer.key;
            peer.reset();
            bed.receive_at(0, key);
            let head = emulate(bed, 0, &session, "{}");
            assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        });
    }

    #[test]
    fn a_stream_without_pongs_is_given_up() {
        with_cores(1, Config::default(), |bed| {
            let (peer, _) = stream(bed, 0);
            bed.pass_seconds(40);
            assert!(bed.cores[0].sessions.get(peer.key).is_none());
        });
    }

    #[test]
    fn pongs_come_by_requests() {
        with_cores(1, Config::default(), |bed| {
            let (mut peer, session) = stream(bed, 0);
            for _ in 0..4 {
                while bed.cores[0]
                    .client(peer.key)
                    .is_ok_and(|client| !client.owes_pong)
                {
                    bed.pass_seconds(1);
                }
                assert_eq!(line(&mut peer), "{}\n");
                let head = emulate(bed, 0, &session, "{}");
                assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
            }
            assert!(bed.cores[0].sessions.get(peer.key).is_some());
        });
    }
}
