//! Where subscribers of the Centrifuge protocol stand in their channels, and whether they went on from there
//! without a gap or were told of it.

use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

/// What subscribers found by offsets and epochs, over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionTally {
    /// Publications that a subscriber jumped over without a word of the server.
    pub gaps: u64,
    /// Publications at an offset that a subscriber had already passed.
    pub repeated: u64,
    /// Subscriptions that went on with another epoch although the server said that nothing was missed.
    pub untold_epochs: u64,
    /// Subscriptions that went on with all they had missed.
    pub recovered: u64,
    /// Publications they got that way.
    pub recovered_publications: u64,
    /// Subscriptions that were told that something is missing, or could not ask.
    pub told: u64,
    /// Subscriptions that the server ended.
    pub unsubscribed: u64,
}

impl PositionTally {
    /// True if nobody missed anything unknowingly or got it twice.
    pub fn is_sound(&self) -> bool {
        self.gaps == 0 && self.repeated == 0 && self.untold_epochs == 0
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.gaps += other.gaps;
        self.repeated += other.repeated;
        self.untold_epochs += other.untold_epochs;
        self.recovered += other.recovered;
        self.recovered_publications += other.recovered_publications;
        self.told += other.told;
        self.unsubscribed += other.unsubscribed;
    }
}

/// A subscription's position: 16 bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last publication.
    pub offset: u64,
    epoch: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Not subscribed, or the server gives no offsets.
    #[default]
    None,
    /// Offsets go up by one.
    Positioned,
    /// And one can go on from them.
    Recoverable,
}

/// All positions of a thread, by subscription.
#[derive(Debug, Default)]
pub struct Positions {
    positions: Vec<Position>,
    epochs: Epochs,
}

/// Names of runs of offsets, each kept once.
#[derive(Debug, Default)]
struct Epochs {
    names: Vec<Rc<str>>,
    numbers: HashMap<Rc<str>, u32>,
}

impl Epochs {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        // Far fewer than 2^32 fit in memory.
        let (number, name) = (self.names.len() as u32, Rc::<str>::from(name));
        self.names.push(Rc::clone(&name));
        self.numbers.insert(name, number);
        number
    }
}

/// How a subscription begins or goes on, as the server says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Begin<'a> {
    /// Offsets are to go up by one.
    pub positioned: bool,
    /// One can go on from them.
    pub recoverable: bool,
    /// The run of offsets.
    pub epoch: &'a str,
    /// Where it stands.
    pub offset: u64,
    /// It has all it missed.
    pub recovered: bool,
}

/// How a subscription went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// For the first time.
    First,
    /// From where it was.
    Recovered,
    /// Something may be missing, and it knows.
    Told,
}

impl Positions {
    /// For so many subscriptions.
    pub fn new(count: usize) -> Self {
        Self {
            positions: vec![Position::default(); count],
            epochs: Epochs::default(),
        }
    }

    /// Where a subscription can go on from.
    pub fn since(&self, slot: usize) -> Option<(Rc<str>, u64)> {
        let position = self.positions.get(slot)?;
        let epoch = self.epochs.names.get(position.epoch as usize)?;
        (position.kind == Kind::Recoverable).then(|| (Rc::clone(epoch), position.offset))
    }

    /// Takes note of a subscription that begins; `again` if it was there before.
    pub fn begin(
        &mut self,
        slot: usize,
        begin: &Begin<'_>,
        again: bool,
        tally: &mut PositionTally,
    ) -> Begun {
        let epoch = self.epochs.number(begin.epoch);
        let Some(position) = self.positions.get_mut(slot) else {
            return Begun::First;
        };
        if again && begin.recovered {
            tally.recovered += 1;
            tally.untold_epochs += u64::from(position.epoch != epoch);
            return Begun::Recovered;
        }
        *position = Position {
            offset: begin.offset,
            epoch,
            kind: match (begin.positioned, begin.recoverable) {
                (_, true) => Kind::Recoverable,
                (true, false) => Kind::Positioned,
                (false, false) => Kind::None,
            },
        };
        tally.told += u64::from(again);
        if again { Begun::Told } else { Begun::First }
    }

    /// Takes note of a publication.
    pub fn advance(&mut self, slot: usize, offset: u64, tally: &mut PositionTally) {
        let Some(position) = self.positions.get_mut(slot) else {
            return;
        };
        if position.kind == Kind::None {
            return;
        }
        let expected = position.offset + 1;
        tally.gaps += offset.saturating_sub(expected);
        tally.repeated += u64::from(offset < expected);
        position.offset = position.offset.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_FIVE: Begin<'_> = Begin {
        positioned: true,
        recoverable: true,
        epoch: "a",
        offset: 5,
        recovered: false,
    };

    fn begun() -> (Positions, PositionTally) {
        let (mut positions, mut tally) = (Positions::new(1), PositionTally::default());
        let begun = positions.begin(0, &AT_FIVE, false, &mut tally);
        assert_eq!(begun, Begun::First);
        (positions, tally)
    }

    #[test]
    fn contiguous_offsets_are_sound() {
        let (mut positions, mut tally) = begun();
        positions.advance(0, 6, &mut tally);
        positions.advance(0, 7, &mut tally);
        assert_eq!(tally, PositionTally::default());
        assert_eq!(positions.since(0), Some((Rc::from("a"), 7)));
    }

    #[test]
    fn gaps_and_repetitions_count() {
        let (mut positions, mut tally) = begun();
        positions.advance(0, 8, &mut tally);
        positions.advance(0, 8, &mut tally);
        positions.advance(0, 6, &mut tally);
        assert_eq!((tally.gaps, tally.repeated), (2, 2));
        assert!(!tally.is_sound());
    }

    #[test]
    fn who_comes_back_goes_on_or_is_told() {
        let (mut positions, mut tally) = begun();
        let recovered = Begin {
            recovered: true,
            ..AT_FIVE
        };
        let begun = positions.begin(0, &recovered, true, &mut tally);
        assert_eq!(begun, Begun::Recovered);
        positions.advance(0, 6, &mut tally);
        assert!(tally.is_sound());
        let elsewhere = Begin {
            epoch: "b",
            offset: 1,
            ..AT_FIVE
        };
        assert_eq!(
            positions.begin(0, &elsewhere, true, &mut tally),
            Begun::Told
        );
        positions.advance(0, 2, &mut tally);
        assert!(tally.is_sound());
        let lie = Begin {
            recovered: true,
            ..AT_FIVE
        };
        positions.begin(0, &lie, true, &mut tally);
        assert_eq!(
            (tally.untold_epochs, tally.told, tally.recovered),
            (1, 1, 2)
        );
    }

    #[test]
    fn without_offsets_there_is_nothing_to_check() {
        let (mut positions, mut tally) = (Positions::new(1), PositionTally::default());
        positions.begin(0, &Begin::default(), false, &mut tally);
        positions.advance(0, 0, &mut tally);
        assert!(tally.is_sound());
        assert_eq!(positions.since(0), None);
    }
}
