//! Making one connection: TCP from a chosen local address, then the WebSocket handshake.

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
use crate::run::Run;

/// Read at a time while the answer to the handshake is incomplete.
const READ_BYTES: usize = 1024;

/// An open WebSocket.
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// What the server sent right behind its answer.
    pub leftover: Vec<u8>,
}

/// Opens the connection numbered `index`. Waits without a limit; the caller sets one.
pub async fn open(run: &Run, index: usize) -> Result<Opened, Cause> {
    let stream = connect(run, index).await?;
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    let path = run.target.subscribe_path(run.channel_of(index));
    let mut request = Vec::new();
    let host = run.target.authority();
    write_client_handshake(&mut request, &host, &path, &key, None, None);
    send_all(&stream, &request).await?;
    let leftover = read_answer(&stream, &key).await?;
    Ok(Opened { stream, leftover })
}

async fn connect(run: &Run, index: usize) -> Result<Stream, Cause> {
    if run.local.is_systems_choice() {
        return connect_from(None, run.address).await?.map_err(Cause::from);
    }
    let mut local = run.local.nth(index);
    while let Some(from) = local {
        match connect_from(Some(from), run.address).await? {
            // Somebody else has that port, or a connection of an earlier run is in TIME_WAIT on it.
            Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => local = run.local.spare(),
            other => return other.map_err(Cause::from),
        }
    }
    Err(Cause::NoLocalPort)
}

/// Connects from a local address. The inner error is about the connection, the outer one about this host.
async fn connect_from(
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
        Ok(()) => return Ok(Ok(Stream::from_fd(socket)?)),
        Err(Errno::INPROGRESS) => {}
        Err(errno) => return Ok(Err(errno)),
    }
    let stream = Stream::from_fd(socket)?;
    stream.writable().await?;
    Ok(sockopt::socket_error(&stream)?.map(|()| stream))
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

async fn send_all(stream: &Stream, mut bytes: &[u8]) -> Result<(), Cause> {
    while !bytes.is_empty() {
        match stream.try_send(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.writable().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads until the answer is complete; returns the bytes behind it.
async fn read_answer(stream: &Stream, key: &str) -> Result<Vec<u8>, Cause> {
    let mut answer = Vec::new();
    loop {
        stream.readable().await?;
        let filled = answer.len();
        answer.resize(filled + READ_BYTES, 0);
        let read = match stream.try_recv(&mut answer[filled..]) {
            Ok(0) => return Err(Cause::EndOfFile),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        answer.truncate(filled + read);
        match read_client_handshake(&answer, key, None) {
            Ok(Some(opened)) => return Ok(answer.split_off(opened.head_len)),
            Ok(None) => {}
            Err(ClientHandshakeError::Status(status)) => {
                return Err(Cause::Http(status, retry_after_s(&answer)));
            }
            Err(_) => return Err(Cause::BadHandshake),
        }
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
