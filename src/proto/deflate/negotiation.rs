//! Agreeing on permessage-deflate and its four parameters (RFC 7692 sections 5 and 7.1).

use std::fmt;

use super::WINDOW_BITS_MAX;
use super::extensions::{Extension, Param, parse_extensions};
use crate::proto::http::HttpError;

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// What a server agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// Whether it compresses at all.
    pub enabled: bool,
    /// Lets the server's messages refer to earlier ones, where the client does not forbid it. Costs
    /// up to 2^`window_bits_max` bytes a connection, and every message is compressed for one.
    pub server_context_takeover: bool,
    /// Lets the client's messages refer to earlier ones. Costs up to 2^`window_bits_max` bytes a
    /// connection; a client that cannot be held to this window does not get it.
    pub client_context_takeover: bool,
    /// The largest window of either direction: 9 to 15 bits.
    pub window_bits_max: u8,
}

impl Default for DeflatePolicy {
    /// On, with nothing kept between messages.
    fn default() -> Self {
        Self {
            enabled: true,
            server_context_takeover: false,
            client_context_takeover: false,
            window_bits_max: WINDOW_BITS_MAX,
        }
    }
}

/// What a connection has agreed on. Displayed, it is the server's `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParams {
    /// No message of the server refers to an earlier one.
    pub server_no_context_takeover: bool,
    /// No message of the client refers to an earlier one.
    pub client_no_context_takeover: bool,
    /// Window bits of the server's messages, as answered; see
    /// [`server_window_bits`](Self::server_window_bits).
    pub server_max_window_bits: Option<u8>,
    /// Window bits of the client's messages, as answered; see
    /// [`client_window_bits`](Self::client_window_bits).
    pub client_max_window_bits: Option<u8>,
}

impl DeflateParams {
    /// The window of the server's messages: 8 to 15 bits.
    pub fn server_window_bits(&self) -> u8 {
        self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX)
    }

    /// The window of the client's messages: 8 to 15 bits.
    pub fn client_window_bits(&self) -> u8 {
        self.client_max_window_bits.unwrap_or(WINDOW_BITS_MAX)
    }
}

impl fmt::Display for DeflateParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_common(
            f,
            self.server_no_context_takeover,
            self.client_no_context_takeover,
            self.server_max_window_bits,
        )?;
        match self.client_max_window_bits {
            Some(bits) => write!(f, "; {CLIENT_MAX_WINDOW_BITS}={bits}"),
            None => Ok(()),
        }
    }
}

/// Chooses what to agree on, from all `Sec-WebSocket-Extensions` lines of a request: the first offer
/// of permessage-deflate that is valid. An offer with an unknown, repeated or malformed parameter is
/// declined (RFC 7692 section 7.1) and the next one looked at. `None`: no extension; the handshake
/// succeeds all the same. Other extensions are ignored.
///
/// # Errors
/// 400 for lines that are no list of extensions at all (RFC 6455 section 9.1: must fail), whatever
/// the policy.
pub fn negotiate<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    policy: &DeflatePolicy,
) -> Result<Option<DeflateParams>, HttpError> {
    let extensions = parse_extensions(lines)
        .map_err(|_| HttpError::bad_request("malformed Sec-WebSocket-Extensions"))?;
    if !policy.enabled {
        return Ok(None);
    }
    let mut offers = extensions.iter().filter(|extension| is_deflate(extension));
    Ok(offers
        .find_map(|offer| read_params(&offer.params))
        .map(|offer| agree(&offer, policy)))
}

fn agree(offer: &ReadParams, policy: &DeflatePolicy) -> DeflateParams {
    let bits_max = policy.window_bits_max;
    // A client that does not say so takes no limit on its window.
    let client_bits = offer.client_max_window_bits.map(|bits| bits.min(bits_max));
    let client_bits_held = client_bits.unwrap_or(WINDOW_BITS_MAX) <= bits_max;
    let server_bits = match offer.server_max_window_bits {
        Some(bits) => Some(bits.min(bits_max)),
        None => (bits_max < WINDOW_BITS_MAX).then_some(bits_max),
    };
    DeflateParams {
        server_no_context_takeover: offer.server_no_context_takeover
            || !policy.server_context_takeover,
        client_no_context_takeover: offer.client_no_context_takeover
            || !policy.client_context_takeover
            || !client_bits_held,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits.filter(|&bits| bits < WINDOW_BITS_MAX),
    }
}

/// What a client offers. Displayed, it is the client's `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeflateOffer {
    /// The server's messages must not refer to earlier ones.
    pub server_no_context_takeover: bool,
    /// The client's messages will not refer to earlier ones.
    pub client_no_context_takeover: bool,
    /// The largest window the server may use: 8 to 15 bits. `None`: any.
    pub server_max_window_bits: Option<u8>,
    /// The largest window the client will use, 8 to 15 bits, less if the server says so. `None`: 15,
    /// and the server has no say.
    pub client_max_window_bits: Option<u8>,
}

