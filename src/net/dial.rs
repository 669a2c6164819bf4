//! Connections that this server makes, from the one thread that runs on tokio.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};

/// A connection to a backend.
pub type Dialed = TcpStream;

/// Connects to an address.
pub async fn dial(address: SocketAddr) -> io::Result<Dialed> {
    let stream = TcpStream::connect(address).await?;
    // A request is one write; waiting for more of it only costs time.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The addresses a name stands for, by the host's resolver, in a thread where that may take long.
pub async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((host, port)).await?.collect())
}
