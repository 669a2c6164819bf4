//! Close codes, and the payload of a Close frame (RFC 6455 section 7.4).

use super::message::Violation;

/// Close codes that this server or its load generator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The purpose of the connection has been fulfilled.
    Normal = 1000,
    /// This side is leaving: a drain, a restart.
    GoingAway = 1001,
    /// The peer broke RFC 6455.
    ProtocolError = 1002,
    /// A kind of data this endpoint does not take.
    UnsupportedData = 1003,
    /// A text message or a close reason was not UTF-8.
    InvalidPayload = 1007,
    /// The peer broke a rule of this endpoint.
    PolicyViolation = 1008,
    /// A message longer than this endpoint takes.
    MessageTooBig = 1009,
    /// This side failed.
    InternalError = 1011,
    /// This side is overloaded; the peer may come back later.
    TryAgainLater = 1013,
    /// The peer wants to go on from where nothing is known any more (private use).
    CannotResume = 4003,
    /// The peer does not read fast enough (private use).
    SlowConsumer = 4004,
    /// The peer did not answer pings in time (private use).
    HeartbeatTimeout = 4005,
    /// A newer connection of the peer has taken over (private use).
    TakenOver = 4006,
}

impl CloseCode {
    /// The number that goes on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.code()
    }
}

/// Reads the payload of a Close frame: nothing, or a code and a reason.
///
/// # Errors
/// 1002 for a payload of one byte or a code that no endpoint may send (RFC 6455 section 7.4: below
/// 1000, 1004 to 1006, 1015 to 2999, above 4999); 1007 for a reason that is not UTF-8.
pub fn parse_close(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Violation::protocol("close payload of one byte")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Violation::protocol("close code not allowed"));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason))),
        Err(_) => Err(Violation::invalid_payload("close reason is not UTF-8")),
    }
}

/// Whether an endpoint may put `code` in a Close frame: 1004 is reserved; 1005, 1006 and 1015 only
/// stand for closes without a frame; 1012 to 1014 were registered after the RFC; 3000 to 4999
/// belong to libraries and applications.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(payload: &[u8]) -> CloseCode {
        parse_close(payload).unwrap_err().code
    }

    #[test]
    fn reads_nothing_a_code_and_a_reason() {
        assert_eq!(parse_close(b""), Ok(None));
        assert_eq!(parse_close(b"\x03\xe8"), Ok(Some((1000, ""))));
        assert_eq!(parse_close(b"\x0f\xa0bye"), Ok(Some((4000, "bye"))));
    }

    #[test]
    fn accepts_exactly_the_codes_of_the_registry() {
        let accepted: Vec<u16> = (0..=u16::MAX)
            .filter(|code| parse_close(&code.to_be_bytes()).is_ok())
            .collect();
        let expected: Vec<u16> = (1000..=1003)
            .chain(1007..=1014)
            .chain(3000..=4999)
            .collect();
        assert_eq!(accepted, expected);
    }

    #[test]
    fn refuses_half_a_code_and_a_broken_reason() {
        assert_eq!(refused_with(b"\x03"), CloseCode::ProtocolError);
        assert_eq!(refused_with(b"\x03\xe8\xff"), CloseCode::InvalidPayload);
        assert_eq!(refused_with(b"\x03\xe8\xe2\x82"), CloseCode::InvalidPayload);
    }
}
