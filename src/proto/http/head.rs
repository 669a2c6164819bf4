//! Finding the end of a request head, however it is cut.

use super::HttpError;

/// What a request head may take. Line ends do not count towards a line, but do towards the head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the head, its blank line included; more is 431.
    pub head_bytes: usize,
    /// Header lines; more is 431. No use above 100, which is what
    /// [`parse_request`](super::parse_request) takes.
    pub headers: usize,
    /// Bytes of the request line; more is 414.
    pub request_line_bytes: usize,
}

/// Finds the end of one request head in a buffer that grows, and looks at each byte once. It checks
/// what a lenient parser would let pass: every line ends in CRLF, no line is folded, no control
/// byte is anywhere (RFC 9112 sections 2.2 and 5.2). One empty line before the request line is
/// tolerated, and is part of the head.
#[derive(Clone, Copy, Debug)]
pub struct HeadScanner {
    /// Length of the buffer when one byte more is there than was looked at; those were all good.
    /// Kept as it is compared, for the way of a single byte.
    next_len: usize,
    line_start: usize,
    headers: usize,
    after_cr: bool,
    line: Line,
    /// Below this length of the buffer one more byte of text breaks no limit and begins no line.
    text_until: usize,
}

/// What the line at `line_start` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// The first line: the request line, or the one empty line before it.
    First,
    Request,
    Header,
}

impl Default for HeadScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadScanner {
    /// A scanner at the start of a request.
    pub fn new() -> Self {
        Self {
            next_len: 1,
            line_start: 0,
            headers: 0,
            after_cr: false,
            line: Line::First,
            text_until: 0,
        }
    }

    /// Bytes looked at.
    fn scanned(&self) -> usize {
        self.next_len - 1
    }

