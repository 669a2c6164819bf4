//! Log lines for what clients cause: at most one a reason every ten seconds, with the number of those
//! left out, so that no client can fill the log.

use std::net::IpAddr;

use tracing::{info, warn};

use crate::log::RateLimit;
use crate::metrics::{CloseReason, RefusalReason};

const INTERVAL_S: u32 = 10;
/// As much of an origin as is logged, in bytes.
const ORIGIN_MAX: usize = 256;

/// The limits of one shard, by reason.
pub(super) struct PeerLog {
    shard: u16,
    closes: [RateLimit; CloseReason::LABELS.len()],
    refusals: [RateLimit; RefusalReason::LABELS.len()],
    pages: RateLimit,
}

impl PeerLog {
    pub fn new(shard: u16) -> Self {
        Self {
            shard,
            closes: [const { RateLimit::new(INTERVAL_S) }; _],
            refusals: [const { RateLimit::new(INTERVAL_S) }; _],
            pages: RateLimit::new(INTERVAL_S),
        }
    }

    /// A connection ended.
    pub fn closed(&mut self, reason: CloseReason, now_s: u32) {
        let Some(severity) = severity(reason) else {
            return;
        };
        let Some(left_out) = self.closes[reason as usize].allow(now_s) else {
            return;
        };
        let (shard, reason) = (self.shard, reason.label());
        match severity {
            Severity::Warn => warn!(shard, reason, left_out, "connection closed"),
            Severity::Info => info!(shard, reason, left_out, "connection closed"),
        }
    }

    /// A connection was not let in; `address` is where it came from, if that is known.
    pub fn refused(&mut self, reason: RefusalReason, address: Option<IpAddr>, now_s: u32) {
        if let Some(left_out) = self.refusals[reason as usize].allow(now_s) {
            let (shard, reason) = (self.shard, reason.label());
            let address = address.map(tracing::field::display);
            warn!(shard, reason, address, left_out, "connection refused");
        }
    }

    /// A page of an origin that is not allowed was refused. Its script is not told why, so the log is.
    pub fn page_refused(&mut self, origin: &str, now_s: u32) {
        if let Some(left_out) = self.pages.allow(now_s) {
            let shard = self.shard;
            let origin = origin.get(..ORIGIN_MAX).unwrap_or(origin);
            info!(
                shard,
                origin, left_out, "page refused: if it may connect, add it to origins"
            );
        }
    }
}

enum Severity {
    /// The server's own limits were met: an operator may want to change something.
    Warn,
    /// The client did something wrong or vanished.
    Info,
}

/// `None` for the ordinary ends of connections.
fn severity(reason: CloseReason) -> Option<Severity> {
    match reason {
        CloseReason::SlowConsumer
        | CloseReason::WriteStall
        | CloseReason::Overloaded
        | CloseReason::Internal => Some(Severity::Warn),
        CloseReason::ProtocolError
        | CloseReason::InvalidPayload
        | CloseReason::MessageTooBig
        | CloseReason::Policy
        | CloseReason::HeartbeatTimeout
        | CloseReason::MessageTimeout
        | CloseReason::RequestTimeout
        | CloseReason::HttpError
        | CloseReason::BadCommand
        | CloseReason::InvalidToken
        | CloseReason::Stale => Some(Severity::Info),
        CloseReason::Client
        | CloseReason::EndOfFile
        | CloseReason::PeerReset
        | CloseReason::GoingAway
        | CloseReason::MaxAge
        | CloseReason::TakenOver
        | CloseReason::Idle
        | CloseReason::HttpDone
        | CloseReason::Refused
        | CloseReason::Expired
        | CloseReason::Disconnected => None,
    }
}
