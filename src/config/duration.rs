//! Times as text, in the form Go programs use: `300s`, `1h30m`, `1.5s`, `500ms`.

/// Units from the longest to the shortest; of two that begin alike, the longer one first.
const UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Most digits of a number; with them no sum overflows.
const MAX_DIGITS: usize = 12;

/// The time in nanoseconds; `None` if the text is not a time, or negative.
pub(super) fn parse_ns(text: &str) -> Option<u128> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total_ns = 0;
    while !rest.is_empty() {
        let (part_ns, after) = parse_part(rest)?;
        total_ns += part_ns;
        rest = after;
    }
    (!text.is_empty()).then_some(total_ns)
}

/// One number with its unit, and what follows.
fn parse_part(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let unit_length = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_length);
    let &(_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let is_number = !(whole.is_empty() && fraction.is_empty());
    if !is_number || whole.len() > MAX_DIGITS || fraction.len() > MAX_DIGITS {
        return None;
    }
    let scale = 10_u128.pow(fraction.len() as u32);
    Some((
        number(whole) * unit_ns + number(fraction) * unit_ns / scale,
        rest,
    ))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn number(digits: &str) -> u128 {
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_forms_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("300s", 300_000),
            ("5m", 300_000),
            ("720h", 2_592_000_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("500ms", 500),
            ("1m0s", 60_000),
            ("1500us", 1),
        ] {
            assert_eq!(parse_ns(text).map(|ns| ns / 1_000_000), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "5",
            "s",
            ".s",
            "-1s",
            "+1s",
            "1 s",
            "1d",
            "1s2",
            "1S",
            "1..5s",
            "9999999999999s",
        ] {
            assert_eq!(parse_ns(text), None, "{text}");
        }
    }
}
