//! One connection: what a shard remembers of it.

use thin_vec::ThinVec;

use crate::hub::{Dialect, Encoding, Framing, Outbox, Vitals};
use crate::metrics::CloseReason;
use crate::net::Socket;
use crate::proto::deflate::{DeflateParams, SlidingWindow};
use crate::proto::message::MessageReader;

use super::addresses::AddressPlace;
use super::client::{COMMANDS_IN_FLIGHT_MAX, Client};
use super::http::HttpStage;
use super::poll::PollStage;
use super::polled::PolledStage;
use super::receivers::StreamingReceiver;
use super::several::Several;

/// Publications of one client whose answers are outstanding before it is read no further.
pub(super) const PUBLICATIONS_IN_FLIGHT_MAX: u32 = 16;

/// A connection on the shard that accepted it.
///
/// An idle WebSocket is this entry, its descriptor, a wait in the kernel, a place in the wheel and 4
/// bytes in the channel's list: no task, no buffer, no queue. Everything else is boxed and exists only
/// while needed.
pub(super) struct Session {
    /// `None` for a session that is polled.
    pub socket: Option<Socket>,
    /// Its bytes are waited for.
    pub is_watched: bool,
    pub stage: Stage,
    /// Bytes the kernel would not take; `None` while it takes everything.
    pub outbox: Option<Box<Outbox>>,
    pub vitals: Vitals,
    pub subscription: Option<Subscription>,
    /// Its place among the connections of its client; `None` if it is not counted.
    pub place: Option<AddressPlace>,
}

const _: () = assert!(size_of::<Session>() <= 72);
// A listener to a stream costs no more than an idle WebSocket.
const _: () = assert!(size_of::<StreamStage>() <= size_of::<WebSocketStage>());
// Every Centrifuge client on a WebSocket has it.
const _: () = assert!(size_of::<Extras>() <= 112);

/// What a session is doing. Stages only go forward.
pub(super) enum Stage {
    /// HTTP requests, the first of which may upgrade.
    Http(Box<HttpStage>),
    /// An open WebSocket.
    WebSocket(WebSocketStage),
    /// A request that waits for a publication.
    Poll(Box<PollStage>),
    /// A response that goes on.
    Stream(StreamStage),
    /// Polls of SockJS, none of which is this session's own.
    Polled(Box<PolledStage>),
    /// Ending.
    Closing(Closing),
    /// Its HTTP stage is being worked on, outside the table.
    Busy,
}

/// An open WebSocket.
pub(super) struct WebSocketStage {
    pub reader: MessageReader,
    /// What a client needs that does more than listen to frames as they are.
    pub extras: Option<Box<Extras>>,
    /// When the message being received must be complete; 0 while there is none.
    pub message_deadline_s: u32,
    pub purpose: Purpose,
}

/// An HTTP response that goes on: what a client gets that cannot, or does not, use WebSockets.
pub(super) struct StreamStage {
    reader: StreamReader,
}

/// Who reads a response that goes on. Each has its framing, so that none takes more room than a WebSocket.
enum StreamReader {
    /// A listener of one channel.
    Listener { framing: Framing, token_s: u32 },
    /// A listener of several.
    Several {
        framing: Framing,
        token_s: u32,
        several: Box<Several>,
    },
    /// A client of the Centrifuge protocol.
    Client {
        framing: Framing,
        client: Box<Client>,
    },
    /// A client of SockJS, whose session is elsewhere.
    Receiver {
        framing: Framing,
        receiver: Box<StreamingReceiver>,
    },
}

impl StreamStage {
    /// Of a client of the Centrifuge protocol, or of a listener whose token ends at `token_s` of the shard's clock;
    /// 0 for never.
    pub fn new(framing: Framing, client: Option<Box<Client>>, token_s: u32) -> Self {
        let reader = match client {
            Some(client) => StreamReader::Client { framing, client },
            None => StreamReader::Listener { framing, token_s },
        };
        Self { reader }
    }

    /// Of a client of SockJS, whose session is elsewhere.
    pub fn receiving(framing: Framing, receiver: Box<StreamingReceiver>) -> Self {
        let reader = StreamReader::Receiver { framing, receiver };
        Self { reader }
    }

    /// What streams the frames of a session, if it does that.
    pub fn receiver(&self) -> Option<&StreamingReceiver> {
        match &self.reader {
            StreamReader::Receiver { receiver, .. } => Some(receiver),
            _ => None,
        }
    }

    /// Makes its listener one of several channels.
    pub fn set_several(&mut self, several: Box<Several>) {
        self.reader = StreamReader::Several {
            framing: self.framing(),
            token_s: self.token_s(),
            several,
        };
    }

