//! What a published message holds: who sent it, which one it is, when it was meant to go out.
//! Plain ASCII that is no JSON, so that it goes out as it is in a text frame.

/// First bytes of every payload.
const MARK: &[u8; 2] = b"lg";
/// Fills a payload up to the size asked for.
const PADDING: u8 = b'.';
/// Bytes of the fields; the smallest payload.
pub const PAYLOAD_BYTES_MIN: usize = MARK.len() + 8 + 8 + 4 + 8 + 16;

/// The fields of a payload, in fixed-width hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which run of the program: messages of another run on the same channel are no business of this one.
    pub run: u32,
    /// The channel's number.
    pub channel: u32,
    /// The publisher's number.
    pub publisher: u16,
    /// Counts this publisher's messages on this channel from 0.
    pub sequence: u32,
    /// When it was meant to be sent, in CLOCK_MONOTONIC nanoseconds.
    pub intended_ns: u64,
}

impl Stamp {
    /// The payload, padded to `size_bytes` (at least [`PAYLOAD_BYTES_MIN`]).
    pub fn encode(&self, size_bytes: usize) -> Vec<u8> {
        let Self {
            run,
            channel,
            publisher,
            sequence,
            intended_ns,
        } = self;
        let fields =
            format!("lg{run:08x}{channel:08x}{publisher:04x}{sequence:08x}{intended_ns:016x}");
        let mut payload = fields.into_bytes();
        payload.resize(size_bytes.max(PAYLOAD_BYTES_MIN), PADDING);
        payload
    }

    /// All payloads in a message that holds more than them.
    pub fn find_all(message: &[u8]) -> impl Iterator<Item = Self> {
        let marks = message.windows(MARK.len()).enumerate();
        marks
            .filter(|(_, bytes)| bytes == MARK)
            .filter_map(|(at, _)| Self::decode(&message[at..]))
    }

    /// Reads the fields back; `None` if it is no payload of this program.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut rest = payload.strip_prefix(MARK)?;
        Some(Self {
            run: field(&mut rest, 8)?.try_into().ok()?,
            channel: field(&mut rest, 8)?.try_into().ok()?,
            publisher: field(&mut rest, 4)?.try_into().ok()?,
            sequence: field(&mut rest, 8)?.try_into().ok()?,
            intended_ns: field(&mut rest, 16)?,
        })
    }
}

/// Takes `digits` (at most 16) hexadecimal digits from the front.
fn field(rest: &mut &[u8], digits: usize) -> Option<u64> {
    let (taken, after) = rest.split_at_checked(digits)?;
    *rest = after;
    taken.iter().try_fold(0, |value, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xdead_beef,
        channel: 70_000,
        publisher: 1023,
        sequence: u32::MAX,
        intended_ns: u64::MAX - 1,
    };

    #[test]
    fn fields_come_back() {
        for size in [0, PAYLOAD_BYTES_MIN, 100, 5000] {
            let payload = STAMP.encode(size);
            assert_eq!(payload.len(), size.max(PAYLOAD_BYTES_MIN));
            assert_eq!(Stamp::decode(&payload), Some(STAMP));
            assert!(payload.is_ascii());
        }
    }

    #[test]
    fn they_are_found_in_other_messages() {
        let payload = String::from_utf8(STAMP.encode(60)).unwrap();
        let message = format!("lg {{\"data\":\"{payload}\"}}\n{{\"lg\":\"{payload}\"}}");
        assert_eq!(
            Stamp::find_all(message.as_bytes()).collect::<Vec<_>>(),
            [STAMP; 2]
        );
        assert_eq!(
            Stamp::find_all(b"").count() + Stamp::find_all(b"lg").count(),
            0
        );
    }

    #[test]
    fn it_is_no_json() {
        assert!(serde_json::from_slice::<serde_json::Value>(&STAMP.encode(100)).is_err());
    }

    #[test]
    fn other_payloads_are_told_apart() {
        let payload = STAMP.encode(0);
        for cut in 0..payload.len() {
            assert_eq!(Stamp::decode(&payload[..cut]), None);
        }
        let mut wrong = payload.clone();
        wrong[7] = b'g';
        assert_eq!(Stamp::decode(&wrong), None);
        assert_eq!(Stamp::decode(b"hello"), None);
    }
}
