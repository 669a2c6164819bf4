//! A session's HTTP stage: from bytes to whole requests.

use std::net::IpAddr;

use crate::hub::{Position, Refused};
use crate::proto::http::{
    BodyLength, ChunkedReader, HeadLimits, HeadScanner, HttpError, Request, parse_request,
};
use crate::proto::proxy::{NotAProxyHeader, ProxiedClient, parse_proxy_header};

use super::jwks::AwaitingKeys;
use super::upgrade::{Awaiting, Upgrade};
use super::{Headers, Reply, gather};

/// Bytes of heads and bodies of a connection that may wait beyond the request being received.
const PIPELINED_BYTES_MAX: usize = 256 * 1024;

/// Forms the answer to a publication.
pub type PublishReply = fn(Result<Position, Refused>) -> Reply;

/// Everything a connection needs until it is a WebSocket, in one box that is dropped then.
pub(super) struct HttpStage {
    /// Received, not consumed.
    pub input: Vec<u8>,
    pub scanner: HeadScanner,
    pub phase: Phase,
    /// Requests answered.
    pub served: u32,
    /// Where the connection comes from, by TCP or by the PROXY protocol.
    pub peer: IpAddr,
    /// `peer` is a trusted proxy.
    pub is_proxy: bool,
    /// Whose request it is: `peer`, or what a trusted proxy says.
    pub client: IpAddr,
    /// Go into the answer to the present request, whatever it is.
    pub answer_headers: Headers,
    /// Headers of the request that begins a session which the backend gets.
    pub kept_headers: Vec<(String, String)>,
    /// When the present phase must be over.
    pub deadline_s: u32,
    /// No request may follow the present one.
    pub is_last: bool,
    /// Of the request of which more is being made.
    pub connection: ConnectionPlan,
}

/// Where in an exchange the connection is.
pub(super) enum Phase {
    /// The PROXY protocol's header is being received.
    ProxyHeader,
    /// A head is being received, or none has begun.
    Head,
    /// A head is complete and its body is being received.
    Body(Body),
    /// The owner of a channel has yet to say what became of a publication.
    AwaitPublished {
        reply: PublishReply,
        connection: ConnectionPlan,
    },
    /// Shards that were asked have yet to answer.
    Await {
        awaiting: Box<gather::Awaiting>,
        connection: ConnectionPlan,
    },
    /// The owner of a channel has yet to say that it delivers here, or what was missed.
    AwaitJoined(Box<Awaiting>),
    /// The connection has yet to end that has the client's device.
    AwaitDevice(Box<Upgrade>),
    /// Keys have yet to come by which the client's token may be good.
    AwaitKeys(Box<AwaitingKeys>),
}

impl Phase {
    /// True while an answer is outstanding.
    fn is_waiting(&self) -> bool {
        match self {
            Self::ProxyHeader | Self::Head | Self::Body(_) => false,
            Self::AwaitPublished { .. }
            | Self::Await { .. }
            | Self::AwaitJoined(_)
            | Self::AwaitDevice(_)
            | Self::AwaitKeys(_) => true,
        }
    }
}

/// What follows the answer on this connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionPlan {
    /// Another request may follow.
    pub keep_alive: bool,
    /// HTTP/1.0 clients must be told so.
    pub is_http10: bool,
    /// The answer to HEAD has no body.
    pub head_only: bool,
}

impl ConnectionPlan {
    /// Of an answer after which the connection ends.
    pub const LAST: Self = Self {
        keep_alive: false,
        is_http10: false,
        head_only: false,
    };

    /// What `request` asks for.
    pub fn of(request: &Request<'_>) -> Self {
        use crate::proto::http::{Method, Version};
        Self {
            keep_alive: request.keep_alive,
            is_http10: request.version == Version::Http10,
            head_only: request.method == Method::Head,
        }
    }
}

/// A body being received.
pub(super) struct Body {
    /// The request's head.
    pub head: Box<[u8]>,
    framing: Framing,
    /// The body so far.
    pub bytes: Vec<u8>,
    began_s: u32,
}

/// What is asked of a body's pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyPace {
    /// It must be complete within this time, in seconds.
    pub timeout_s: u32,
    /// From its beginning to any look at it, it must have come at this rate.
    pub min_bytes_per_s: u32,
}

/// Seconds between looks at the pace of a body.
const PACE_LOOK_S: u32 = 5;

enum Framing {
    Length(usize),
    Chunked(ChunkedReader),
}

/// What [`HttpStage::advance`] came to.
pub(super) enum Progress {
    /// More bytes are needed.
    More,
    /// The PROXY protocol's header is complete, or what came is none.
    Proxied(Result<ProxiedClient, NotAProxyHeader>),
    /// A head is complete, its bytes are these; the body is not begun.
    Head(Box<[u8]>),
    /// The body is complete too.
    Request(Body),
}

impl HttpStage {
    /// A connection from `peer`, a trusted proxy if `is_proxy`. Its first request must be there by
    /// `deadline_s`; or if it is `proxied`, the header that then comes first.
    pub fn new(peer: IpAddr, is_proxy: bool, proxied: bool, deadline_s: u32) -> Self {
        Self {
            input: Vec::new(),
            scanner: HeadScanner::new(),
            phase: match proxied {
                true => Phase::ProxyHeader,
                false => Phase::Head,
            },
            served: 0,
            peer,
            is_proxy,
            client: peer,
            answer_headers: Headers::new(),
            kept_headers: Vec::new(),
            deadline_s,
            is_last: false,
            connection: ConnectionPlan::LAST,
        }
    }

