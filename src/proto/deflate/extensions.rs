//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1).
//!
//! ```text
//! extension-list  = 1#extension
//! extension       = token *( ";" extension-param )
//! extension-param = token [ "=" ( token | quoted-string ) ]    ; unquoted, again a token
//! ```
//!
//! As in RFC 2616, white space may stand between any two of these, and elements of a list may be
//! empty. Several lines are one list.

use std::borrow::Cow;

/// One extension of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Its name, as sent.
    pub name: &'a [u8],
    /// Its parameters, in order.
    pub params: Vec<Param<'a>>,
}

/// One parameter of an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name, as sent.
    pub name: &'a [u8],
    /// Its value without quotes, if it has one; never empty.
    pub value: Option<Cow<'a, [u8]>>,
}

/// A line that is not a list of extensions: the handshake must fail (RFC 6455 section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedList;

/// Reads all lines of the header. No line, and lines without an element, are an empty list: the RFC
/// wants an element, but a proxy that blanks the header to turn compression off means well.
///
/// # Errors
/// When a line breaks the grammar.
pub fn parse_extensions<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Extension<'a>>, MalformedList> {
    let mut extensions = Vec::new();
    for line in lines {
        let mut rest = Cursor(line);
        loop {
            if rest.has_more_in_element() {
                extensions.push(rest.extension()?);
            }
            match rest.next_byte() {
                None => break,
                Some(b',') => {}
                Some(_) => return Err(MalformedList),
            }
        }
    }
    Ok(extensions)
}

/// What is left of a line.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn extension(&mut self) -> Result<Extension<'a>, MalformedList> {
        let name = self.token()?;
        let mut params = Vec::new();
        while self.eat(b';') {
            params.push(self.param()?);
        }
        Ok(Extension { name, params })
    }

    fn param(&mut self) -> Result<Param<'a>, MalformedList> {
        let name = self.token()?;
        let value = match self.eat(b'=') {
            false => None,
            true if self.eat(b'"') => Some(self.rest_of_quoted()?),
            true => Some(Cow::Borrowed(self.token()?)),
        };
        Ok(Param { name, value })
    }

    fn token(&mut self) -> Result<&'a [u8], MalformedList> {
        self.skip_white_space();
        let end = self.0.iter().position(|&byte| !is_token(byte));
        let (token, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        match token {
            [] => Err(MalformedList),
            token => Ok(token),
        }
    }

    /// What follows an opening quote, up to and including the closing one. Only bytes of a token may
    /// stand there, each perhaps escaped.
    fn rest_of_quoted(&mut self) -> Result<Cow<'a, [u8]>, MalformedList> {
        let quoted = self.0;
        let end = quoted.iter().position(|&byte| !is_token(byte));
        if let Some(end) = end
            && let Some((value, [b'"', rest @ ..])) = quoted.split_at_checked(end)
            && !value.is_empty()
        {
            self.0 = rest;
            return Ok(Cow::Borrowed(value));
        }
        let mut value = Vec::new();
        loop {
            match self.0 {
                [b'"', rest @ ..] if !value.is_empty() => {
                    self.0 = rest;
                    return Ok(Cow::Owned(value));
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is_token(*byte) => {
                    value.push(*byte);
                    self.0 = rest;
                }
                _ => return Err(MalformedList),
            }
        }
    }

    /// Takes `expected` and the white space before it, if that is what comes next.
    fn eat(&mut self, expected: u8) -> bool {
        self.skip_white_space();
        match self.0.split_first() {
            Some((&byte, rest)) if byte == expected => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn has_more_in_element(&mut self) -> bool {
        self.skip_white_space();
        !matches!(self.0.first(), None | Some(b','))
    }

    fn next_byte(&mut self) -> Option<u8> {
        self.skip_white_space();
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn skip_white_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }
}

/// A byte of a token: no control byte, separator or white space (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each extension as `name;param=value`, joined by a space.
    fn read(lines: &[&str]) -> Result<String, MalformedList> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let list = parse_extensions(lines.iter().map(|line| line.as_bytes()))?;
        let shown = list.iter().map(|extension| {
            let params = extension.params.iter().map(|param| match &param.value {
                Some(value) => format!(";{}={}", text(param.name), text(value)),
                None => format!(";{}", text(param.name)),
            });
            text(extension.name) + &params.collect::<String>()
        });
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn reads_lists_over_several_lines() {
        for (lines, list) in [
            (&[][..], ""),
            (&["", " ", ",\t,"], ""),
            (&["a"], "a"),
            (&["a,b", "c"], "a b c"),
            (&[",a , ,b,"], "a b"),
            (&["a;b;c=d"], "a;b;c=d"),
            (&[" a ; b = c ;\td=\"e\" , f;b", "g"], "a;b=c;d=e f;b g"),
            (&["a;b=\"1\\5\""], "a;b=15"),
            (&["a;b='c"], "a;b='c"),
        ] {
            assert_eq!(read(lines).as_deref(), Ok(list), "{lines:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_list() {
        for line in [
            ";",
            "=",
            "a;",
            "a;;b",
            "a;=b",
            "a;b=",
            "a b",
            "a;b c",
            "a;b=c d",
            "a=b",
            "a;b=\"",
            "a;b=\"c",
            "a;b=\"\"",
            "a;b=\"c d\"",
            "a;b=\"c,d\"",
            "a;b=\"c\"d",
            "a;b=\"\\\"\"",
            "a;b=\"c\\",
            "a;b=\"\\\\\"",
            "a/b",
            "\"a\"",
            "a;\"b\"",
            "a\u{7f}",
            "\u{e9}",
            "a, b;",
            "a\0",
        ] {
            assert_eq!(read(&[line]), Err(MalformedList), "{line:?}");
            assert_eq!(read(&["ok", line]), Err(MalformedList), "{line:?}");
        }
    }
}
