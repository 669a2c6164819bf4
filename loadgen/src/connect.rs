//! Making one connection: TCP from a chosen local address, then the WebSocket handshake.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use longwire::net::Stream;
use longwire::proto::handshake::{
    ClientHandshakeError, read_client_handshake, write_client_handshake,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::counters::Cause;
use crate::listen::{Listener, Transport, first_request};
use crate::run::Run;

/// A connection that listens.
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// What the server sent right behind its answer.
    pub leftover: Vec<u8>,
    /// Its side of the conversation, if it is no WebSocket.
    pub listener: Option<Listener>,
}

/// Opens the connection numbered `index`, reading into `scratch`. Waits without a limit; the caller sets
/// one. A storm waits for very many answers at a time, so that nothing is kept that is not needed for them.
pub async fn open(run: &Run, index: usize, scratch: &RefCell<Box<[u8]>>) -> Result<Opened, Cause> {
    let stream = connect(run, index)?;
    if run.transport != Transport::Websocket {
        return listen(run, index, stream, scratch).await;
    }
    let nonce = fastrand::u128(..).to_ne_bytes();
    send_request(run, index, nonce, &stream).await?;
    let leftover = read_answer(&stream, nonce, scratch).await?;
    Ok(Opened {
        stream,
        leftover,
        listener: None,
    })
}

/// Asks to listen without a WebSocket, and reads until the server has agreed.
async fn listen(
    run: &Run,
    index: usize,
    stream: Stream,
    scratch: &RefCell<Box<[u8]>>,
) -> Result<Opened, Cause> {
    let path = run.target.subscribe_path(run.channel_of(index));
    let host = run.target.authority();
    send_all(&stream, &first_request(run.transport, &host, &path)).await?;
    let mut listener = Listener::new(run.transport, host, path);
    while !listener.is_open() {
        stream.readable().await?;
        let answer = {
            let mut scratch = scratch.borrow_mut();
            match stream.try_recv(&mut scratch) {
                Ok(0) => return Err(Cause::EndOfFile),
                // Nothing was published: the channel is this run's.
                Ok(read) => listener.absorb(&scratch[..read], |_| ())?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
        };
        send_all(&stream, &answer).await?;
    }
    Ok(Opened {
        stream,
        leftover: Vec::new(),
        listener: Some(listener),
    })
}

fn key_of(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

fn connect(run: &Run, index: usize) -> Result<Stream, Cause> {
    if run.local.is_systems_choice() {
        return connect_from(None, run.address)?.map_err(Cause::from);
    }
    let mut local = run.local.nth(index);
    while let Some(from) = local {
        match connect_from(Some(from), run.address)? {
            // Somebody else has that port, or a connection of an earlier run is in TIME_WAIT on it.
            Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => local = run.local.spare(),
            other => return other.map_err(Cause::from),
        }
    }
    Err(Cause::NoLocalPort)
}

/// Connects from a local address. The inner error is about the connection, the outer one about this host.
fn connect_from(
    local: Option<SocketAddr>,
    target: SocketAddr,
) -> Result<Result<Stream, Errno>, Cause> {
    let socket = open_socket(target)?;
    if let Some(local) = local {
        // A named port that is in TIME_WAIT may be bound again.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        match rustix::net::bind(&socket, &local) {
            Err(Errno::ADDRINUSE) => return Ok(Err(Errno::ADDRINUSE)),
            other => other?,
        }
    }
    match rustix::net::connect(&socket, &target) {
        // On one machine it is established by now; if not, the first send waits, and has its error.
        Ok(()) | Err(Errno::INPROGRESS) => Ok(Ok(Stream::from_fd(socket)?)),
        Err(errno) => Ok(Err(errno)),
    }
}

fn open_socket(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

async fn send_request(
    run: &Run,
    index: usize,
    nonce: [u8; 16],
    stream: &Stream,
) -> Result<(), Cause> {
    let path = run.target.subscribe_path(run.channel_of(index));
    let host = run.target.authority();
    let mut request = Vec::new();
    write_client_handshake(&mut request, &host, &path, &key_of(nonce), None, None);
    send_all(stream, &request).await
}

async fn send_all(stream: &Stream, request: &[u8]) -> Result<(), Cause> {
    let mut sent = 0;
    while sent < request.len() {
        match stream.try_send(&request[sent..]) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.writable().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads until the answer is complete; returns the bytes behind it.
async fn read_answer(
    stream: &Stream,
    nonce: [u8; 16],
    scratch: &RefCell<Box<[u8]>>,
) -> Result<Vec<u8>, Cause> {
    // Only if it does not come in one piece.
    let mut before = Vec::new();
    loop {
        stream.readable().await?;
        let mut scratch = scratch.borrow_mut();
        let read = match stream.try_recv(&mut scratch) {
            Ok(0) => return Err(Cause::EndOfFile),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        if before.is_empty()
            && let Some(leftover) = leftover(&scratch[..read], nonce)?
        {
            return Ok(leftover);
        }
        before.extend_from_slice(&scratch[..read]);
        if let Some(leftover) = leftover(&before, nonce)? {
            return Ok(leftover);
        }
    }
}

/// What follows a complete answer.
fn leftover(answer: &[u8], nonce: [u8; 16]) -> Result<Option<Vec<u8>>, Cause> {
    match read_client_handshake(answer, &key_of(nonce), None) {
        Ok(opened) => Ok(opened.map(|opened| answer[opened.head_len..].to_vec())),
        Err(ClientHandshakeError::Status(status)) => {
            Err(Cause::Http(status, retry_after_s(answer)))
        }
        Err(_) => Err(Cause::BadHandshake),
    }
}

/// Retry-After in a whole head, if it is given in seconds.
fn retry_after_s(head: &[u8]) -> Option<u32> {
    let lines = head.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    let mut named = fields.filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    named.next()?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_found() {
        let head = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nretry-after: 7\r\n\r\n";
        assert_eq!(retry_after_s(head), Some(7));
        assert_eq!(retry_after_s(b"HTTP/1.1 503 Busy\r\n\r\n"), None);
        assert_eq!(
            retry_after_s(b"HTTP/1.1 503 B\r\nRetry-After: Sun, 06 Nov\r\n\r\n"),
            None
        );
    }
}
