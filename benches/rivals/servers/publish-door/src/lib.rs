//! Publishing over HTTP, and the settings all of these servers have in common.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Publications that may wait for one subscriber; one that is further behind is dropped.
pub const BACKLOG: usize = 64;
/// How often a subscriber is pinged.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a subscriber may take nothing.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

const HEADERS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 8 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Takes the body of every POST on this listener and hands it to `publish`; answers 204 once that is done.
pub async fn serve(listener: TcpListener, publish: impl Fn(Bytes) + Clone + 'static) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: some may come free.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let publish = publish.clone();
        tokio::task::spawn_local(async move {
            // Whoever breaks the protocol or goes away is done with.
            let _ = take_posts(stream, publish).await;
        });
    }
}

async fn take_posts(mut stream: TcpStream, publish: impl Fn(Bytes)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::new();
    loop {
        let Some(body) = take_body(&mut input)? else {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
            continue;
        };
        publish(body);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}

/// Takes one whole request from the front; gives its body.
fn take_body(input: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let wrong = |reason| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = request.parse(input).map_err(|_| wrong("no HTTP"))?;
    let httparse::Status::Complete(head_len) = head else {
        let too_long = input.len() > HEAD_BYTES_MAX;
        return if too_long {
            Err(wrong("too long a head"))
        } else {
            Ok(None)
        };
    };
    let length = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| {
        std::str::from_utf8(header.value)
            .ok()?
            .parse::<usize>()
            .ok()
    });
    let length = length
        .filter(|length| *length <= BODY_BYTES_MAX)
        .ok_or_else(|| wrong("no good length"))?;
    if request.method != Some("POST") {
        return Err(wrong("no POST"));
    }
    if input.len() < head_len + length {
        return Ok(None);
    }
    input.advance(head_len);
    Ok(Some(input.split_to(length).freeze()))
}
