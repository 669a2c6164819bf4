//! A TCP proxy before the server whose connections a test cuts.

use std::io;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Serves until the runtime ends.
pub struct Proxy {
    address: String,
    cut: broadcast::Sender<()>,
}

impl Proxy {
    pub async fn start(server: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (cut, _) = broadcast::channel(1);
        tokio::spawn(serve(listener, server.to_owned(), cut.clone()));
        Ok(Self { address, cut })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends every connection there is.
    pub fn cut(&self) {
        let _ = self.cut.send(());
    }
}

async fn serve(listener: TcpListener, server: String, cut: broadcast::Sender<()>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, server.clone(), cut.subscribe()));
    }
}

async fn carry(mut client: TcpStream, server: String, mut cut: broadcast::Receiver<()>) {
    let Ok(mut upstream) = TcpStream::connect(server).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut upstream) => {}
        _ = cut.recv() => {}
    }
}
