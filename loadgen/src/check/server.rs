//! The server of a check, if the check is to start it: killed, started again, stopped for a while.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::clock::now_ns;
use crate::http::{HttpConnection, HttpError, Request};
use crate::run::Run;

/// Longest wait until it takes connections.
const START_PATIENCE_NS: u64 = 30_000_000_000;
/// How often that is tried.
const START_POLL: Duration = Duration::from_millis(20);
/// Longest wait for one answer to that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A running server.
#[derive(Debug)]
pub struct Server {
    command: String,
    address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts it with the shell, and waits until it takes connections.
    pub fn start(command: &str, address: SocketAddr) -> io::Result<Self> {
        if TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok() {
            let reason = format!("another server is on {address} already");
            return Err(io::Error::other(reason));
        }
        let mut server = Self {
            child: spawn(command)?,
            command: command.to_owned(),
            address,
        };
        server.wait_until_up()?;
        Ok(server)
    }

    /// Kills it with SIGKILL and starts it again.
    pub fn restart(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.command)?;
        self.wait_until_up()
    }

    /// Stops it, all its threads, for so long.
    pub fn freeze(&self, pause: Duration) -> io::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP)?;
        std::thread::sleep(pause);
        Ok(kill_process(pid, Signal::CONT)?)
    }

    fn wait_until_up(&mut self) -> io::Result<()> {
        let give_up_ns = now_ns() + START_PATIENCE_NS;
        while TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let reason = format!("the server ended with {status}: {}", self.command);
                return Err(io::Error::other(reason));
            }
            if now_ns() > give_up_ns {
                let reason = format!("the server does not listen on {}", self.address);
                return Err(io::Error::other(reason));
            }
            std::thread::sleep(START_POLL);
        }
        Ok(())
    }
}

/// Holds one core of a server that was built with test hooks, and waits until it goes on.
pub fn hold_core(run: &Run, pause: Duration) -> Result<(), Failure> {
    let mut connection = HttpConnection::open(run.address, pause + CONNECT_TIMEOUT * 10)?;
    let answer = connection.request(&Request {
        method: "POST",
        path: &format!("/test/hold?ms={}", pause.as_millis()),
        host: &run.target.authority(),
        headers: "",
        body: Some(b""),
    });
    match answer {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(Failure::Run(format!(
            "a core cannot be held, status {}: the server needs `--features test-hooks`",
            answer.status
        ))),
        Err(HttpError::NotSent(error) | HttpError::NoAnswer(error)) => Err(error.into()),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shell makes way for the server: its process is the one to kill.
fn spawn(command: &str) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", &format!("exec {command}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}
