//! Deltas between publications in the format of the Fossil version control system.
//!
//! A patch is the length of what it makes, a line feed, commands, and a checksum: `<n>@<offset>,`
//! copies from the source, `<n>:<bytes>` inserts, `<checksum>;` ends. Numbers are written with 64
//! digits, the most significant first.
//!
//! Written here rather than taken from a crate, since a patch of UTF-8 must be UTF-8, as the JSON format needs
//! it: it cuts nothing inside a character.

use std::ops::Range;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// The source is indexed in blocks of so many bytes: what is shorter is hardly worth a copy.
const BLOCK_BYTES: usize = 16;

/// How many blocks with the same hash are tried at one place.
const CANDIDATES_MAX: usize = 16;

/// The longest source and target in bytes: their places fit 32 bits.
const PAYLOAD_BYTES_MAX: usize = 1 << 31;

/// Makes a patch that turns `source` into `target`; `None` if it would not be shorter than `target`.
/// If `target` is UTF-8, so is the patch.
pub fn create(source: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if source.len().max(target.len()) > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut patch = Patch::new(target);
    let prefix = common_prefix(source, target);
    let suffix = common_suffix(&source[prefix..], &target[prefix..]);
    patch.copy(0..prefix, 0);
    let middle = prefix..target.len() - suffix;
    if middle.len() >= BLOCK_BYTES && source.len() >= BLOCK_BYTES {
        copy_blocks(&mut patch, source, middle.clone());
    }
    patch.copy(middle.end..target.len(), source.len() - suffix);
    patch.finish()
}

/// Copies what the source has of `middle`, wherever it has it.
fn copy_blocks(patch: &mut Patch<'_>, source: &[u8], middle: Range<usize>) {
    let index = Index::new(source);
    let target = &patch.target[..middle.end];
    let mut at = middle.start;
    let mut hash = None;
    while let Some(window) = target.get(at..at + BLOCK_BYTES)
        && !patch.is_hopeless()
    {
        let here = match hash {
            Some(before) => roll(before, target[at - 1], target[at + BLOCK_BYTES - 1]),
            None => hash_of(window),
        };
        match index.longest_match(target, at, patch.done, here) {
            Some(found) => {
                at = found.target.end;
                hash = None;
                patch.copy(found.target, found.offset);
            }
            None => {
                at += 1;
                hash = Some(here);
            }
        }
    }
}

/// A patch that is being written.
struct Patch<'a> {
    target: &'a [u8],
    bytes: Vec<u8>,
    /// Up to where the target is written.
    done: usize,
}

impl<'a> Patch<'a> {
    fn new(target: &'a [u8]) -> Self {
        let mut bytes = Vec::with_capacity(64);
        append_number(&mut bytes, target.len());
        bytes.push(b'\n');
        let done = 0;
        Self {
            target,
            bytes,
            done,
        }
    }

    /// Writes a copy of a part of the target, which lies at `offset` in the source, and before it an
    /// insert of what is between. Nothing, if the copy is not worth its bytes.
    fn copy(&mut self, part: Range<usize>, offset: usize) {
        let trimmed = self.whole_characters(part.clone());
        let offset = offset + (trimmed.start - part.start);
        if trimmed.len() <= digits(trimmed.len()) + digits(offset) + 2 {
            return;
        }
        self.insert_up_to(trimmed.start);
        append_number(&mut self.bytes, trimmed.len());
        self.bytes.push(b'@');
        append_number(&mut self.bytes, offset);
        self.bytes.push(b',');
        self.done = trimmed.end;
    }

    fn insert_up_to(&mut self, end: usize) {
        if self.done < end {
            append_number(&mut self.bytes, end - self.done);
            self.bytes.push(b':');
            self.bytes.extend_from_slice(&self.target[self.done..end]);
            self.done = end;
        }
    }

