//! A chunked body: how it is cut does not matter, and a decoder of a few lines agrees.

use longwire::proto::http::ChunkedReader;

pub const SEEDS: &[&[u8]] = &[
    b"\x055\r\nhello\r\n0\r\n\r\nGET",
    b"\x01a;x=\"y\"\r\n0123456789\r\n001\r\n!\r\n0;\r\nX: y\r\nZ:\r\n\r\n",
    b"\x02ffffffffffffffff\r\nabc",
];

/// Body and length taken of a body that has ended; `None`: it has not.
type Decoded = Result<Option<(Vec<u8>, usize)>, ()>;

/// The first byte says how the rest is cut.
pub fn run(input: &[u8]) {
    let Some((&piece_bytes, body)) = input.split_first() else {
        return;
    };
    let whole = decode(body, body.len().max(1));
    let cut = decode(body, usize::from(piece_bytes).max(1));
    assert_eq!(whole, cut, "pieces of {piece_bytes} bytes");
    if let Ok(Some(decoded)) = &whole {
        assert_eq!(naive(body).as_ref(), Some(decoded));
    }
}

fn decode(body: &[u8], piece_bytes: usize) -> Decoded {
    let mut reader = ChunkedReader::new();
    let (mut decoded, mut taken) = (Vec::new(), 0);
    for piece in body.chunks(piece_bytes) {
        let mut rest = piece;
        while !rest.is_empty() {
            let step = reader.next(rest).map_err(|_| ())?;
            assert!(step.consumed > 0, "no progress");
            decoded.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
            taken += step.consumed;
            if step.done {
                return Ok(Some((decoded, taken)));
            }
        }
    }
    Ok(None)
}

/// Reads lines that end in CRLF; of a size only its digits, of the trailers only their end.
fn naive(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut decoded = Vec::new();
    let mut at = 0;
    let line = |at: &mut usize| {
        let len = body[*at..].windows(2).position(|pair| pair == b"\r\n")?;
        let line = &body[*at..*at + len];
        *at += len + 2;
        Some(line)
    };
    loop {
        let digits = line(&mut at)?.split(|&byte| byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            while !line(&mut at)?.is_empty() {}
            return Some((decoded, at));
        }
        decoded.extend_from_slice(body.get(at..at.checked_add(size)?)?);
        at += size + 2;
    }
}
