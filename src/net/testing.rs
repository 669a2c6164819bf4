//! What tests of this room share.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Socket;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Both ends of a connection.
pub fn pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let near = OwnedFd::from(listener.accept().unwrap().0);
    (far, Socket::from(near))
}