    /// What is left of a part without pieces of characters at its ends. Of what is not UTF-8 there may
    /// be nothing left.
    fn whole_characters(&self, part: Range<usize>) -> Range<usize> {
        let is_cut = |at: usize| {
            let byte = self.target.get(at);
            byte.is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000)
        };
        let end = part.clone().rev().map(|last| last + 1);
        let end = end
            .into_iter()
            .find(|end| !is_cut(*end))
            .unwrap_or(part.start);
        let start = (part.start..end)
            .find(|start| !is_cut(*start))
            .unwrap_or(end);
        start..end
    }

    fn is_hopeless(&self) -> bool {
        self.bytes.len() >= self.target.len()
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        self.insert_up_to(self.target.len());
        append_number(&mut self.bytes, checksum(self.target) as usize);
        self.bytes.push(b';');
        (!self.is_hopeless()).then_some(self.bytes)
    }
}

/// Where the source has which blocks. Chains of blocks with the same bucket.
struct Index<'a> {
    source: &'a [u8],
    /// By bucket: the newest block, plus one.
    newest: Vec<u32>,
    /// By block: the one before in the same bucket, plus one.
    before: Vec<u32>,
    bucket_bits: u32,
}

/// A part of the target that the source has too.
struct Match {
    target: Range<usize>,
    offset: usize,
}

impl<'a> Index<'a> {
    fn new(source: &'a [u8]) -> Self {
        let blocks = source.len() / BLOCK_BYTES;
        let bucket_bits = blocks.next_power_of_two().trailing_zeros().max(1);
        let mut index = Self {
            source,
            newest: vec![0; 1 << bucket_bits],
            before: Vec::with_capacity(blocks),
            bucket_bits,
        };
        for (block, bytes) in (1..).zip(source.chunks_exact(BLOCK_BYTES)) {
            let newest = &mut index.newest[bucket_of(hash_of(bytes), bucket_bits)];
            index.before.push(*newest);
            *newest = block;
        }
        index
    }

    /// The longest part of the target around the window at `at`, not before `from`.
    fn longest_match(&self, target: &[u8], at: usize, from: usize, hash: u32) -> Option<Match> {
        let newest = self.newest[bucket_of(hash, self.bucket_bits)];
        let chain = std::iter::successors(Some(newest), |block| self.before_of(*block));
        let blocks = chain.take_while(|block| *block != 0).take(CANDIDATES_MAX);
        blocks
            .filter_map(|block| self.match_at(block, target, at, from))
            .max_by_key(|found| found.target.len())
    }

    fn before_of(&self, block: u32) -> Option<u32> {
        self.before.get(block.checked_sub(1)? as usize).copied()
    }

    fn match_at(&self, block: u32, target: &[u8], at: usize, from: usize) -> Option<Match> {
        let source_at = (block as usize - 1) * BLOCK_BYTES;
        let after = common_prefix(&self.source[source_at..], &target[at..]);
        if after < BLOCK_BYTES {
            return None;
        }
        let before = common_suffix(&self.source[..source_at], &target[from..at]);
        Some(Match {
            target: at - before..at + after,
            offset: source_at - before,
        })
    }
}

const HASH_FACTOR: u32 = 0x0100_0193;

/// `HASH_FACTOR` to the power of `BLOCK_BYTES`: what the byte that leaves the window has become.
const LEAVING_FACTOR: u32 = HASH_FACTOR.wrapping_pow(BLOCK_BYTES as u32);

fn hash_of(window: &[u8]) -> u32 {
    window.iter().fold(0, |hash, byte| {
        u32::wrapping_mul(hash, HASH_FACTOR).wrapping_add((*byte).into())
    })
}

/// The hash of the window one byte further.
fn roll(hash: u32, leaving: u8, entering: u8) -> u32 {
    hash.wrapping_mul(HASH_FACTOR)
        .wrapping_add(entering.into())
        .wrapping_sub(LEAVING_FACTOR.wrapping_mul(leaving.into()))
}

