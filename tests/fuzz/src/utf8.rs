//! Text that comes in pieces: the same verdict as the standard library's on the whole, at the first byte that shows it.

use longwire::proto::utf8::Utf8Checker;

pub const SEEDS: &[&[u8]] = &[
    b"\x02\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
    b"\x01\xf0\x9f\x98\x80\xef\xbf\xbf",
    b"\x03a\xed\xa0\x80",
    b"\x01\xf4\x90\x80\x80",
];

/// The first byte says how the rest is cut.
pub fn run(input: &[u8]) {
    let Some((&piece_bytes, text)) = input.split_first() else {
        return;
    };
    let piece_bytes = usize::from(piece_bytes).max(1);
    let bad_at = first_bad_byte(text);
    let mut checker = Utf8Checker::new();
    for (index, piece) in text.chunks(piece_bytes).enumerate() {
        let end = index * piece_bytes + piece.len();
        let is_bad = bad_at.is_some_and(|bad_at| bad_at < end);
        assert_eq!(checker.feed(piece).is_err(), is_bad, "up to byte {end}");
        if is_bad {
            return;
        }
    }
    assert_eq!(checker.finish().is_ok(), std::str::from_utf8(text).is_ok());
}

/// The first byte that no valid text could have there.
fn first_bad_byte(text: &[u8]) -> Option<usize> {
    let valid_up_to = match std::str::from_utf8(text) {
        Ok(_) => return None,
        Err(error) => error.valid_up_to(),
    };
    let rest = &text[valid_up_to..];
    let may_go_on = |len: usize| match std::str::from_utf8(&rest[..len]) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    (1..=rest.len())
        .find(|&len| !may_go_on(len))
        .map(|len| valid_up_to + len - 1)
}
