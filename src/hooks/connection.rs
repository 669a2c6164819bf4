//! One connection to a backend: dialing it, and one exchange over it.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::call::Unavailable;
use super::names::Names;
use super::url::{Origin, may_serve_keys};
use crate::net::{Dialed, dial};

/// The longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// How connections to one scheme, host and port are made.
pub struct Dialer {
    origin: Origin,
    names: Rc<Names>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Only addresses keys may come from.
    is_for_keys: bool,
    timeout: Duration,
}

/// An answer: status and whole body.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Bytes,
}

/// Why an exchange failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: Unavailable,
    /// The backend closed a connection that had served before, and not a byte of an answer came: most likely it had
    /// closed it already when the request was written. The one fault after which a call is made again.
    pub is_stale: bool,
}

/// A connection that one call at a time uses. Dropped, it is closed.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Bytes of answers received so far.
    received: Rc<Cell<u64>>,
    exchanges: u64,
    task: AbortHandle,
}

impl Dialer {
    /// `tls` is asked for if the origin is `https`. The error says which host cannot be called.
    pub fn new(
        origin: Origin,
        tls: Option<&Arc<ClientConfig>>,
        is_for_keys: bool,
        timeout: Duration,
    ) -> Result<Self, String> {
        let tls = match (origin.is_tls, tls) {
            (true, Some(config)) => {
                let name = ServerName::try_from(origin.host.clone())
                    .map_err(|_| format!("{:?} cannot be in a certificate", origin.host))?;
                Some((Arc::clone(config), name))
            }
            (true, None) => return Err("no certificates are loaded".to_owned()),
            (false, _) => None,
        };
        Ok(Self {
            names: Names::new(&origin),
            origin,
            tls,
            is_for_keys,
            timeout,
        })
    }

    /// Connects, TLS included. `place` is dropped when the connection is closed, or if there will be none.
    pub async fn dial<P: 'static>(&self, place: P) -> Result<Connection, Unavailable> {
        match timeout(self.timeout, self.connect(place)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Unavailable::Connect),
        }
    }

    async fn connect<P: 'static>(&self, place: P) -> Result<Connection, Unavailable> {
        let stream = self.connect_tcp().await?;
        match &self.tls {
            None => Connection::start(stream, place).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await;
                Connection::start(stream.map_err(|_| Unavailable::Tls)?, place).await
            }
        }
    }

    /// Tries the host's addresses one after the other. They are looked up once: what was checked is what is
    /// connected to.
    async fn connect_tcp(&self) -> Result<Dialed, Unavailable> {
        let mut addresses = self.names.addresses(self.timeout / 2).await;
        addresses.retain(|address| self.may_call(address));
        if addresses.is_empty() {
            return Err(Unavailable::Address);
        }
        let share = self.timeout / addresses.len() as u32;
        for address in addresses {
            if let Ok(Ok(stream)) = timeout(share, dial(address)).await {
                self.names.worked(address);
                return Ok(stream);
            }
        }
        Err(Unavailable::Connect)
    }

    fn may_call(&self, address: &SocketAddr) -> bool {
        !self.is_for_keys || may_serve_keys(&self.origin, address.ip())
    }
}

impl Connection {
    async fn start<T, P>(stream: T, place: P) -> Result<Self, Unavailable>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        P: 'static,
    {
        let received = Rc::new(Cell::new(0));
        let counted = Counted {
            stream,
            received: Rc::clone(&received),
        };
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(counted))
            .await
            .map_err(|_| Unavailable::Broken)?;
        // In a task of its own, an idle connection notices that the backend closed it.
        let task = spawn_local(async move {
            let _place = place;
            // What went wrong is told to the exchange.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            received,
            exchanges: 0,
            task: task.abort_handle(),
        })
    }

    /// One request and its whole answer, of at most `max_bytes`.
    pub async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
    ) -> Result<Reply, Fault> {
        let received_before = self.received.get();
        let is_reused = self.exchanges > 0;
        self.exchanges += 1;
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(_) => {
                return Err(Fault {
                    reason: Unavailable::Broken,
                    is_stale: is_reused && self.received.get() == received_before,
                });
            }
        };
        let status = response.status().as_u16();
        let body = read_body(response, max_bytes).await;
        let body = body.map_err(|reason| Fault {
            reason,
            is_stale: false,
        })?;
        Ok(Reply { status, body })
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<hyper::body::Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// True if the last exchange is over for the backend too, and was not the connection's last.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until the last exchange is over for the backend too. False if it was the connection's last.
    pub async fn is_reusable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// False once the backend closed it.
    pub fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_body(
    response: Response<hyper::body::Incoming>,
    max_bytes: usize,
) -> Result<Bytes, Unavailable> {
    let body = Limited::new(response.into_body(), max_bytes);
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unavailable::TooLarge),
        Err(_) => Err(Unavailable::Broken),
    }
}

/// A stream that counts what comes.
struct Counted<T> {
    stream: T,
    received: Rc<Cell<u64>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(filled);
        self.received.set(self.received.get() + bytes as u64);
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