    /// How messages are told apart in it.
    pub fn framing(&self) -> Framing {
        match &self.reader {
            StreamReader::Listener { framing, .. }
            | StreamReader::Several { framing, .. }
            | StreamReader::Receiver { framing, .. }
            | StreamReader::Client { framing, .. } => *framing,
        }
    }

    /// When its listener's token ends, in seconds of the shard's clock; 0 for never.
    pub fn token_s(&self) -> u32 {
        match &self.reader {
            StreamReader::Listener { token_s, .. } | StreamReader::Several { token_s, .. } => {
                *token_s
            }
            StreamReader::Client { .. } | StreamReader::Receiver { .. } => 0,
        }
    }

    fn client(&self) -> Option<&Client> {
        match &self.reader {
            StreamReader::Client { client, .. } => Some(client),
            _ => None,
        }
    }

    fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.reader {
            StreamReader::Client { client, .. } => Some(client),
            _ => None,
        }
    }

    fn several(&self) -> Option<&Several> {
        match &self.reader {
            StreamReader::Several { several, .. } => Some(several),
            _ => None,
        }
    }

    fn several_mut(&mut self) -> Option<&mut Several> {
        match &mut self.reader {
            StreamReader::Several { several, .. } => Some(several),
            _ => None,
        }
    }
}

/// What a client's messages mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It may not send any.
    Listen,
    /// They are published in its channel.
    Publish,
    /// They are sent back.
    Echo,
    /// They are commands of the Centrifuge protocol.
    Commands,
    /// They are frames of SockJS with such commands.
    SockJs,
}

/// What only some open WebSockets need.
#[derive(Default)]
pub(super) struct Extras {
    /// Publications of the client whose answers are outstanding.
    pub in_flight: u32,
    /// Of a listener: when its token ends, in seconds of the shard's clock; 0 for never.
    pub token_s: u32,
    /// Bytes received and not looked at; at most one read.
    pub unread: ThinVec<u8>,
    /// What was agreed on compression, if anything.
    pub deflate: Option<Deflate>,
    /// Of a client of the Centrifuge protocol.
    pub client: Option<Box<Client>>,
    /// Of a listener of several channels.
    pub several: Option<Box<Several>>,
}

/// Compression on one connection.
pub(super) struct Deflate {
    pub params: DeflateParams,
    /// What the client's messages may refer to, if that was agreed.
    pub client_window: Option<SlidingWindow>,
    /// What the server's messages may refer to, if that was agreed. Its messages are then its own.
    pub server_window: Option<SlidingWindow>,
}

impl Deflate {
    /// As agreed, with nothing said yet.
    pub fn new(params: DeflateParams) -> Self {
        let window = |no_takeover: bool, bits| (!no_takeover).then(|| SlidingWindow::new(bits));
        Self {
            client_window: window(
                params.client_no_context_takeover,
                params.client_window_bits(),
            ),
            server_window: window(
                params.server_no_context_takeover,
                params.server_window_bits(),
            ),
            params,
        }
    }
}

/// A session that ends.
pub(super) struct Closing {
    pub reader: MessageReader,
    /// When the connection is reset, whatever is missing.
    pub deadline_s: u32,
    pub reason: CloseReason,
    pub awaits: Awaits,
}

impl Closing {
    /// 1 if the session ends because it was not let in, else 0.
    pub fn is_refusal(&self) -> usize {
        usize::from(self.reason == CloseReason::Refused)
    }
}

/// What is missing to the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// The client's Close frame, in answer to ours.
    CloseFrame,
    /// The outbox to be sent; then this side ends TCP.
    Flush,
    /// The client to end TCP, after this side has.
    EndOfFile,
    /// The outbox to be sent; the client has ended its side already.
    LastFlush,
}

/// A session's place in a channel.
#[derive(Clone, Copy)]
pub(super) struct Subscription {
    /// The channel's place in the shard's table.
    pub channel: u32,
    /// The session's place in the channel's list.
    pub position: u32,
    /// The form in which it gets publications.
    pub encoding: Encoding,
}

impl Session {
    /// Its protocol's state, if it speaks one.
    pub fn client(&self) -> Option<&Client> {
        match &self.stage {
            Stage::WebSocket(websocket) => websocket.extras.as_ref()?.client.as_deref(),
            Stage::Stream(stream) => stream.client(),
            Stage::Polled(polled) => polled.client.as_deref(),
            _ => None,
        }
    }

