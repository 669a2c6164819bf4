//! In what form a subscriber gets publications. Each form in use is encoded once, whatever the number of
//! subscribers that get it.

use thin_vec::ThinVec;

/// A form of publications: what is said, how it is framed, and what of the channel is wanted; 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encoding {
    /// What is said.
    pub dialect: Dialect,
    /// What separates one message from the next on the connection.
    pub framing: Framing,
    /// Of WebSocket frames: compressed with a window of so many bits (8 to 15), each by itself (RFC 7692);
    /// 0 if not at all.
    pub window_bits: u8,
    /// What of the channel's traffic is wanted.
    pub selection: Selection,
}

const _: () = assert!(size_of::<Encoding>() == 4);

/// What is said about a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dialect {
    /// Its data, nothing else.
    Verbatim,
    /// A JSON object with its data, kind and offset.
    Envelope,
    /// Its data as an event of the channel's name, for a listener of several. The event's id depends on the listener,
    /// and is put in for each.
    NamedVerbatim,
    /// An envelope that names the channel, for a listener of several.
    NamedEnvelope,
    /// A Centrifuge push in JSON.
    Json,
    /// The same for a subscriber of deltas that has no publication yet to which they could refer.
    JsonFull,
    /// The same, as the difference from the channel's publication before it.
    JsonDelta,
    /// A Centrifuge push in Protobuf.
    Protobuf,
    /// The same for a subscriber of deltas that has no publication yet to which they could refer.
    ProtobufFull,
    /// The same, as the difference from the channel's publication before it.
    ProtobufDelta,
    /// A push in JSON for a client that only listens.
    UniJson,
}

/// What separates one message from the next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Framing {
    /// WebSocket frames.
    WebSocket,
    /// A response in chunks, each a message (with a line feed after it, if it is text).
    Chunks,
    /// A response in chunks, each a server-sent event.
    Events,
    /// Parts of one response: a comma behind each.
    Items,
    /// WebSocket frames, each a SockJS array of one message.
    SockJsWebSocket,
    /// Parts of one SockJS array: a string and a comma behind it.
    SockJsItems,
}

/// What of a channel's traffic a subscriber wants, and how the channel is named to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection(u8);

impl Selection {
    const EVENTS: u8 = 0x80;
    const BY_ID: u8 = 0x40;
    /// All publications and nothing else.
    pub const ALL: Self = Self(0);
    /// Filters a channel has on one shard, at most.
    pub const FILTERS_MAX: usize = 63;

    /// What passes the channel's filter `filter` (1 to [`Self::FILTERS_MAX`]; 0 is none).
    pub fn new(filter: u8) -> Self {
        Self(filter & !(Self::EVENTS | Self::BY_ID))
    }

    /// Joins and leaves too, if `wanted`.
    pub fn with_events(self, wanted: bool) -> Self {
        Self(self.0 | if wanted { Self::EVENTS } else { 0 })
    }

    /// The channel is named by a number, if `wanted`.
    pub fn with_id(self, wanted: bool) -> Self {
        Self(self.0 | if wanted { Self::BY_ID } else { 0 })
    }

    /// The filter's number; `None` if all publications are wanted.
    pub fn filter(self) -> Option<u8> {
        Some(self.0 & !(Self::EVENTS | Self::BY_ID)).filter(|filter| *filter != 0)
    }

    /// Whether joins and leaves are wanted.
    pub fn wants_events(self) -> bool {
        self.0 & Self::EVENTS != 0
    }

    /// Whether the channel is named by a number.
    pub fn is_by_id(self) -> bool {
        self.0 & Self::BY_ID != 0
    }
}

impl Encoding {
    /// Frames with nothing but the data: what a bare WebSocket gets.
    pub const PLAIN: Self = Self {
        dialect: Dialect::Verbatim,
        framing: Framing::WebSocket,
        window_bits: 0,
        selection: Selection(0),
    };

    /// The forms that a subscriber gets publications in, now or later.
    pub fn forms(self) -> impl Iterator<Item = Self> {
        let with = |dialect| Some(Self { dialect, ..self });
        let forms = match self.dialect {
            Dialect::JsonFull | Dialect::JsonDelta => {
                [with(Dialect::JsonFull), with(Dialect::JsonDelta)]
            }
            Dialect::ProtobufFull | Dialect::ProtobufDelta => {
                [with(Dialect::ProtobufFull), with(Dialect::ProtobufDelta)]
            }
            _ => [Some(self), None],
        };
        forms.into_iter().flatten()
    }

