//! A broadcast server on tokio and fastwebsockets: every WebSocket gets every publication.
//!
//! Usage: `rival-fastwebsockets LISTEN PUBLISH`, the addresses for WebSockets and for publications.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError, WebSocketWrite};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mimalloc::MiMalloc;
use publish_door::{BACKLOG, PING_INTERVAL, SEND_TIMEOUT};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

type Publications = broadcast::Sender<Bytes>;

// As Longwire's own: the allocator is not what is compared.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// One core, so one thread: no work is stolen and nothing is woken across threads.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut addresses = std::env::args().skip(1);
    let mut address = || addresses.next().expect("usage: LISTEN PUBLISH");
    let subscribers = TcpListener::bind(address()).await?;
    let publishers = TcpListener::bind(address()).await?;
    let (publications, _) = broadcast::channel(BACKLOG);
    let publish = {
        let publications = publications.clone();
        move |body: Bytes| {
            // A text frame is UTF-8. Nobody listens: nobody misses it.
            if std::str::from_utf8(&body).is_ok() {
                let _ = publications.send(body);
            }
        }
    };
    let local = tokio::task::LocalSet::new();
    local.spawn_local(publish_door::serve(publishers, publish));
    local.run_until(accept(subscribers, publications)).await;
    Ok(())
}

async fn accept(listener: TcpListener, publications: Publications) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let publications = publications.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = handshake(request, &publications);
                async move { response }
            });
            let _ = stream.set_nodelay(true);
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

fn handshake(
    mut request: Request<Incoming>,
    publications: &Publications,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    if !is_upgrade_request(&request) {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return Ok(response);
    }
    let (response, upgraded) = upgrade(&mut request)?;
    let publications = publications.clone();
    tokio::spawn(async move {
        // A subscriber that fails or falls behind is dropped, and may come back.
        if let Some(socket) = open(upgraded).await {
            let _ = serve(socket, publications.subscribe()).await;
        }
    });
    Ok(response)
}

/// The WebSocket on the bare TCP stream: what hyper needed for the handshake is let go of.
async fn open(upgraded: UpgradeFut) -> Option<WebSocket<TcpStream>> {
    let upgraded = upgraded.await.ok()?.into_inner().into_inner();
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    // A client has to wait for the answer before it sends frames (RFC 6455 4.1).
    parts
        .read_buf
        .is_empty()
        .then(|| WebSocket::after_handshake(parts.io.into_inner(), Role::Server))
}

async fn serve(
    mut socket: WebSocket<TcpStream>,
    mut publications: broadcast::Receiver<Bytes>,
) -> Result<(), WebSocketError> {
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    let (mut reader, mut writer) = socket.split(TcpStream::into_split);
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nothing_to_send = |_| async { Ok::<(), Infallible>(()) };
    loop {
        // Reading half a frame cannot be given up, so it goes on while others are served.
        let mut reading = pin!(reader.read_frame(&mut nothing_to_send));
        let frame = loop {
            tokio::select! {
                publication = publications.recv() => match publication {
                    Ok(text) => send(&mut writer, Frame::text(Payload::Borrowed(&text))).await?,
                    Err(_) => return Ok(()),
                },
                frame = &mut reading => break frame?,
                _ = pings.tick() => {
                    let ping = Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b""));
                    send(&mut writer, ping).await?;
                }
            }
        };
        // Messages of subscribers mean nothing.
        match frame.opcode {
            OpCode::Ping => send(&mut writer, Frame::pong(frame.payload)).await?,
            OpCode::Close => return send(&mut writer, Frame::close_raw(frame.payload)).await,
            _ => {}
        }
    }
}

async fn send(
    writer: &mut WebSocketWrite<OwnedWriteHalf>,
    frame: Frame<'_>,
) -> Result<(), WebSocketError> {
    let stalled = |_| WebSocketError::ConnectionClosed;
    timeout(SEND_TIMEOUT, writer.write_frame(frame))
        .await
        .map_err(stalled)?
}
