//! WebSocket streams for the tests of the codec: written by hand here, so that the encoder is not
//! its own judge.

use longwire::proto::message::{Event, MessageLimits, MessageReader, Role, Violation};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// One frame as it goes on the wire.
#[derive(Clone, Debug)]
pub struct RawFrame {
    pub fin: bool,
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    pub payload: Vec<u8>,
}

impl RawFrame {
    pub fn write(&self, out: &mut Vec<u8>) {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(self.opcode | if self.fin { 0x80 } else { 0 });
        match self.payload.len() {
            len @ 0..=125 => out.push(masked | len as u8),
            len @ 126..=65535 => {
                out.push(masked | 126);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(masked | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(self.mask.iter().flatten());
        let mask = self.mask.unwrap_or([0; 4]);
        let masked = self.payload.iter().enumerate();
        out.extend(masked.map(|(at, byte)| byte ^ mask[at % 4]));
    }
}

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Event<'_>> for Received {
    fn from(event: Event) -> Self {
        match event {
            Event::Text(payload) => Self::Text(payload.into()),
            Event::Binary(payload) => Self::Binary(payload.into()),
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            Event::Close(close) => Self::Close(close.map(|(code, reason)| (code, reason.into()))),
        }
    }
}

/// Messages of one side, fragmented and with control frames between and within them, as they go on
/// the wire, beside what they must be read as.
pub fn conversation(masked: bool) -> impl Strategy<Value = (Vec<RawFrame>, Vec<Received>)> {
    vec(message(masked), 0..6).prop_map(|messages| {
        let (mut frames, mut events) = (Vec::new(), Vec::new());
        for (message_frames, message_events) in messages {
            frames.extend(message_frames);
            events.extend(message_events);
        }
        (frames, events)
    })
}

/// The bytes of a conversation, some of them changed, dropped or missing at the end.
pub fn damaged_stream(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    let drops = vec(any::<Index>(), 0..2);
    let stream = conversation(masked).prop_map(|(frames, _)| wire(&frames));
    (stream, changes, drops).prop_map(|(mut stream, changes, drops)| {
        for (at, byte) in changes {
            // Small streams make it likely to hit a header.
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
        }
        for at in drops {
            if !stream.is_empty() {
                stream.remove(at.index(stream.len()));
            }
        }
        stream
    })
}

pub fn wire(frames: &[RawFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        frame.write(&mut out);
    }
    out
}

fn message(masked: bool) -> impl Strategy<Value = (Vec<RawFrame>, Vec<Received>)> {
    let controls = vec((any::<Index>(), control(masked)), 0..3);
    (data_message(masked), controls).prop_map(|((mut frames, event), controls)| {
        let mut events = vec![event];
        let mut slots: Vec<(usize, _)> = controls
            .into_iter()
            .map(|(at, control)| (at.index(frames.len()), control))
            .collect();
        slots.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        for (at, (frame, event)) in slots {
            frames.insert(at, frame);
            events.insert(0, event);
        }
        (frames, events)
    })
}

fn control(masked: bool) -> impl Strategy<Value = (RawFrame, Received)> {
    let close = prop_oneof![
        Just(None),
        (
            prop_oneof![Just(1000), Just(1014), 3000..5000u16],
            "[a-zé]{0,60}"
        )
            .prop_map(Some),
    ];
    let event = prop_oneof![
        4 => vec(any::<u8>(), 0..=125).prop_map(Received::Ping),
        4 => vec(any::<u8>(), 0..=125).prop_map(Received::Pong),
        1 => close.prop_map(Received::Close),
    ];
    (event, mask(masked)).prop_map(|(event, mask)| {
        let (opcode, payload) = match &event {
            Received::Ping(payload) => (0x9, payload.clone()),
            Received::Pong(payload) => (0xa, payload.clone()),
            Received::Close(Some((code, reason))) => {
                (0x8, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
            }
            _ => (0x8, Vec::new()),
        };
        let frame = RawFrame {
            fin: true,
            opcode,
            mask,
            payload,
        };
        (frame, event)
    })
}

fn data_message(masked: bool) -> impl Strategy<Value = (Vec<RawFrame>, Received)> {
    let text = (any::<String>(), repeats()).prop_map(|(text, times)| {
        let text = text.repeat(times);
        Received::Text(text.into_bytes())
    });
    let binary = (vec(any::<u8>(), 0..30), repeats())
        .prop_map(|(bytes, times)| Received::Binary(bytes.repeat(times)));
    let event = prop_oneof![text, binary];
    let cuts = vec((any::<Index>(), mask(masked)), 0..4);
    (event, cuts, mask(masked)).prop_map(|(event, mut cuts, last_mask)| {
        let (opcode, payload) = match &event {
            Received::Text(payload) => (0x1, payload),
            Received::Binary(payload) => (0x2, payload),
            control => unreachable!("{control:?}"),
        };
        cuts.sort_by_key(|(at, _)| at.index(payload.len() + 1));
        let mut frames = Vec::new();
        let mut start = 0;
        for (at, mask) in cuts {
            let end = at.index(payload.len() + 1);
            frames.push(RawFrame {
                fin: false,
                opcode: if frames.is_empty() { opcode } else { 0 },
                mask,
                payload: payload[start..end].into(),
            });
            start = end;
        }
        frames.push(RawFrame {
            fin: true,
            opcode: if frames.is_empty() { opcode } else { 0 },
            mask: last_mask,
            payload: payload[start..].into(),
        });
        (frames, event)
    })
}

/// Mostly short payloads; some on either side of the longer forms of the length.
fn repeats() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(1), 2 => 2..20usize, 1 => Just(5000)]
}

fn mask(masked: bool) -> impl Strategy<Value = Option<[u8; 4]>> {
    any::<[u8; 4]>().prop_map(move |mask| masked.then_some(mask))
}

/// Reads `pieces` one after the other as the server would, and checks what the reader promises on
/// the way.
pub fn read(
    role: Role,
    limits: &MessageLimits,
    pieces: &[&[u8]],
) -> (Vec<Received>, Result<(), Violation>) {
    let mut reader = MessageReader::new();
    let mut received = Vec::new();
    let mut fed = 0;
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        fed += piece.len();
        loop {
            let step = match reader.next(role, limits, &mut piece[at..]) {
                Ok(step) => step,
                Err(violation) => return (received, Err(violation)),
            };
            let consumed = step.consumed;
            received.extend(step.event.map(Received::from));
            assert_eq!(consumed == 0, at == piece.len());
            at += consumed;
            let held = reader.buffered_bytes();
            assert!(held <= 512 + 2 * fed, "{held} bytes held for {fed}");
            assert!(held <= 512 + limits.message_bytes, "{held} bytes held");
            if consumed == 0 {
                break;
            }
        }
        assert_eq!(reader.is_partial(), reader.buffered_bytes() > 0);
    }
    (received, Ok(()))
}