fn bucket_of(hash: u32, bucket_bits: u32) -> usize {
    (hash.wrapping_mul(0x9e37_79b1) >> (32 - bucket_bits)) as usize
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let same = 8 * words.take_while(|(a, b)| a == b).count();
    let bytes = a[same..].iter().zip(&b[same..]);
    same + bytes.take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let words = a.rchunks_exact(8).zip(b.rchunks_exact(8));
    let same = 8 * words.take_while(|(a, b)| a == b).count();
    let bytes = a[..a.len() - same]
        .iter()
        .rev()
        .zip(b[..b.len() - same].iter().rev());
    same + bytes.take_while(|(a, b)| a == b).count()
}

/// The sum of all words of four bytes, the last one filled up with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain(std::iter::once(&last));
    words.fold(0, |sum, word| sum.wrapping_add(u32::from_be_bytes(*word)))
}

fn append_number(out: &mut Vec<u8>, number: usize) {
    if number >= 64 {
        append_number(out, number / 64);
    }
    out.push(DIGITS[number % 64]);
}

const fn digits(number: usize) -> usize {
    let bits = usize::BITS - number.leading_zeros();
    if number == 0 {
        1
    } else {
        bits.div_ceil(6) as usize
    }
}

/// A patch that is not one, or not one of this source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPatch;

/// Makes the target from `source` and `patch`, with at most `target_bytes_max` bytes.
///
/// # Errors
/// [`BadPatch`] for anything that is not a whole patch of this source, or makes too much.
pub fn apply(source: &[u8], patch: &[u8], target_bytes_max: usize) -> Result<Vec<u8>, BadPatch> {
    let mut rest = patch;
    let length = take_number(&mut rest, b"\n")?.0;
    if length > target_bytes_max {
        return Err(BadPatch);
    }
    let mut target = Vec::new();
    loop {
        let (number, command) = take_number(&mut rest, b"@:;")?;
        let part = match command {
            b'@' => {
                let from = take_number(&mut rest, b",")?.0;
                source.get(from..).and_then(|from| from.get(..number))
            }
            b':' => rest.split_off(..number),
            _ => {
                let is_right = number == checksum(&target) as usize && target.len() == length;
                return if is_right { Ok(target) } else { Err(BadPatch) };
            }
        };
        let part = part.ok_or(BadPatch)?;
        if part.len() > length - target.len() {
            return Err(BadPatch);
        }
        target.extend_from_slice(part);
    }
}

