//! Where a client of the plain dialect stands: `epoch:offset` in one channel, and
//! `channel=epoch:offset,…` in several. It is the `id:` of server-sent events and comes back as
//! `Last-Event-ID`, or as `since` of a poll.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The longest epoch in bytes.
pub const EPOCH_BYTES_MAX: usize = 32;

/// What needs no escape in a channel's name. Commas, equals signs and colons do.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A place in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<'a> {
    /// Letters, digits, `-` and `_`; 1 to [`EPOCH_BYTES_MAX`] of them.
    pub epoch: &'a str,
    /// The newest offset the client has; 0 for none yet.
    pub offset: u64,
}

impl<'a> Cursor<'a> {
    /// Reads `epoch:offset`; `None` if it is anything else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (epoch, offset) = text.split_once(':')?;
        if !is_epoch(epoch) || !is_decimal(offset) {
            return None;
        }
        let offset = offset.parse().ok()?;
        Some(Self { epoch, offset })
    }
}

impl fmt::Display for Cursor<'_> {
    /// `epoch:offset`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// Appends `channel=epoch:offset`, after a comma if it is not the first. The channel's name is
/// percent-encoded.
pub fn append_channel_cursor(out: &mut String, channel: &str, cursor: Cursor<'_>) {
    if !out.is_empty() {
        out.push(',');
    }
    out.extend(utf8_percent_encode(channel, ESCAPED));
    out.push('=');
    out.push_str(&cursor.to_string());
}

/// Reads a cursor over several channels: each channel's name and place. `None` if it is malformed, or
/// has more than `channels_max` of them.
pub fn parse_channel_cursors(text: &str, channels_max: usize) -> Option<Vec<(String, Cursor<'_>)>> {
    let mut cursors = Vec::new();
    for part in text.split(',') {
        let (channel, cursor) = part.split_once('=')?;
        let channel = percent_decode_str(channel).decode_utf8().ok()?.into_owned();
        let is_too_many = cursors.len() == channels_max;
        if channel.is_empty() || is_too_many {
            return None;
        }
        cursors.push((channel, Cursor::parse(cursor)?));
    }
    Some(cursors)
}

/// The longest a cursor over these channels gets, in bytes, with epochs as this server makes them.
pub fn cursor_bytes_max<'n>(channels: impl Iterator<Item = &'n str>) -> usize {
    // An equals sign, 16 digits of an epoch, a colon, 20 of an offset, a comma.
    let name = |channel| {
        utf8_percent_encode(channel, ESCAPED)
            .map(str::len)
            .sum::<usize>()
    };
    channels.map(|channel| name(channel) + 39).sum()
}

fn is_epoch(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=EPOCH_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

/// `str::parse` would take a sign too.
fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_is_an_epoch_and_an_offset() {
        let cursor = Cursor {
            epoch: "00ff",
            offset: 7,
        };
        assert_eq!(Cursor::parse("00ff:7"), Some(cursor));
        assert_eq!(cursor.to_string(), "00ff:7");
    }

    #[test]
    fn anything_else_is_none() {
        let long = format!("{}:1", "a".repeat(EPOCH_BYTES_MAX + 1));
        for text in [
            "",
            ":",
            "a:",
            ":1",
            "a",
            "a:-1",
            "a:+1",
            "a:1 ",
            "a b:1",
            "a:1:2",
            "é:1",
            &long,
            "a:18446744073709551616",
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn several_channels_have_a_bound_and_names() {
        let two = parse_channel_cursors("a=e:1,b%2Cc=f:2", 2).unwrap();
        assert_eq!(
            two[1],
            (
                "b,c".to_owned(),
                Cursor {
                    epoch: "f",
                    offset: 2
                }
            )
        );
        assert_eq!(parse_channel_cursors("a=e:1,b=f:2", 1), None);
        for text in ["", ",", "a=e:1,", "=e:1", "e:1", "%ff=e:1"] {
            assert_eq!(parse_channel_cursors(text, 9), None, "{text}");
        }
    }

    #[test]
    fn no_cursor_is_longer_than_was_reckoned() {
        let mut text = String::new();
        for channel in ["a", "\u{fc}:b"] {
            let cursor = Cursor {
                epoch: "0123456789abcdef",
                offset: u64::MAX,
            };
            append_channel_cursor(&mut text, channel, cursor);
        }
        // But for the comma that does not follow the last.
        assert_eq!(
            cursor_bytes_max(["a", "\u{fc}:b"].into_iter()),
            text.len() + 1
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            channels in prop::collection::vec(("\\PC{1,9}", "[a-zA-Z0-9_-]{1,32}", any::<u64>()), 1..4),
        ) {
            let mut text = String::new();
            for (channel, epoch, offset) in &channels {
                append_channel_cursor(&mut text, channel, Cursor { epoch, offset: *offset });
            }
            prop_assert!(text.is_ascii());
            let read = parse_channel_cursors(&text, 4).unwrap();
            let written = channels.iter().map(|(channel, epoch, offset)| {
                (channel.clone(), Cursor { epoch, offset: *offset })
            });
            prop_assert_eq!(read, written.collect::<Vec<_>>());
        }
    }
}