    /// For a subscriber of deltas without anything they could refer to: the form that it gets from its
    /// second batch on. `None` for everybody else.
    pub fn after_first(self) -> Option<Self> {
        let dialect = match self.dialect {
            Dialect::JsonFull => Dialect::JsonDelta,
            Dialect::ProtobufFull => Dialect::ProtobufDelta,
            _ => return None,
        };
        Some(Self { dialect, ..self })
    }
}

impl Encoding {
    /// Whether its subscriber listens to several channels of the plain dialect.
    pub fn is_named(self) -> bool {
        matches!(
            self.dialect,
            Dialect::NamedVerbatim | Dialect::NamedEnvelope
        )
    }

    /// Of a subscriber of deltas that lost what they refer to: the form without. `None` for everybody else.
    pub fn without_base(self) -> Option<Self> {
        let dialect = match self.dialect {
            Dialect::JsonDelta => Dialect::JsonFull,
            Dialect::ProtobufDelta => Dialect::ProtobufFull,
            _ => return None,
        };
        Some(Self { dialect, ..self })
    }
}

/// The forms in use among a channel's subscribers, each with how many get it. The first takes no memory
/// of its own: most channels have one.
#[derive(Debug, Default)]
pub struct EncodingsInUse {
    first: Option<(Encoding, u32)>,
    others: ThinVec<(Encoding, u32)>,
}

impl EncodingsInUse {
    /// One more session gets `encoding`.
    pub fn add(&mut self, encoding: Encoding) {
        if let Some((_, sessions)) = self.find(encoding) {
            *sessions += 1;
        } else if self.first.is_none() {
            self.first = Some((encoding, 1));
        } else {
            self.others.push((encoding, 1));
        }
    }

    /// One session less gets `encoding`.
    pub fn remove(&mut self, encoding: Encoding) {
        if let Some((_, sessions)) = self.find(encoding) {
            *sessions -= 1;
        }
        self.first.take_if(|(_, sessions)| *sessions == 0);
        self.others.retain(|(_, sessions)| *sessions > 0);
    }

    /// The forms.
    pub fn iter(&self) -> impl Iterator<Item = Encoding> + '_ {
        self.first
            .iter()
            .chain(&self.others)
            .map(|(encoding, _)| *encoding)
    }

    /// Whether somebody gets differences.
    pub fn has_deltas(&self) -> bool {
        self.iter().any(|encoding| {
            matches!(
                encoding.dialect,
                Dialect::JsonDelta | Dialect::ProtobufDelta
            )
        })
    }

    fn find(&mut self, encoding: Encoding) -> Option<&mut (Encoding, u32)> {
        self.first
            .iter_mut()
            .chain(&mut self.others)
            .find(|(used, _)| *used == encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Encoding = Encoding {
        window_bits: 9,
        ..Encoding::PLAIN
    };
    const JSON: Encoding = Encoding {
        dialect: Dialect::Json,
        ..Encoding::PLAIN
    };

    #[test]
    fn an_encoding_is_in_use_while_a_session_has_it() {
        let mut in_use = EncodingsInUse::default();
        let all = |in_use: &EncodingsInUse| in_use.iter().collect::<Vec<_>>();
        in_use.add(Encoding::PLAIN);
        in_use.add(SMALL);
        in_use.add(SMALL);
        in_use.add(JSON);
        in_use.remove(SMALL);
        assert_eq!(all(&in_use), [Encoding::PLAIN, SMALL, JSON]);
        in_use.remove(Encoding::PLAIN);
        in_use.remove(SMALL);
        assert_eq!(all(&in_use), [JSON]);
        in_use.add(SMALL);
        in_use.remove(JSON);
        assert_eq!(all(&in_use), [SMALL]);
        in_use.remove(SMALL);
        assert_eq!(all(&in_use), []);
    }

    #[test]
    fn a_selection_is_a_filter_and_a_wish() {
        assert_eq!(Selection::default().filter(), None);
        assert!(!Selection::default().wants_events());
        let all = Selection::new(63).with_events(true).with_id(true);
        assert_eq!(all.filter(), Some(63));
        assert!(all.wants_events() && all.is_by_id());
    }
}