/// A number of at least one digit, and which of `ends` comes after it.
fn take_number(rest: &mut &[u8], ends: &[u8]) -> Result<(usize, u8), BadPatch> {
    let mut number = None;
    while let Some(byte) = rest.split_off_first() {
        let Some(digit) = DIGITS.iter().position(|digit| digit == byte) else {
            let is_end = ends.contains(byte);
            return number
                .filter(|_| is_end)
                .map(|number| (number, *byte))
                .ok_or(BadPatch);
        };
        let higher = number.unwrap_or(0_usize).checked_mul(64).ok_or(BadPatch)?;
        number = Some(higher + digit);
    }
    Err(BadPatch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made with npm fossil-delta 2.0.0 by its `createDelta`: source, target and patch in hexadecimal,
    /// one of each in a line.
    const VECTORS: &str = include_str!("fossil_vectors.txt");

    fn vectors() -> impl Iterator<Item = [Vec<u8>; 3]> {
        VECTORS.lines().map(|line| {
            let mut parts = line.split(' ').map(|part| {
                let digits = part.trim_start_matches('-').as_bytes();
                let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
                digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
            });
            std::array::from_fn(|_| parts.next().unwrap())
        })
    }

    #[test]
    fn patches_of_the_reference_implementation_apply() {
        for [source, target, patch] in vectors() {
            assert_eq!(apply(&source, &patch, target.len()), Ok(target));
        }
        assert_eq!(vectors().count(), 24);
    }

    #[test]
    fn patches_are_not_longer_than_those_of_the_reference_implementation() {
        for [source, target, patch] in vectors() {
            let length = create(&source, &target).map_or(target.len(), |patch| patch.len());
            let reference = patch.len().min(target.len());
            assert!(length <= reference + 8, "{length} instead of {reference}");
        }
    }

    #[test]
    fn a_patch_of_a_price() {
        let source = br#"{"symbol":"EURUSD","bid":1.10234,"ask":1.10241}"#;
        let target = br#"{"symbol":"EURUSD","bid":1.10235,"ask":1.10241}"#;
        let patch = create(source, target).unwrap();
        assert_eq!(patch, b"k\nV@0,1:5F@W,1feuJy;");
        assert_eq!(apply(source, &patch, 47), Ok(target.to_vec()));
        assert_eq!(apply(source, &patch, 46), Err(BadPatch));
    }

    #[test]
    fn what_is_not_shorter_is_no_patch() {
        assert_eq!(create(b"", b""), None);
        assert_eq!(create(b"abc", b"abc"), None);
        assert_eq!(create(b"", &[b'x'; 100]), None);
        assert!(create(&[b'x'; 100], &[b'x'; 100]).is_some());
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for patch in [
            "",
            "\n",
            "3",
            "3\n",
            "3\n3:abc",
            "3\n3:ab",
            "3\n4:abcd0;",
            "3\n3@0",
            "3\n3@0,",
            "3\n3@1,0;",
            "3\n3@0,0;",
            "3\n:;",
            "3\n3?",
            "~~~~~~~~~~~~\n",
            "3\n~~~~~~~@~~~~~~~,0;",
            "3\nOWZZ0;",
        ] {
            assert_eq!(apply(b"abc", patch.as_bytes(), 9), Err(BadPatch), "{patch}");
        }
        assert_eq!(apply(b"abc", b"3\n3@0,1XYrR0;", 9), Err(BadPatch));
    }

    /// Texts that have much in common: the same pieces in other orders.
    fn mixed(pieces: Vec<(u8, String)>) -> String {
        let repeated = pieces.into_iter().map(|(kind, noise)| match kind {
            0 => noise,
            1 => "the quick brown fox jumps over the lazy dog".to_owned(),
            2 => "äöüß äöüß äöüß äöüß".to_owned(),
            3 => "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
            kind => format!("{{\"price\":{kind},\"text\":\"日本語テキスト\"}}"),
        });
        repeated.collect()
    }

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec((0_u8..6, "\\PC{0,5}"), 0..12).prop_map(mixed)
    }

    proptest! {
        #[test]
        fn a_patch_of_text_makes_the_target_is_shorter_and_is_text(source in text(), target in text()) {
            if let Some(patch) = create(source.as_bytes(), target.as_bytes()) {
                prop_assert!(patch.len() < target.len());
                prop_assert!(std::str::from_utf8(&patch).is_ok());
                let applied = apply(source.as_bytes(), &patch, target.len());
                prop_assert_eq!(applied, Ok(target.into_bytes()));
            }
        }

        #[test]
        fn a_patch_of_bytes_makes_the_target(
            source in prop::collection::vec(0x7e_u8..0x82, 0..200),
            target in prop::collection::vec(0x7e_u8..0x82, 0..200),
        ) {
            if let Some(patch) = create(&source, &target) {
                prop_assert!(patch.len() < target.len());
                prop_assert_eq!(apply(&source, &patch, target.len()), Ok(target));
            }
        }

        #[test]
        fn the_hash_rolls(bytes in prop::collection::vec(any::<u8>(), 17)) {
            let rolled = roll(hash_of(&bytes[..16]), bytes[0], bytes[16]);
            prop_assert_eq!(rolled, hash_of(&bytes[1..]));
        }
    }
}
