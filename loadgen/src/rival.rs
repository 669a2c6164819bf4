//! Other servers: what their clients say over the WebSocket, and how one publishes to them.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::args::{PublishArgs, RivalArgs};
use crate::setup::resolve;
use crate::target::{CHANNEL, HttpTarget, Target, channel_name};

/// What stands for the message in a template.
const DATA: &str = "{data}";

/// What a client of another server says, once its WebSocket is open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rival {
    /// Sent first, as text.
    subscribe: Option<String>,
    /// A message that is no publication but wants `pong` for an answer.
    ping: Option<String>,
    pong: String,
}

impl Rival {
    /// As the command line says; `None` if the server is Longwire.
    pub fn of(args: &RivalArgs) -> Option<Self> {
        args.rival.then(|| Self {
            subscribe: args.subscribe_frame.as_deref().map(unescape),
            ping: args.rival_ping.as_deref().map(unescape),
            pong: unescape(args.rival_pong.as_deref().unwrap_or_default()),
        })
    }

    /// What subscribes to a channel.
    pub fn subscribe_frame(&self, channel: u32) -> Option<String> {
        let template = self.subscribe.as_ref()?;
        Some(template.replace(CHANNEL, &channel_name(channel)))
    }

    /// The answer to a message, if it wants one.
    pub fn answer(&self, payload: &[u8]) -> Option<&[u8]> {
        let ping = self.ping.as_ref()?;
        (payload.trim_ascii() == ping.trim().as_bytes()).then_some(self.pong.as_bytes())
    }
}

/// How to publish.
#[derive(Clone, Debug)]
pub enum Door {
    /// As Longwire takes it.
    Longwire {
        /// Whole header lines.
        headers: String,
    },
    /// Any HTTP request.
    Http {
        /// Where to.
        address: SocketAddr,
        /// What is asked for.
        target: Target,
        /// Whole header lines.
        headers: String,
        /// The body, with places for channel and message.
        body: String,
    },
    /// A program.
    Command(String),
}

impl Door {
    /// Longwire's.
    pub fn longwire(api_key: Option<&str>) -> Self {
        let mut headers = "Content-Type: text/plain\r\n".to_owned();
        if let Some(key) = api_key {
            headers.push_str(&format!("X-API-Key: {key}\r\n"));
        }
        Self::Longwire { headers }
    }

    /// As the command line says, or why it cannot be so.
    pub fn of(args: &PublishArgs, api_key: Option<&str>) -> Result<Self, String> {
        if let Some(command) = &args.publish_command {
            return Ok(Self::Command(command.clone()));
        }
        let Some(HttpTarget(target)) = &args.publish_url else {
            return Ok(Self::longwire(api_key));
        };
        let headers = args.publish_header.iter();
        Ok(Self::Http {
            address: resolve(target)?,
            target: target.clone(),
            headers: headers.map(|header| format!("{header}\r\n")).collect(),
            body: args.publish_body.clone(),
        })
    }
}

/// A template with its places filled.
pub fn fill(template: &str, channel: u32, data: &str) -> String {
    let named = template.replace(CHANNEL, &channel_name(channel));
    named.replace(DATA, data)
}

/// `\n`, `\r` and `\\` as a shell's single quotes leave them.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('\\', Some(escaped @ ('n' | 'r' | '\\'))) => {
                out.push(match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                });
                rest.next();
            }
            _ => out.push(c),
        }
    }
    out
}

/// A running program that publishes: each line on its stdin is a channel, a space and a message; it
/// answers each with a line on stdout.
#[derive(Debug)]
pub struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it with the shell.
    pub fn start(command: &str) -> std::io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || std::io::Error::other("no pipe");
        Ok(Self {
            input: child.stdin.take().ok_or_else(missing)?,
            output: BufReader::new(child.stdout.take().ok_or_else(missing)?),
            child,
        })
    }

    /// Publishes; waits for the answer as long as it takes.
    pub fn publish(&mut self, channel: u32, data: &str) -> std::io::Result<()> {
        let channel = channel_name(channel);
        self.input
            .write_all(format!("{channel} {data}\n").as_bytes())?;
        let mut answer = String::new();
        match self.output.read_line(&mut answer)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        assert_eq!(fill("{channel}: \"{data}\"", 3, "x"), "loadgen-3: \"x\"");
        assert_eq!(unescape(r"a\r\nb\\c\td\"), "a\r\nb\\c\\td\\");
    }

    #[test]
    fn pings_are_told_from_other_messages() {
        let rival = Rival {
            subscribe: Some("SUB {channel}".to_owned()),
            ping: Some("PING\r\n".to_owned()),
            pong: "PONG\r\n".to_owned(),
        };
        assert_eq!(rival.subscribe_frame(0).as_deref(), Some("SUB loadgen-0"));
        assert_eq!(rival.answer(b"PING\r\n"), Some(&b"PONG\r\n"[..]));
        assert_eq!(rival.answer(b"PINGS"), None);
        assert_eq!(Rival::default().answer(b""), None);
    }

    #[test]
    fn a_program_publishes_line_by_line() {
        let mut program =
            Program::start("while read channel data; do [ $data = x ] && echo ok; done").unwrap();
        program.publish(1, "x").unwrap();
        program.publish(1, "x").unwrap();
        assert!(Program::start("true").unwrap().publish(1, "x").is_err());
    }
}
