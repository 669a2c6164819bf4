//! The Centrifuge client protocol in JSON, as much of it as a client needs that subscribes and listens.

use longwire::auth::sign_hs256;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::args::{CentrifugeArgs, Protocol};
use crate::target::{channel_name_of, channel_number};

/// Answers a ping.
pub const PONG: &[u8] = b"{}";
/// The id of the connect command; those of subscriptions follow.
const CONNECT_ID: u32 = 1;

/// What clients of this protocol are like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Centrifuge {
    /// Signs their tokens; `None`: they have none.
    secret: Option<String>,
    user_bytes: usize,
    info_bytes: usize,
    /// Subscriptions of each connection, to as many channels.
    pub subscriptions: u32,
    /// Channels they are spread over, unless the run checks its messages and says so itself.
    pub channels: u32,
    /// Length of a channel's name, if that is longer than it takes.
    pub channel_bytes: usize,
    /// They recover what they missed while they were away.
    pub recover: bool,
}

/// Where a subscriber stands, to go on from there.
#[derive(Clone, Copy, Debug)]
pub struct Since<'a> {
    /// The run of offsets.
    pub epoch: &'a str,
    /// The last publication it has.
    pub offset: u64,
}

impl Centrifuge {
    /// As the command line says; `None` if it asks for another protocol.
    pub fn of(args: &CentrifugeArgs) -> Option<Self> {
        (args.protocol == Protocol::Centrifuge).then(|| Self {
            secret: args.hmac_secret.clone(),
            user_bytes: args.user_bytes,
            info_bytes: args.info_bytes,
            subscriptions: args.subscriptions,
            channels: 1,
            channel_bytes: args.channel_bytes,
            recover: false,
        })
    }

    /// Replies to what [`Self::connect`] and [`Self::subscribe`] say on a new connection.
    pub fn replies(&self) -> u32 {
        self.subscriptions + 1
    }

    /// The command a connection begins with.
    pub fn connect(&self, index: usize) -> String {
        let token = self
            .secret
            .as_deref()
            .and_then(|secret| sign_hs256(secret, &self.claims(index)).ok());
        match token {
            Some(token) => format!("{{\"id\":{CONNECT_ID},\"connect\":{{\"token\":\"{token}\"}}}}"),
            None => format!("{{\"id\":{CONNECT_ID},\"connect\":{{}}}}"),
        }
    }

    /// What a token says: a user, and information about it, of the lengths asked for.
    fn claims(&self, index: usize) -> String {
        let user = format!("{index:0width$}", width = self.user_bytes);
        if self.info_bytes == 0 {
            return format!("{{\"sub\":\"{user}\"}}");
        }
        // `{"name":"…"}` around it.
        let filling = "x".repeat(self.info_bytes.saturating_sub(11));
        format!("{{\"sub\":\"{user}\",\"info\":{{\"name\":\"{filling}\"}}}}")
    }

    /// The command that makes the `nth` subscription of a connection.
    pub fn subscribe(&self, nth: u32, channel: u32, since: Option<Since<'_>>) -> String {
        let (id, name) = (CONNECT_ID + 1 + nth, self.channel_name(channel));
        let wanted = "\"positioned\":true,\"recoverable\":true";
        match since {
            Some(Since { epoch, offset }) => format!(
                "{{\"id\":{id},\"subscribe\":{{\"channel\":\"{name}\",{wanted},\"recover\":true,\
                 \"offset\":{offset},\"epoch\":\"{epoch}\"}}}}"
            ),
            None => {
                format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"{name}\",{wanted}}}}}")
            }
        }
    }

    /// The channel's name.
    pub fn channel_name(&self, channel: u32) -> String {
        channel_name_of(channel, self.channel_bytes)
    }

    /// The channel of the `nth` subscription of the connection numbered `index`.
    pub fn channel_of(index: usize, nth: u32, channels: u32) -> u32 {
        // A remainder of a u32 fits one.
        ((index + nth as usize) % channels as usize) as u32
    }

    /// Which subscription of a connection is to this channel; `None` if none is.
    pub fn nth_of(&self, index: usize, channel: u32, channels: u32) -> Option<u32> {
        let first = Self::channel_of(index, 0, channels);
        let nth = (channel + channels - first) % channels;
        (channel < channels && nth < self.subscriptions).then_some(nth)
    }
}

/// What a server says.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants [`PONG`].
    Ping,
    /// The connection is accepted.
    Connected,
    /// A subscription is made.
    Subscribed {
        /// Which one of the connection.
        nth: u32,
        /// How it begins.
        subscribed: Subscribed<'a>,
    },
    /// A command was refused.
    Refused {
        /// The error's code.
        code: u32,
    },
    /// A publication.
    Publication {
        /// Its channel, if it is one of this program's.
        channel: Option<u32>,
        /// What was published.
        publication: Publication<'a>,
    },
    /// A subscription has ended.
    Unsubscribed {
        /// Its channel, if it is one of this program's.
        channel: Option<u32>,
    },
    /// Anything else.
    Other,
}

/// How a subscription begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Subscribed<'a> {
    /// It has a position.
    pub positioned: bool,
    /// It can go on from a position.
    pub recoverable: bool,
    /// The run of offsets.
    #[serde(borrow)]
    pub epoch: &'a str,
    /// Where it stands, before `publications`.
    pub offset: u64,
    /// It wanted to go on from a position.
    pub was_recovering: bool,
    /// It has all it missed.
    pub recovered: bool,
    /// What it missed.
    #[serde(borrow)]
    pub publications: Vec<Publication<'a>>,
}

