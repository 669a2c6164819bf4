//! One held connection: reads what comes, answers pings, notices the end.

use std::io;
use std::rc::Rc;

use longwire::net::Stream;
use longwire::proto::frame::Opcode;
use longwire::proto::message::{Event, MessageLimits, MessageReader, Role};

use crate::clock::now_ns;
use crate::counters::Cause;
use crate::listen::{Heard, Listener};
use crate::worker::Worker;

/// A load generator takes whatever the server sends, up to a size no test uses.
const LIMITS: MessageLimits = MessageLimits {
    message_bytes: 64 << 20,
    frames_per_message: 1 << 20,
};

/// What a connection speaks.
enum Dialogue {
    WebSocket(MessageReader),
    Http(Box<Listener>),
}

/// A held connection. One task runs it; what it keeps is all there is per connection.
pub struct Session {
    worker: Rc<Worker>,
    stream: Rc<Stream>,
    /// Its number within the thread.
    number: usize,
    dialogue: Dialogue,
    /// The server sent its Close frame; only the end of the stream is awaited.
    closed: bool,
}

impl Session {
    /// Takes over an open connection: a WebSocket, if it has no `listener`.
    pub fn new(
        worker: Rc<Worker>,
        stream: Rc<Stream>,
        number: usize,
        listener: Option<Listener>,
    ) -> Self {
        let dialogue = match listener {
            Some(listener) => Dialogue::Http(Box::new(listener)),
            None => Dialogue::WebSocket(MessageReader::default()),
        };
        Self {
            worker,
            stream,
            number,
            dialogue,
            closed: false,
        }
    }

    /// Handles bytes that came with the handshake.
    pub fn begin(&mut self, leftover: &mut [u8]) -> Result<(), Cause> {
        self.absorb(leftover)
    }

    /// Handles everything until the connection ends.
    // Not an `async fn`: that would keep `self` twice, as argument and as local.
    #[expect(clippy::manual_async_fn)]
    pub fn run(mut self) -> impl Future<Output = ()> {
        async move {
            loop {
                if let Err(cause) = self
                    .stream
                    .readable()
                    .await
                    .map_err(Cause::from)
                    .and_then(|()| self.turn())
                {
                    self.end(&cause);
                    return;
                }
            }
        }
    }

    /// Takes what there is to read.
    fn turn(&mut self) -> Result<(), Cause> {
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch();
        match self.stream.try_recv(&mut scratch) {
            Ok(0) => Err(Cause::EndOfFile),
            Ok(read) => self.absorb(&mut scratch[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn absorb(&mut self, input: &mut [u8]) -> Result<(), Cause> {
        if matches!(self.dialogue, Dialogue::Http(_)) {
            return self.listen(input);
        }
        let received_ns = now_ns();
        let mut at = 0;
        // What follows a Close frame is not looked at.
        while !self.closed
            && let Dialogue::WebSocket(reader) = &mut self.dialogue
        {
            let step = reader.next(Role::Client, &LIMITS, &mut input[at..])?;
            at += step.consumed;
            match step.event {
                Some(Event::Text(payload)) => {
                    self.worker
                        .receive(self.number, Opcode::Text, payload, received_ns)?;
                }
                Some(Event::Binary(payload)) => {
                    self.worker
                        .receive(self.number, Opcode::Binary, payload, received_ns)?;
                }
                Some(Event::Ping(payload)) => {
                    self.worker.counters().pings.add(1);
                    self.worker.reply(self.number, Opcode::Pong, payload)?;
                }
                Some(Event::Pong(_)) => {}
                Some(Event::Close(close)) => {
                    self.closed = true;
                    let code = close.map(|(code, _)| code);
                    self.worker.receive_close(self.number, code)?;
                }
                None if step.consumed == 0 => break,
                None => {}
            }
        }
        Ok(())
    }

    fn listen(&mut self, input: &[u8]) -> Result<(), Cause> {
        let Dialogue::Http(listener) = &mut self.dialogue else {
            return Ok(());
        };
        let received_ns = now_ns();
        let (worker, number) = (&self.worker, self.number);
        let mut received = Ok(());
        let answer = listener.absorb(input, |heard| match heard {
            Heard::Beat => worker.counters().pings.add(1),
            Heard::Data(data) => {
                let took = worker.receive_any(number, &data, received_ns);
                received = std::mem::replace(&mut received, Ok(())).and(took);
            }
        })?;
        received?;
        match answer.is_empty() {
            true => Ok(()),
            false => self.worker.send(self.number, &answer),
        }
    }

    /// Lets go of the connection.
    pub fn end(&self, cause: &Cause) {
        if !self.closed {
            self.worker.lose(self.number, cause);
        }
        self.worker.release(self.number);
    }
}
