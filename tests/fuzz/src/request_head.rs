//! A request head: how it is cut does not matter, and what is accepted is strict.

use longwire::proto::http::{
    BodyLength, HeadLimits, HeadScanner, HttpError, Request, decode_segment, parse_request,
};

pub const SEEDS: &[&[u8]] = &[
    b"\x07GET /health HTTP/1.1\r\nHost: localhost:8000\r\n\r\n",
    b"\x01\r\nPOST /channels/a%2Fb?since=1:2 HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"\x03POST http://h/api/publish HTTP/1.0\r\nhost: h\r\nConnection: keep-alive, Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"\x10OPTIONS * HTTP/1.1\r\nHost: h\r\nX:\t\xff\r\nX: a,b\r\n\r\n",
];

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: 512,
    headers: 16,
    request_line_bytes: 128,
};

/// The first byte says how the rest is cut.
pub fn run(input: &[u8]) {
    let Some((&piece_bytes, head)) = input.split_first() else {
        return;
    };
    let whole = HeadScanner::new().scan(head, &LIMITS);
    let cut = scan_in_pieces(head, usize::from(piece_bytes).max(1));
    assert_eq!(whole, cut, "pieces of {piece_bytes} bytes");
    if let Ok(Some(length)) = whole {
        assert!(length <= LIMITS.head_bytes);
        let head = &head[..length];
        assert_strict_lines(head);
        if let Ok(request) = parse_request(head) {
            check(&request, head);
        }
    }
}

fn scan_in_pieces(head: &[u8], piece_bytes: usize) -> Result<Option<usize>, HttpError> {
    let mut scanner = HeadScanner::new();
    for end in (piece_bytes..head.len()).step_by(piece_bytes) {
        let scanned = scanner.scan(&head[..end], &LIMITS);
        if scanned != Ok(None) {
            return scanned;
        }
    }
    scanner.scan(head, &LIMITS)
}

fn assert_strict_lines(head: &[u8]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("an empty line");
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(text.get(at + 1), Some(&b'\n')),
            b'\n' => {
                assert_eq!(text[at - 1], b'\r');
                let next = text.get(at + 1);
                assert!(!matches!(next, Some(b' ' | b'\t' | b'\r')) || at < 2);
            }
            b'\t' => {}
            byte => assert!(byte >= 0x20 && byte != 0x7f),
        }
    }
}

fn check(request: &Request<'_>, head: &[u8]) {
    assert!(request.path.starts_with('/') || request.path == "*");
    assert!(request.headers("host").count() <= 1);
    let lengths = request.headers("content-length").count();
    let codings = request.headers("transfer-encoding").count();
    match request.body {
        BodyLength::None => assert_eq!((lengths, codings), (0, 0)),
        BodyLength::Length(_) => assert_eq!((lengths, codings), (1, 0)),
        BodyLength::Chunked => assert_eq!((lengths, codings), (0, 1)),
    }
    for segment in request.path.split('/') {
        if let Some(decoded) = decode_segment(segment) {
            assert!(!decoded.contains(char::is_control));
        }
    }
    let _ = (
        request.query_param("since"),
        request.has_token("connection", "x"),
    );
    assert!(head.len() >= request.path.len());
}
