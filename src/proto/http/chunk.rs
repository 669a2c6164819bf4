//! Writing a chunked body (RFC 9112 section 7.1).

/// Ends a chunked body, which has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one chunk. Nothing is appended for no data: an empty chunk would end the body.
pub fn append_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    append_hexadecimal(out, data.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn append_hexadecimal(out: &mut Vec<u8>, number: usize) {
    if number >= 16 {
        append_hexadecimal(out, number / 16);
    }
    let digit = (number % 16) as u8;
    out.push(match digit {
        0..=9 => b'0' + digit,
        _ => b'a' + digit - 10,
    });
}

#[cfg(test)]
mod tests {
    use super::super::ChunkedReader;
    use super::*;

    fn read_all(body: &[u8]) -> Vec<u8> {
        let mut reader = ChunkedReader::new();
        let (mut data, mut at) = (Vec::new(), 0);
        loop {
            let step = reader.next(&body[at..]).unwrap();
            data.extend_from_slice(&body[at..][step.data]);
            at += step.consumed;
            if step.done {
                return data;
            }
        }
    }

    #[test]
    fn a_chunk_is_its_length_and_its_data() {
        let mut out = Vec::new();
        append_chunk(&mut out, b"hello");
        append_chunk(&mut out, b"");
        append_chunk(&mut out, &[b'x'; 0x1af]);
        assert!(out.starts_with(b"5\r\nhello\r\n1af\r\nxxx"));
        assert!(out.ends_with(b"xxx\r\n"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        append_chunk(&mut out, b"one\n");
        append_chunk(&mut out, b"two\n");
        out.extend_from_slice(LAST_CHUNK);
        assert_eq!(read_all(&out), b"one\ntwo\n");
    }
}
