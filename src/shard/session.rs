//! One connection: what a shard remembers of it.

use std::rc::Rc;
use std::task::Waker;

use crate::hub::{Outbox, Vitals};
use crate::metrics::CloseReason;
use crate::net::Stream;
use crate::proto::message::MessageReader;

use super::http::HttpStage;

/// Publications of one client whose answers are outstanding before it is read no further.
pub(super) const PUBLICATIONS_IN_FLIGHT_MAX: u32 = 16;

/// A connection on the shard that accepted it.
///
/// An idle WebSocket is this entry, its task, its descriptor and 4 bytes in the channel's list: no
/// buffer, no queue, no timer of its own. Everything else is boxed and exists only while needed.
pub(super) struct Session {
    /// Shared with the session's task, which waits on it.
    pub stream: Rc<Stream>,
    pub stage: Stage,
    /// Bytes the kernel would not take; `None` while it takes everything.
    pub outbox: Option<Box<Outbox>>,
    pub vitals: Vitals,
    pub subscription: Option<Subscription>,
}

const _: () = assert!(size_of::<Session>() <= 80);

/// What a session is doing. Stages only go forward.
pub(super) enum Stage {
    /// HTTP requests, the first of which may upgrade.
    Http(Box<HttpStage>),
    /// An open WebSocket.
    WebSocket(WebSocketStage),
    /// Ending.
    Closing(Closing),
    /// Its HTTP stage is being worked on, outside the table.
    Busy,
}

/// An open WebSocket.
pub(super) struct WebSocketStage {
    pub reader: MessageReader,
    /// What a client that sends needs; `None` for one that only listens.
    pub upstream: Option<Box<Upstream>>,
    /// When the message being received must be complete; 0 while there is none.
    pub message_deadline_s: u32,
    pub purpose: Purpose,
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
}

/// What a client sent and the server has not dealt with.
#[derive(Default)]
pub(super) struct Upstream {
    /// Publications whose answers are outstanding.
    pub in_flight: u32,
    /// Bytes received and not looked at; at most one read.
    pub unread: Vec<u8>,
    /// The session's task, while it waits.
    pub waker: Option<Waker>,
}

/// A session that ends.
pub(super) struct Closing {
    pub reader: MessageReader,
    /// When the connection is reset, whatever is missing.
    pub deadline_s: u32,
    pub reason: CloseReason,
    pub awaits: Awaits,
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
}

impl Session {
    /// True while nothing more may be read from the client.
    pub fn is_paused(&self) -> bool {
        match &self.stage {
            // A client that does not read its answers gets no further ones.
            Stage::Http(http) => http.is_paused() || self.outbox.is_some(),
            Stage::WebSocket(websocket) => websocket.is_paused(self.outbox.is_some()),
            Stage::Closing(_) | Stage::Busy => false,
        }
    }

    /// Remembers the task to wake when [`Self::is_paused`] may have changed.
    pub fn set_waker(&mut self, waker: Waker) {
        match &mut self.stage {
            Stage::Http(http) => http.waker = Some(waker),
            Stage::WebSocket(websocket) => {
                websocket.upstream.get_or_insert_default().waker = Some(waker);
            }
            Stage::Closing(_) | Stage::Busy => waker.wake(),
        }
    }

    /// Wakes the task if it waits.
    pub fn wake(&mut self) {
        let waker = match &mut self.stage {
            Stage::Http(http) => http.waker.take(),
            Stage::WebSocket(websocket) => {
                websocket.upstream.as_mut().and_then(|up| up.waker.take())
            }
            Stage::Closing(_) | Stage::Busy => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl WebSocketStage {
    /// True while the client's next messages have to wait for its last ones.
    pub fn is_paused(&self, has_outbox: bool) -> bool {
        match (&self.upstream, self.purpose) {
            (None, _) => false,
            (Some(_), Purpose::Echo) => has_outbox,
            (Some(up), _) => up.in_flight >= PUBLICATIONS_IN_FLIGHT_MAX,
        }
    }
}
