//! Patterns for channel names.

/// How many patterns one with braces may stand for.
const MAX_ALTERNATIVES: usize = 64;
/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;

/// A pattern: `*` stands for any text, `?` for one character, `[a-z]` and `[!a-z]` for one of a set
/// or outside it, `{news,sport}` for one of several texts; a backslash takes the next character as it
/// is. The empty pattern matches every name.
#[derive(Clone, Debug)]
pub struct Glob {
    /// The pattern without braces; a name matches if one of them does.
    alternatives: Vec<Vec<Piece>>,
}

/// The pattern is too long, stands for too many, or has a bracket or brace that does not close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadGlob;

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Exactly(char),
    AnyText,
    AnyChar,
    Set {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
}

impl Glob {
    /// Reads a pattern.
    pub fn parse(pattern: &str) -> Result<Self, BadGlob> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(BadGlob);
        }
        let pattern = if pattern.is_empty() { "*" } else { pattern };
        let mut chars = pattern.chars();
        let mut alternatives = vec![Vec::new()];
        while let Some(char) = chars.next() {
            if char == '{' {
                alternatives = append_choice(&alternatives, &choices(&mut chars)?)?;
                continue;
            }
            let piece = piece(char, &mut chars)?;
            for pieces in &mut alternatives {
                pieces.push(piece.clone());
            }
        }
        Ok(Self { alternatives })
    }

    /// Whether `name` is one of those meant.
    pub fn matches(&self, name: &str) -> bool {
        self.alternatives.iter().any(|pieces| matches(pieces, name))
    }
}

/// The piece that begins with `char`.
fn piece(char: char, rest: &mut impl Iterator<Item = char>) -> Result<Piece, BadGlob> {
    Ok(match char {
        '*' => Piece::AnyText,
        '?' => Piece::AnyChar,
        '[' => set(rest)?,
        '\\' => Piece::Exactly(rest.next().ok_or(BadGlob)?),
        other => Piece::Exactly(other),
    })
}

/// A set, from behind its bracket.
fn set(rest: &mut impl Iterator<Item = char>) -> Result<Piece, BadGlob> {
    let mut inside: Vec<char> = Vec::new();
    loop {
        match rest.next().ok_or(BadGlob)? {
            ']' if !inside.is_empty() => break,
            char => inside.push(char),
        }
    }
    let is_negated = inside.len() > 1 && matches!(inside[0], '!' | '^');
    let mut inside = &inside[usize::from(is_negated)..];
    let mut ranges = Vec::new();
    while let [first, rest @ ..] = inside {
        let (last, rest) = match rest {
            ['-', last, rest @ ..] => (last, rest),
            _ => (first, rest),
        };
        ranges.push((*first, *last));
        inside = rest;
    }
    Ok(Piece::Set { ranges, is_negated })
}

/// The choices of a brace, from behind it. Braces do not nest.
fn choices(rest: &mut impl Iterator<Item = char>) -> Result<Vec<Vec<Piece>>, BadGlob> {
    let mut choices = vec![Vec::new()];
    loop {
        match rest.next().ok_or(BadGlob)? {
            '}' => return Ok(choices),
            '{' => return Err(BadGlob),
            ',' => choices.push(Vec::new()),
            char => {
                let piece = piece(char, rest)?;
                choices.last_mut().ok_or(BadGlob)?.push(piece);
            }
        }
    }
}

/// Every pattern followed by every choice.
fn append_choice(
    patterns: &[Vec<Piece>],
    choices: &[Vec<Piece>],
) -> Result<Vec<Vec<Piece>>, BadGlob> {
    if patterns.len() * choices.len() > MAX_ALTERNATIVES {
        return Err(BadGlob);
    }
    let pairs = patterns
        .iter()
        .flat_map(|pattern| choices.iter().map(move |choice| (pattern, choice)));
    Ok(pairs
        .map(|(pattern, choice)| [pattern.as_slice(), choice].concat())
        .collect())
}

/// Walks both at once. When it does not go on, the last `*` takes one character more: at most the
/// product of both lengths.
fn matches(mut pieces: &[Piece], name: &str) -> bool {
    let mut rest = name.chars();
    let mut last_star: Option<(&[Piece], std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = rest.clone();
        match (pieces, ahead.next()) {
            ([Piece::AnyText, behind @ ..], _) => {
                pieces = behind;
                last_star = Some((behind, rest.clone()));
                continue;
            }
            ([piece, behind @ ..], Some(char)) if takes(piece, char) => {
                (pieces, rest) = (behind, ahead);
                continue;
            }
            ([], None) => return true,
            _ => {}
        }
        let Some((behind, from)) = &mut last_star else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (pieces, rest) = (behind, from.clone());
    }
}

/// Whether a piece stands for this one character.
fn takes(piece: &Piece, char: char) -> bool {
    match piece {
        Piece::Exactly(exactly) => *exactly == char,
        Piece::AnyChar => true,
        Piece::AnyText => false,
        Piece::Set { ranges, is_negated } => {
            let is_in = ranges.iter().any(|(a, z)| (*a..=*z).contains(&char));
            is_in != *is_negated
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_match(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn matches_what_the_pattern_says() {
        assert!(is_match("", "anything"));
        assert!(is_match("news:*", "news:"));
        assert!(is_match("news:*:live", "news:a:live:b:live"));
        assert!(!is_match("news:*:live", "news:a:live:b"));
        assert!(is_match("?ä?", "xäy") && !is_match("?ä?", "xä"));
        assert!(is_match("[a-c0]x", "0x") && !is_match("[!a-c]x", "bx"));
        assert!(is_match("[]]", "]"));
        assert!(is_match("{news,sp*t}:1", "sport:1") && !is_match("{news,sp*t}:1", "spor:1"));
        assert!(is_match(r"a\*", "a*") && !is_match(r"a\*", "ab"));
    }

    #[test]
    fn refuses_what_does_not_close_or_is_too_much() {
        for pattern in [
            "[a",
            "{a",
            "{a{b}}",
            "\\",
            &"{a,b}".repeat(7),
            &"a".repeat(1025),
        ] {
            assert_eq!(Glob::parse(pattern).err(), Some(BadGlob), "{pattern}");
        }
    }

    /// The meaning of `*` and `?` by trying everything.
    fn matches_slowly(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', behind @ ..], _) => {
                (0..=name.len()).any(|taken| matches_slowly(behind, &name[taken..]))
            }
            (['?', behind @ ..], [_, rest @ ..]) => matches_slowly(behind, rest),
            ([exactly, behind @ ..], [char, rest @ ..]) => {
                exactly == char && matches_slowly(behind, rest)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(pattern in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = matches_slowly(&chars(&pattern), &chars(&name));
            prop_assert_eq!(is_match(&pattern, &name), expected);
        }

        #[test]
        fn no_pattern_panics(pattern in ".{0,40}", name in ".{0,40}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                glob.matches(&name);
            }
        }
    }
}