/// The server's answer is not one to this offer: the client must fail the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAnswer;

impl DeflateOffer {
    /// What the server agreed to, from all `Sec-WebSocket-Extensions` lines of its 101. `None`: no
    /// extension.
    ///
    /// # Errors
    /// When the answer is malformed, names another extension or several, or breaks the offer (RFC
    /// 7692 section 7.1).
    pub fn accept<'a>(
        &self,
        lines: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<DeflateParams>, InvalidAnswer> {
        let extensions = parse_extensions(lines).map_err(|_| InvalidAnswer)?;
        let answer = match extensions.as_slice() {
            [] => return Ok(None),
            [answer] if is_deflate(answer) => answer,
            _ => return Err(InvalidAnswer),
        };
        let params = read_params(&answer.params).ok_or(InvalidAnswer)?;
        let no_client_value = answer.params.iter().any(|param| {
            param
                .name
                .eq_ignore_ascii_case(CLIENT_MAX_WINDOW_BITS.as_bytes())
                && param.value.is_none()
        });
        match no_client_value || !self.allows(&params) {
            true => Err(InvalidAnswer),
            false => Ok(Some(DeflateParams {
                server_no_context_takeover: params.server_no_context_takeover,
                client_no_context_takeover: params.client_no_context_takeover
                    || self.client_no_context_takeover,
                server_max_window_bits: params.server_max_window_bits,
                client_max_window_bits: params
                    .client_max_window_bits
                    .or(self.client_max_window_bits)
                    .filter(|&bits| bits < WINDOW_BITS_MAX),
            })),
        }
    }

    /// Whether the server granted what the offer demands, and no window above it.
    fn allows(&self, answer: &ReadParams) -> bool {
        let server_bits_granted = match (self.server_max_window_bits, answer.server_max_window_bits)
        {
            (Some(offered), Some(answered)) => answered <= offered,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let client_bits_allowed = match (self.client_max_window_bits, answer.client_max_window_bits)
        {
            (Some(offered), Some(answered)) => answered <= offered,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        let takeover_granted =
            answer.server_no_context_takeover || !self.server_no_context_takeover;
        server_bits_granted && client_bits_allowed && takeover_granted
    }
}

impl fmt::Display for DeflateOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_common(
            f,
            self.server_no_context_takeover,
            self.client_no_context_takeover,
            self.server_max_window_bits,
        )?;
        match self.client_max_window_bits {
            Some(WINDOW_BITS_MAX) => write!(f, "; {CLIENT_MAX_WINDOW_BITS}"),
            Some(bits) => write!(f, "; {CLIENT_MAX_WINDOW_BITS}={bits}"),
            None => Ok(()),
        }
    }
}

/// The parts that an offer and an answer write alike.
fn write_common(
    f: &mut fmt::Formatter<'_>,
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
) -> fmt::Result {
    f.write_str(NAME)?;
    if server_no_context_takeover {
        write!(f, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
    }
    if client_no_context_takeover {
        write!(f, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
    }
    match server_max_window_bits {
        Some(bits) => write!(f, "; {SERVER_MAX_WINDOW_BITS}={bits}"),
        None => Ok(()),
    }
}

/// The parameters of one offer or answer, each valid by itself.
#[derive(Default)]
struct ReadParams {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// 15 when sent without a value.
    client_max_window_bits: Option<u8>,
}

fn is_deflate(extension: &Extension) -> bool {
    extension.name.eq_ignore_ascii_case(NAME.as_bytes())
}

/// `None`: a parameter is unknown, repeated, or has no value or a wrong one.
fn read_params(params: &[Param]) -> Option<ReadParams> {
    let mut read = ReadParams::default();
    for param in params {
        let name = param.name.to_ascii_lowercase();
        let value = param.value.as_deref();
        match std::str::from_utf8(&name).ok()? {
            SERVER_NO_CONTEXT_TAKEOVER => set_flag(&mut read.server_no_context_takeover, value)?,
            CLIENT_NO_CONTEXT_TAKEOVER => set_flag(&mut read.client_no_context_takeover, value)?,
            SERVER_MAX_WINDOW_BITS => set_bits(&mut read.server_max_window_bits, value?)?,
            CLIENT_MAX_WINDOW_BITS => {
                set_bits(&mut read.client_max_window_bits, value.unwrap_or(b"15"))?;
            }
            _ => return None,
        }
    }
    Some(read)
}

fn set_flag(flag: &mut bool, value: Option<&[u8]>) -> Option<()> {
    let is_first = !std::mem::replace(flag, true);
    (is_first && value.is_none()).then_some(())
}

/// A decimal number from 8 to 15 without leading zeros.
fn set_bits(bits: &mut Option<u8>, value: &[u8]) -> Option<()> {
    let number = match value {
        [digit @ b'8'..=b'9'] => digit - b'0',
        [b'1', digit @ b'0'..=b'5'] => 10 + digit - b'0',
        _ => return None,
    };
    bits.replace(number).is_none().then_some(())
}