    /// True while an answer is outstanding.
    pub fn is_paused(&self) -> bool {
        self.phase.is_waiting()
    }

    /// True if no request has begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::ProxyHeader | Phase::Head) && self.input.is_empty()
    }

    /// Bytes held for this connection.
    pub fn held_bytes(&self) -> usize {
        let body = match &self.phase {
            Phase::Body(body) => body.bytes.len(),
            Phase::AwaitKeys(awaiting) => awaiting.request.bytes.len(),
            _ => 0,
        };
        self.input.len() + body
    }

    /// Takes what came. It is refused when more is sent ahead than a client has reason to.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        if self.input.len() + bytes.len() > PIPELINED_BYTES_MAX {
            return Err(HttpError {
                status: 429,
                reason: "too much sent ahead of the answers",
            });
        }
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    /// Looks how far the request has come.
    pub fn advance(
        &mut self,
        limits: &HeadLimits,
        body_bytes: usize,
    ) -> Result<Progress, HttpError> {
        let progress = self.take_in(limits, body_bytes);
        if self.input.is_empty() {
            // What it grew to is not counted, and the next bytes may be long in coming.
            self.input = Vec::new();
        }
        progress
    }

    fn take_in(&mut self, limits: &HeadLimits, body_bytes: usize) -> Result<Progress, HttpError> {
        match &mut self.phase {
            Phase::ProxyHeader => Ok(self.advance_proxy_header()),
            Phase::Head => {
                let Some(length) = self.scanner.scan(&self.input, limits)? else {
                    return Ok(Progress::More);
                };
                self.scanner = HeadScanner::new();
                Ok(Progress::Head(self.input.drain(..length).collect()))
            }
            Phase::Body(body) => {
                if !body.receive(&mut self.input, body_bytes)? {
                    return Ok(Progress::More);
                }
                match std::mem::replace(&mut self.phase, Phase::Head) {
                    Phase::Body(body) => Ok(Progress::Request(body)),
                    _ => Ok(Progress::More),
                }
            }
            Phase::AwaitPublished { .. }
            | Phase::Await { .. }
            | Phase::AwaitJoined(_)
            | Phase::AwaitDevice(_)
            | Phase::AwaitKeys(_) => Ok(Progress::More),
        }
    }

    fn advance_proxy_header(&mut self) -> Progress {
        match parse_proxy_header(&self.input) {
            Ok(None) => Progress::More,
            Ok(Some(header)) => {
                self.input.drain(..header.length);
                self.phase = Phase::Head;
                Progress::Proxied(Ok(header.client))
            }
            Err(error) => Progress::Proxied(Err(error)),
        }
    }

    /// Begins the body of the request in `head`; refuses a declared length over the limit before any
    /// of it is read.
    pub fn begin_body(
        &mut self,
        head: Box<[u8]>,
        length: BodyLength,
        body_bytes: usize,
        now_s: u32,
    ) -> Result<(), HttpError> {
        let framing = match length {
            BodyLength::None => Framing::Length(0),
            BodyLength::Chunked => Framing::Chunked(ChunkedReader::new()),
            BodyLength::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= body_bytes => Framing::Length(length),
                _ => return Err(too_large()),
            },
        };
        self.phase = Phase::Body(Body {
            head,
            framing,
            bytes: Vec::new(),
            began_s: now_s,
        });
        Ok(())
    }
}

impl Body {
    /// When to look at its pace next, in seconds; `None` if it is too slow by now.
    pub fn next_look_s(&self, pace: &BodyPace, now_s: u32) -> Option<u32> {
        let end_s = self.began_s.saturating_add(pace.timeout_s);
        let due = u64::from(now_s - self.began_s) * u64::from(pace.min_bytes_per_s);
        let is_in_time = now_s < end_s && self.bytes.len() as u64 >= due;
        is_in_time.then(|| end_s.min(now_s + PACE_LOOK_S))
    }

    /// The request; its head was parsed before.
    pub fn request(&self) -> Result<Request<'_>, HttpError> {
        parse_request(&self.head)
    }

    /// Moves what belongs to the body out of `input`; true when it is complete.
    fn receive(&mut self, input: &mut Vec<u8>, body_bytes: usize) -> Result<bool, HttpError> {
        match &mut self.framing {
            Framing::Length(length) => {
                let take = (*length - self.bytes.len()).min(input.len());
                self.bytes.extend(input.drain(..take));
                Ok(self.bytes.len() == *length)
            }
            Framing::Chunked(reader) => {
                let mut consumed = 0;
                let mut done = false;
                while !done && consumed < input.len() {
                    let rest = &input[consumed..];
                    let step = reader.next(rest)?;
                    if self.bytes.len() + step.data.len() > body_bytes {
                        return Err(too_large());
                    }
                    self.bytes.extend_from_slice(&rest[step.data]);
                    consumed += step.consumed;
                    done = step.done;
                }
                input.drain(..consumed);
                Ok(done)
            }
        }
    }
}

fn too_large() -> HttpError {
    HttpError {
        status: 413,
        reason: "body over the limit",
    }
}
