//! Writing a response with a body of known length (RFC 9112 section 4).

/// The interim answer to a request that expects it, before its body is read.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One whole response. No text in it may hold a control character: nothing a peer sent goes into a
/// header unchecked.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// 200 to 599.
    pub status: u16,
    /// The value of `Content-Type`; empty for none.
    pub content_type: &'a str,
    /// Further headers, in order; `Content-Length`, `Content-Type` and `Connection` are not among
    /// them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; its length is declared.
    pub body: &'a [u8],
}

/// What the response says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionHeader {
    /// Nothing: an HTTP/1.1 client knows that it stays.
    Omit,
    /// `keep-alive`, for an HTTP/1.0 client that asked for it.
    KeepAlive,
    /// `close`: the connection ends after this response.
    Close,
}

/// Appends a response. With `head_only` (the answer to a HEAD request) the body's length is
/// declared and the body left out. A 204 has no body and declares none, nor does a 304 (RFC 9110
/// sections 8.6 and 15.4.5).
pub fn write_response(
    out: &mut Vec<u8>,
    response: &Response,
    connection: ConnectionHeader,
    head_only: bool,
) {
    let bodiless = matches!(response.status, 204 | 304);
    write_status_line(out, response.status);
    if !response.content_type.is_empty() {
        write_header(out, "Content-Type", response.content_type);
    }
    if !bodiless {
        out.extend_from_slice(b"Content-Length: ");
        write_decimal(out, response.body.len());
        out.extend_from_slice(b"\r\n");
    }
    match connection {
        ConnectionHeader::Omit => {}
        ConnectionHeader::KeepAlive => write_header(out, "Connection", "keep-alive"),
        ConnectionHeader::Close => write_header(out, "Connection", "close"),
    }
    for (name, value) in response.headers {
        write_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless && !head_only {
        out.extend_from_slice(response.body);
    }
}

/// Appends the head of a 200 whose body goes on in chunks, and that nobody may keep or hold back.
pub fn write_stream_head(out: &mut Vec<u8>, content_type: &str, headers: &[(&str, &str)]) {
    write_status_line(out, 200);
    write_header(out, "Content-Type", content_type);
    write_header(out, "Transfer-Encoding", "chunked");
    write_header(out, "Connection", "close");
    write_header(
        out,
        "Cache-Control",
        "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    );
    // nginx passes on what comes at once only if it is told to.
    write_header(out, "X-Accel-Buffering", "no");
    for (name, value) in headers {
        write_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, usize::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(
        !name.contains(char::is_control) && !value.contains(char::is_control),
        "control character in header {name:?}: {value:?}"
    );
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_decimal(out: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        write_decimal(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// The phrase of RFC 9110 for the statuses this server sends; none for others, which the grammar
/// allows.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response, connection: ConnectionHeader, head_only: bool) -> String {
        let mut out = Vec::new();
        write_response(&mut out, response, connection, head_only);
        String::from_utf8(out).unwrap()
    }

    const RESPONSE: Response = Response {
        status: 200,
        content_type: "text/plain",
        headers: &[("ETag", "\"1\"")],
        body: b"0123456789",
    };

    #[test]
    fn writes_a_response_to_the_byte() {
        assert_eq!(
            written(&RESPONSE, ConnectionHeader::Close, false),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\
             Connection: close\r\nETag: \"1\"\r\n\r\n0123456789"
        );
    }

    #[test]
    fn leaves_the_body_out_where_none_belongs() {
        let head = written(&RESPONSE, ConnectionHeader::Omit, true);
        assert!(head.ends_with("Content-Length: 10\r\nETag: \"1\"\r\n\r\n"));
        for status in [204, 304] {
            let bodiless = Response {
                status,
                content_type: "",
                headers: &[],
                body: b"",
            };
            let text = written(&bodiless, ConnectionHeader::KeepAlive, false);
            assert!(text.ends_with("\r\nConnection: keep-alive\r\n\r\n"));
            assert!(!text.contains("Content-"));
        }
    }

    #[test]
    fn an_unnamed_status_keeps_its_space() {
        let unnamed = Response {
            status: 599,
            ..RESPONSE
        };
        assert!(written(&unnamed, ConnectionHeader::Omit, true).starts_with("HTTP/1.1 599 \r\n"));
    }
}
