//! A broadcast server on tokio and tokio-tungstenite: every WebSocket gets every publication.
//!
//! Usage: `rival-tokio-tungstenite LISTEN PUBLISH`, the addresses for WebSockets and for publications.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use mimalloc::MiMalloc;
use publish_door::{BACKLOG, PING_INTERVAL, SEND_TIMEOUT};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

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
    let local = tokio::task::LocalSet::new();
    let publish = {
        let publications = publications.clone();
        move |body| {
            // Text is checked once for all subscribers, who share the bytes. Nobody listens: nobody misses it.
            if let Ok(text) = Utf8Bytes::try_from(body) {
                let _ = publications.send(text);
            }
        }
    };
    local.spawn_local(publish_door::serve(publishers, publish));
    local.run_until(accept(subscribers, publications)).await;
    Ok(())
}

async fn accept(listener: TcpListener, publications: broadcast::Sender<Utf8Bytes>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let publications = publications.clone();
        tokio::spawn(async move {
            // A subscriber that fails or falls behind is dropped, and may come back.
            let _ = serve(stream, publications).await;
        });
    }
}

/// The default read buffer of 128 KiB is for bulk; subscribers hardly send. Publications are written at once.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(64 * 1024))
        .max_frame_size(Some(64 * 1024))
}

async fn serve(stream: TcpStream, publications: broadcast::Sender<Utf8Bytes>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    // Boxed, so that the handshake's state does not stay with the task.
    let mut socket = Box::pin(accept_async_with_config(stream, Some(config()))).await?;
    let mut publications = publications.subscribe();
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            publication = publications.recv() => match publication {
                Ok(text) => send(&mut socket, Message::Text(text)).await?,
                Err(_) => return Ok(()),
            },
            received = socket.next() => match received {
                // Pings are answered by the library. Messages of subscribers mean nothing.
                Some(received) => drop(received?),
                None => return Ok(()),
            },
            _ = pings.tick() => send(&mut socket, Message::Ping(Bytes::new())).await?,
        }
    }
}

async fn send(socket: &mut WebSocketStream<TcpStream>, message: Message) -> Result<(), Error> {
    let stalled = |_| Error::Io(std::io::ErrorKind::TimedOut.into());
    timeout(SEND_TIMEOUT, socket.send(message))
        .await
        .map_err(stalled)?
}