    /// Its protocol's state, if it speaks one.
    pub fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.stage {
            Stage::WebSocket(websocket) => websocket.extras.as_mut()?.client.as_deref_mut(),
            Stage::Stream(stream) => stream.client_mut(),
            Stage::Polled(polled) => polled.client.as_deref_mut(),
            _ => None,
        }
    }

    /// Its place in the channel at `channel` of the shard's table.
    pub fn subscription_mut(&mut self, channel: u32) -> Option<&mut Subscription> {
        if self.subscription.is_some_and(|own| own.channel == channel) {
            return self.subscription.as_mut();
        }
        if self.client().is_none() {
            return self.several_mut()?.place_mut(channel);
        }
        let subscriptions = &mut self.client_mut()?.subscriptions;
        subscriptions
            .iter_mut()
            .map(|subscription| &mut subscription.place)
            .find(|place| place.channel == channel)
    }

    /// What streams the frames of another session, if it does that.
    pub fn receiver_mut(&mut self) -> Option<&mut StreamingReceiver> {
        match &mut self.stage {
            Stage::Stream(stream) => match &mut stream.reader {
                StreamReader::Receiver { receiver, .. } => Some(receiver),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where it stands in its channels, if it listens to several.
    pub fn several(&self) -> Option<&Several> {
        match &self.stage {
            Stage::Stream(stream) => stream.several(),
            Stage::WebSocket(websocket) => websocket.extras.as_ref()?.several.as_deref(),
            Stage::Poll(poll) => poll.several.as_deref(),
            _ => None,
        }
    }

    /// The same, to change it; also while its request waits.
    pub fn several_mut(&mut self) -> Option<&mut Several> {
        match &mut self.stage {
            Stage::Stream(stream) => stream.several_mut(),
            Stage::WebSocket(websocket) => websocket.extras.as_mut()?.several.as_deref_mut(),
            Stage::Poll(poll) => poll.several.as_deref_mut(),
            Stage::Http(http) => http.opening_mut(),
            _ => None,
        }
    }

    /// When a listener's token ends, in seconds of the shard's clock; `u32::MAX` for never.
    pub fn token_deadline_s(&self) -> u32 {
        let token_s = match &self.stage {
            Stage::Stream(stream) => stream.token_s(),
            Stage::WebSocket(websocket) => {
                let extras = websocket.extras.as_ref();
                extras.map_or(0, |extras| extras.token_s)
            }
            _ => 0,
        };
        if token_s == 0 { u32::MAX } else { token_s }
    }

    /// Whether it is told more than the data of publications, in JSON objects.
    pub fn is_told_all(&self) -> bool {
        let own = self.subscription.as_ref();
        own.is_some_and(|own| own.encoding.dialect == Dialect::Envelope)
            || self.several().is_some_and(Several::is_told_all)
    }

    /// Whether its publications are compressed for it alone.
    pub fn has_server_window(&self) -> bool {
        let Stage::WebSocket(websocket) = &self.stage else {
            return false;
        };
        let deflate = websocket
            .extras
            .as_ref()
            .and_then(|extras| extras.deflate.as_ref());
        deflate.is_some_and(|deflate| deflate.server_window.is_some())
    }

    /// True while nothing more may be read from the client.
    pub fn is_paused(&self) -> bool {
        match &self.stage {
            // A client that does not read its answers gets no further ones.
            Stage::Http(http) => http.is_paused() || self.outbox.is_some(),
            Stage::WebSocket(websocket) => websocket.is_paused(self.outbox.is_some()),
            // Its next requests have to wait; that it ends is noticed until they come.
            Stage::Poll(poll) => !poll.input.is_empty(),
            // Nothing is expected of it but its end.
            Stage::Stream(_) => false,
            Stage::Polled(_) => true,
            // It has ended its side: there is nothing more to read.
            Stage::Closing(closing) => closing.awaits == Awaits::LastFlush,
            Stage::Busy => false,
        }
    }
}

impl WebSocketStage {
    /// True while the client's next messages have to wait for its last ones.
    pub fn is_paused(&self, has_outbox: bool) -> bool {
        match (&self.extras, self.purpose) {
            (_, Purpose::Echo) => has_outbox,
            (None, _) => false,
            (Some(extras), Purpose::Commands | Purpose::SockJs) => {
                let waiting = extras
                    .client
                    .as_ref()
                    .map_or(0, |client| client.waiting.len());
                has_outbox || waiting >= COMMANDS_IN_FLIGHT_MAX
            }
            (Some(extras), _) => extras.in_flight >= PUBLICATIONS_IN_FLIGHT_MAX,
        }
    }

    pub fn deflate_mut(&mut self) -> Option<&mut Deflate> {
        self.extras.as_mut()?.deflate.as_mut()
    }
}