    /// Looks on. `buf` is everything received since the start of this request. Returns the length
    /// of the head, its blank line included, once that is there; `None`: more bytes are needed.
    ///
    /// # Errors
    /// 400, 414 or 431, at the first byte that shows it. Neither after an error nor after the end
    /// may the scanner be called again.
    #[inline]
    pub fn scan(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HttpError> {
        // A head that drips in byte by byte: a few instructions each, so that it costs little more
        // than the same head whole.
        if let [.., byte] = buf
            && buf.len() == self.next_len
            && buf.len() < self.text_until
        {
            if !is_control(*byte) {
                self.next_len += 1;
                return Ok(None);
            }
            if *byte == b'\r' {
                self.next_len += 1;
                self.after_cr = true;
                self.text_until = 0;
                return Ok(None);
            }
        }
        self.scan_on(buf, limits)
    }

    fn scan_on(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HttpError> {
        self.text_until = 0;
        if let Some([next]) = buf.get(self.scanned()..)
            && buf.len() < limits.head_bytes
        {
            return self.scan_byte(*next, limits);
        }
        let window = buf.get(..limits.head_bytes).unwrap_or(buf);
        while let Some(rest) = window.get(self.scanned()..)
            && let Some(&next) = rest.first()
        {
            if self.after_cr {
                if self.end_line(next)? {
                    return Ok(Some(self.scanned()));
                }
                continue;
            }
            if self.scanned() == self.line_start {
                self.begin_line(next, limits)?;
            }
            self.scan_line(rest, limits)?;
        }
        if self.scanned() >= limits.head_bytes {
            return Err(HttpError::new(431, "request head too long"));
        }
        self.expect_text(limits);
        Ok(None)
    }

    /// The way of [`Self::scan_on`] for one byte.
    fn scan_byte(&mut self, next: u8, limits: &HeadLimits) -> Result<Option<usize>, HttpError> {
        if self.after_cr {
            return Ok(self.end_line(next)?.then_some(self.scanned()));
        }
        if self.scanned() == self.line_start {
            self.begin_line(next, limits)?;
        }
        self.scan_line(&[next], limits)?;
        self.expect_text(limits);
        Ok(None)
    }

    /// Within a line, says up to where a byte of text is good whatever it is.
    fn expect_text(&mut self, limits: &HeadLimits) {
        if self.after_cr || self.scanned() == self.line_start {
            return;
        }
        self.text_until = match self.line {
            Line::Header => limits.head_bytes,
            _ => limits
                .head_bytes
                .min(self.line_start + limits.request_line_bytes),
        };
    }

    fn begin_line(&mut self, first: u8, limits: &HeadLimits) -> Result<(), HttpError> {
        match (self.line, first) {
            (Line::First | Line::Header, b'\r') => {}
            (Line::First, _) => self.line = Line::Request,
            (Line::Request, b'\r') => {
                return Err(HttpError::bad_request("empty lines before the request"));
            }
            (Line::Request, _) => {}
            (Line::Header, b' ' | b'\t') => {
                return Err(HttpError::bad_request("folded header line"));
            }
            (Line::Header, _) => {
                self.headers += 1;
                if self.headers > limits.headers {
                    return Err(HttpError::new(431, "too many headers"));
                }
            }
        }
        Ok(())
    }

    /// Goes over the text at the front of `rest`, and the control byte that ends it if that may
    /// stand there.
    fn scan_line(&mut self, rest: &[u8], limits: &HeadLimits) -> Result<(), HttpError> {
        let text_len = text_len(rest);
        self.next_len += text_len;
        let in_header = self.line == Line::Header;
        if !in_header && self.scanned() - self.line_start > limits.request_line_bytes {
            return Err(HttpError::new(414, "request line too long"));
        }
        match rest.get(text_len) {
            None => return Ok(()),
            Some(b'\r') => self.after_cr = true,
            Some(b'\t') if in_header => {}
            Some(b'\n') => return Err(HttpError::bad_request("line feed without carriage return")),
            Some(_) => return Err(HttpError::bad_request("control character in the head")),
        }
        self.next_len += 1;
        Ok(())
    }

    /// Takes what must be the line feed after a carriage return. Returns whether the head ends with
    /// it.
    fn end_line(&mut self, next: u8) -> Result<bool, HttpError> {
        if next != b'\n' {
            return Err(HttpError::bad_request("carriage return without line feed"));
        }
        self.next_len += 1;
        self.after_cr = false;
        let is_empty = self.scanned() - self.line_start == 2;
        self.line_start = self.scanned();
        if is_empty && self.line == Line::Header {
            return Ok(true);
        }
        self.line = match is_empty {
            true => Line::Request,
            false => Line::Header,
        };
        Ok(false)
    }
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// How many bytes at the front are no control bytes. Blocks of sixteen are tested at once; the
/// compiler makes that one vector comparison.
fn text_len(bytes: &[u8]) -> usize {
    if let [byte] = bytes {
        return usize::from(!is_control(*byte));
    }
    let (blocks, _) = bytes.as_chunks::<16>();
    let clean_blocks = blocks
        .iter()
        .take_while(|block| {
            !block
                .iter()
                .fold(false, |any, byte| any | is_control(*byte))
        })
        .count();
    let clean = clean_blocks * 16;
    let tail = bytes.iter().skip(clean);
    clean + tail.take_while(|byte| !is_control(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        head_bytes: 64,
        headers: 2,
        request_line_bytes: 20,
    };

    /// The verdict on `head`, the same for bytes one by one and all at once.
    fn scan(head: &[u8]) -> Result<Option<usize>, HttpError> {
        let whole = HeadScanner::new().scan(head, &LIMITS);
        let mut scanner = HeadScanner::new();
        let one_by_one = (1..=head.len())
            .map(|len| scanner.scan(&head[..len], &LIMITS))
            .find(|verdict| *verdict != Ok(None));
        assert_eq!(one_by_one.unwrap_or(Ok(None)), whole);
        whole
    }

    fn status(head: &[u8]) -> u16 {
        scan(head).unwrap_err().status
    }

    #[test]
    fn finds_the_blank_line() {
        assert_eq!(
            scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /"),
            Ok(Some(27))
        );
        assert_eq!(scan(b"GET / HTTP/1.0\r\n\r\n"), Ok(Some(18)));
        assert_eq!(scan(b"\r\nGET / HTTP/1.0\r\n\r\n"), Ok(Some(20)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA:\t\xe9\r\n\r"), Ok(None));
        assert_eq!(scan(b""), Ok(None));
    }

    #[test]
    fn refuses_every_line_end_but_crlf() {
        for head in [
            &b"GET / HTTP/1.1\n"[..],
            b"GET / HTTP/1.1\r\rA",
            b"GET / HTTP/1.1\r\nA: b\n",
            b"GET / HTTP/1.1\r\nA: b\rc",
            b"\n",
            b"\r\n\r\n",
        ] {
            assert_eq!(status(head), 400);
        }
    }

    #[test]
    fn refuses_folding_and_control_bytes() {
        assert_eq!(status(b"GET / HTTP/1.1\r\n A: b"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nA: b\r\n\tc"), 400);
        assert_eq!(status(b"GET\t/"), 400);
        for control in (0..0x20)
            .chain([0x7f])
            .filter(|byte| !b"\r\n\t".contains(byte))
        {
            assert_eq!(
                status(&[b"GET / HTTP/1.1\r\nA: b", &[control][..]].concat()),
                400
            );
            assert_eq!(status(&[control]), 400);
        }
    }

    #[test]
    fn keeps_each_limit_to_the_byte() {
        let line = |len: usize| format!("GET /{} HTTP/1.1", "x".repeat(len - 14));
        assert_eq!(scan(format!("{}\r\n", line(20)).as_bytes()), Ok(None));
        assert_eq!(status(format!("{}\r\n", line(21)).as_bytes()), 414);

        let head = |len: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(len - 23));
        assert_eq!(scan(head(64).as_bytes()), Ok(Some(64)));
        assert_eq!(status(head(65).as_bytes()), 431);

        assert!(
            scan(b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n")
                .unwrap()
                .is_some()
        );
        assert_eq!(status(b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\nE"), 431);
    }
}
