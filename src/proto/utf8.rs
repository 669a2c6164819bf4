//! Incremental validation of UTF-8 (RFC 3629), for text that comes in pieces.

/// The text holds a byte that cannot be part of valid UTF-8, or ended within a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// Validates text piece by piece, and refuses it at the first byte that cannot continue any valid
/// text. Between pieces it keeps only the bytes of a character that is not complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Checker {
    /// The first bytes of a character: at most three between two calls, four while the last one is
    /// added.
    pending: [u8; 4],
    pending_len: u8,
}

impl Utf8Checker {
    /// A checker at the start of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks the next piece of the text. After an error the checker is of no more use.
    ///
    /// # Errors
    /// When `bytes` holds a byte that cannot stand where it does.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        let bytes = self.complete_pending(bytes)?;
        let Err(error) = simdutf8::compat::from_utf8(bytes) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        for &byte in bytes.iter().skip(error.valid_up_to()) {
            self.push_pending(byte);
        }
        Ok(())
    }

    /// Checks that the text may end here.
    ///
    /// # Errors
    /// When a character is not complete.
    pub fn finish(&self) -> Result<(), InvalidUtf8> {
        match self.pending_len {
            0 => Ok(()),
            _ => Err(InvalidUtf8),
        }
    }

    /// Gives the character that the last piece broke off its missing bytes, and returns what
    /// follows it.
    fn complete_pending<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        while self.pending_len > 0
            && let Some((&byte, rest)) = bytes.split_first()
        {
            bytes = rest;
            self.push_pending(byte);
            let character = self.pending.get(..usize::from(self.pending_len));
            match std::str::from_utf8(character.unwrap_or_default()) {
                Ok(_) => self.pending_len = 0,
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        Ok(bytes)
    }

    fn push_pending(&mut self, byte: u8) {
        if let Some(slot) = self.pending.get_mut(usize::from(self.pending_len)) {
            *slot = byte;
            self.pending_len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]]) -> Result<(), InvalidUtf8> {
        let mut checker = Utf8Checker::new();
        for piece in pieces {
            checker.feed(piece)?;
        }
        checker.finish()
    }

    #[test]
    fn accepts_characters_cut_anywhere() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[b"\xf0", b"\x9f", b"", b"\x98", b"\x80"]), Ok(()));
        assert_eq!(check(&[b"a\xe2\x82", b"\xacb\xc3", b"\xa9"]), Ok(()));
    }

    #[test]
    fn refuses_at_the_first_impossible_byte() {
        // The second byte already shows a surrogate, an overlong form, a value above U+10FFFF.
        for sequence in [b"\xed\xa0", b"\xe0\x80", b"\xf0\x80", b"\xf4\x90"] {
            let mut checker = Utf8Checker::new();
            assert_eq!(checker.feed(&sequence[..1]), Ok(()));
            assert_eq!(checker.feed(&sequence[1..]), Err(InvalidUtf8));
            assert_eq!(Utf8Checker::new().feed(sequence), Err(InvalidUtf8));
        }
        for byte in [0x80u8, 0xbf, 0xc0, 0xc1, 0xf5, 0xff] {
            assert_eq!(Utf8Checker::new().feed(&[byte]), Err(InvalidUtf8));
        }
    }

    #[test]
    fn refuses_to_end_within_a_character() {
        assert_eq!(check(&[b"\xe2\x82"]), Err(InvalidUtf8));
        assert_eq!(check(&[b"\xf0\x9f", b"\x98"]), Err(InvalidUtf8));
    }
}
