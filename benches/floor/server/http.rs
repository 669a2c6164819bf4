//! What a connection asks for while it is not a WebSocket.

use std::time::{Duration, Instant};

use longwire::proto::handshake::{UpgradeCheck, check_upgrade, write_switching_protocols};
use longwire::proto::http::{
    BodyLength, ConnectionHeader, Method, Request, Response, parse_request, write_response,
};

use super::shared::{Heartbeat, What};

/// Longest head; longer ones are no requests of a load generator.
const HEAD_BYTES_MAX: usize = 8192;
/// Time for all threads to wake before the first ping.
const HEARTBEAT_DELAY: Duration = Duration::from_millis(100);

/// A whole request.
pub enum Wish {
    /// To become a WebSocket; the answer that opens it.
    Open(Vec<u8>),
    /// To publish this.
    Publish(Vec<u8>),
    /// To have this done.
    Do(What),
    /// To know the counters.
    Status,
    /// Anything else.
    Unknown,
}

/// Takes one whole request from the front of `input`; `None` if it is not all there.
///
/// # Errors
/// What cannot be read; the connection is of no more use.
pub fn take_wish(input: &mut Vec<u8>) -> Result<Option<Wish>, &'static str> {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return match input.len() > HEAD_BYTES_MAX {
            true => Err("head too long"),
            false => Ok(None),
        };
    };
    let head_len = end + 4;
    let request = parse_request(&input[..head_len]).map_err(|error| error.reason)?;
    let body_len = match request.body {
        BodyLength::None => 0,
        BodyLength::Length(length) => usize::try_from(length).map_err(|_| "body too long")?,
        BodyLength::Chunked => return Err("chunked body"),
    };
    let whole_len = head_len + body_len;
    if input.len() < whole_len {
        return Ok(None);
    }
    let wish = read(&request, &input[head_len..whole_len])?;
    input.drain(..whole_len);
    Ok(Some(wish))
}

fn read(request: &Request<'_>, body: &[u8]) -> Result<Wish, &'static str> {
    match check_upgrade(request) {
        UpgradeCheck::Accept { key } => {
            let mut answer = Vec::new();
            write_switching_protocols(&mut answer, key, None, None);
            return Ok(Wish::Open(answer));
        }
        UpgradeCheck::Refuse(error) => return Err(error.reason),
        UpgradeCheck::NotAnUpgrade => {}
    }
    Ok(match (request.method, request.path) {
        (Method::Post, path) if path.starts_with("/channels/") => Wish::Publish(body.to_vec()),
        (Method::Post, "/floor/heartbeat") => match heartbeat(request) {
            Some(plan) => Wish::Do(What::Heartbeat(plan)),
            None => Wish::Unknown,
        },
        (Method::Post, "/floor/reset") => Wish::Do(What::Reset),
        (Method::Get, "/floor") => Wish::Status,
        _ => Wish::Unknown,
    })
}

fn heartbeat(request: &Request<'_>) -> Option<Heartbeat> {
    let number = |name| request.query_param(name)?.parse::<u32>().ok();
    Some(Heartbeat {
        start: Instant::now() + HEARTBEAT_DELAY,
        seconds: number("seconds")?,
        interval_s: number("interval").filter(|interval_s| *interval_s > 0)?,
    })
}

/// A whole answer.
pub fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let response = Response {
        status,
        content_type: "application/json",
        headers: &[],
        body,
    };
    write_response(&mut out, &response, ConnectionHeader::Omit, false);
    out
}
