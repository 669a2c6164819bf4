//! Deltas. A patch of anybody's makes what it says or is refused; one of our own makes the target.

use longwire::proto::centrifuge::fossil::{apply, create};

/// What patches are applied to.
const SOURCE: &[u8] = br#"{"symbol":"EURUSD","bid":1.10234,"ask":1.10241}"#;

const TARGET_BYTES_MAX: usize = 1000;

pub const SEEDS: &[&[u8]] = &[
    b"k\nV@0,1:5F@W,1feuJy;",
    b"3\n3:abc0;",
    b"k\nk@0,1bV75y;",
    br#"{"symbol":"EURUSD","bid":1.10235,"ask":1.10241}{"symbol":"EURUSD","bid":1.10234,"ask":1.10241}"#,
];

pub fn run(input: &[u8]) {
    if let Ok(target) = apply(SOURCE, input, TARGET_BYTES_MAX) {
        assert!(target.len() <= TARGET_BYTES_MAX);
    }
    let halves = input.split_at(input.len() / 2);
    for (source, target) in [(SOURCE, input), (input, SOURCE), halves] {
        if let Some(patch) = create(source, target) {
            assert!(patch.len() < target.len());
            assert!(std::str::from_utf8(target).is_err() || std::str::from_utf8(&patch).is_ok());
            assert_eq!(apply(source, &patch, target.len()).as_deref(), Ok(target));
        }
    }
}