/// A publication.
#[derive(Debug, Deserialize)]
pub struct Publication<'a> {
    /// Where it stands; 0 without a position.
    #[serde(default)]
    pub offset: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Publication<'_> {
    /// What was published, without the quotes that the protocol puts around text.
    pub fn payload(&self) -> &[u8] {
        let data = self.data.get().as_bytes();
        let inner = data.strip_prefix(b"\"").and_then(|d| d.strip_suffix(b"\""));
        inner.unwrap_or(data)
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    id: u32,
    #[serde(borrow)]
    connect: Option<&'a RawValue>,
    #[serde(borrow)]
    subscribe: Option<Subscribed<'a>>,
    #[serde(borrow)]
    push: Option<Pushed<'a>>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u32,
}

#[derive(Deserialize)]
struct Pushed<'a> {
    #[serde(default, borrow)]
    channel: &'a str,
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
    #[serde(borrow)]
    unsubscribe: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    fn message(self) -> Message<'a> {
        match self {
            Line {
                push: Some(push), ..
            } => push.message(),
            Line {
                error: Some(error), ..
            } => Message::Refused { code: error.code },
            Line {
                subscribe: Some(subscribed),
                id,
                ..
            } => id
                .checked_sub(CONNECT_ID + 1)
                .map_or(Message::Other, |nth| Message::Subscribed {
                    nth,
                    subscribed,
                }),
            Line {
                connect: Some(_), ..
            } => Message::Connected,
            Line { id: 0, .. } => Message::Ping,
            Line { .. } => Message::Other,
        }
    }
}

impl<'a> Pushed<'a> {
    fn message(self) -> Message<'a> {
        let channel = channel_number(self.channel);
        if let Some(publication) = self.publication {
            return Message::Publication {
                channel,
                publication,
            };
        }
        match self.unsubscribe {
            Some(_) => Message::Unsubscribed { channel },
            None => Message::Other,
        }
    }
}

/// The messages of a frame. What cannot be read is an error.
pub fn messages(frame: &[u8]) -> impl Iterator<Item = serde_json::Result<Message<'_>>> {
    let lines = frame.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Line<'_>>(line).map(Line::message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn centrifuge() -> Centrifuge {
        Centrifuge {
            secret: Some("secret".to_owned()),
            user_bytes: 16,
            info_bytes: 64,
            subscriptions: 3,
            channels: 5,
            channel_bytes: 16,
            recover: true,
        }
    }

    #[test]
    fn tokens_say_as_much_as_asked_for() {
        let claims: serde_json::Value = serde_json::from_str(&centrifuge().claims(77)).unwrap();
        assert_eq!(claims["sub"].as_str().unwrap().len(), 16);
        assert_eq!(claims["info"].to_string().len(), 64);
        let command: serde_json::Value = serde_json::from_str(&centrifuge().connect(77)).unwrap();
        let token = command["connect"]["token"].as_str().unwrap();
        assert_eq!(token.split('.').count(), 3);
    }

    #[test]
    fn subscriptions_of_a_connection_are_to_different_channels() {
        let clients = centrifuge();
        for index in 0..10 {
            for nth in 0..3 {
                let channel = Centrifuge::channel_of(index, nth, 5);
                assert_eq!(clients.nth_of(index, channel, 5), Some(nth));
            }
        }
        assert_eq!(clients.nth_of(0, 3, 5), None);
        assert_eq!(clients.nth_of(0, 7, 5), None);
        assert_eq!(clients.channel_name(42), "loadgen-00000042");
    }

    #[test]
    fn commands_are_json() {
        let since = Since {
            epoch: "ab",
            offset: 7,
        };
        let command = centrifuge().subscribe(1, 4, Some(since));
        let command: serde_json::Value = serde_json::from_str(&command).unwrap();
        assert_eq!(command["id"], 3);
        assert_eq!(command["subscribe"]["offset"], 7);
        let fresh = centrifuge().subscribe(0, 4, None);
        assert!(serde_json::from_str::<serde_json::Value>(&fresh).is_ok());
    }

    #[test]
    fn frames_hold_several_messages() {
        let frame = br#"{"id":1,"connect":{"client":"x","ping":25,"pong":true}}
{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"was_recovering":true,"recovered":true,"publications":[{"offset":8,"data":"lgx"}]}}
{}
{"push":{"channel":"loadgen-00000003","pub":{"data":{"a":1},"offset":9}}}
{"push":{"channel":"loadgen-3","unsubscribe":{"code":2500}}}
{"id":3,"error":{"code":103,"message":"permission denied"}}
{"push":{"channel":"x","join":{}}}
"#;
        let read: Vec<_> = messages(frame).map(Result::unwrap).collect();
        assert!(matches!(read[0], Message::Connected));
        let Message::Subscribed { nth: 0, subscribed } = &read[1] else {
            panic!("{:?}", read[1]);
        };
        assert_eq!((subscribed.epoch, subscribed.offset), ("e", 7));
        assert_eq!(subscribed.publications[0].payload(), b"lgx");
        assert!(matches!(read[2], Message::Ping));
        let Message::Publication {
            channel: Some(3),
            publication,
        } = &read[3]
        else {
            panic!("{:?}", read[3]);
        };
        assert_eq!(
            (publication.offset, publication.payload()),
            (9, &b"{\"a\":1}"[..])
        );
        assert!(matches!(
            read[4],
            Message::Unsubscribed { channel: Some(3) }
        ));
        assert!(matches!(read[5], Message::Refused { code: 103 }));
        assert!(matches!(read[6], Message::Other));
        assert!(messages(b"nonsense").next().unwrap().is_err());
    }
}
