//! Filters over tags: a subscriber gets only the publications whose tags match.

use std::cmp::Ordering;

use super::values::{FilterNode, Tag};

/// The deepest nesting of a filter.
pub const FILTER_DEPTH_MAX: usize = 16;

/// The most nodes and values of sets in a filter, together. A filter runs for every publication.
pub const FILTER_SIZE_MAX: usize = 256;

/// A filter that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Looks at one tag.
    Leaf {
        /// The tag's name.
        key: Box<str>,
        /// What its value must be.
        test: Test,
    },
    /// All match.
    All(Box<[Filter]>),
    /// One matches at least.
    Any(Box<[Filter]>),
    /// It does not match.
    Not(Box<Filter>),
}

/// What a tag must be. A tag that is missing passes only the tests that say *not*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// This.
    Equal(Box<str>),
    /// Anything but this.
    NotEqual(Box<str>),
    /// One of these.
    In(Box<[String]>),
    /// None of these.
    NotIn(Box<[String]>),
    /// There.
    Exists,
    /// Not there.
    NotExists,
    /// This and anything after it.
    StartsWith(Box<str>),
    /// Anything and then this.
    EndsWith(Box<str>),
    /// Anything with this in it.
    Contains(Box<str>),
    /// A decimal number on this side of another. What is no number is on neither side.
    Number(Side, Box<str>),
}

/// Where a number is as seen from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Below.
    Less,
    /// Below or equal.
    LessOrEqual,
    /// Above.
    Greater,
    /// Above or equal.
    GreaterOrEqual,
}

/// Why a filter makes no sense, for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFilter(pub &'static str);

impl Filter {
    /// Checks a filter as it was sent.
    ///
    /// # Errors
    /// [`BadFilter`] for an unknown operator or comparison, for a node that lacks something or has
    /// something it cannot have, and beyond [`FILTER_DEPTH_MAX`] or [`FILTER_SIZE_MAX`].
    pub fn compile(node: FilterNode) -> Result<Self, BadFilter> {
        let mut size_left = FILTER_SIZE_MAX;
        compile(node, FILTER_DEPTH_MAX, &mut size_left)
    }

    /// Whether publications with these tags are for the subscriber.
    pub fn matches(&self, tags: &[Tag]) -> bool {
        match self {
            Self::Leaf { key, test } => {
                let tag = tags.iter().find(|(name, _)| name == key);
                test.passes(tag.map(|(_, value)| &**value))
            }
            Self::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::Not(node) => !node.matches(tags),
        }
    }
}

fn compile(
    node: FilterNode,
    depth_left: usize,
    size_left: &mut usize,
) -> Result<Filter, BadFilter> {
    let depth_left = depth_left.checked_sub(1).ok_or(BadFilter("too deep"))?;
    let size = 1 + node.vals.len();
    *size_left = size_left.checked_sub(size).ok_or(BadFilter("too large"))?;
    let mut compile_all = |nodes: Vec<FilterNode>| -> Result<Box<[Filter]>, BadFilter> {
        if nodes.is_empty() {
            return Err(BadFilter("a node without nodes"));
        }
        let nodes = nodes.into_iter();
        nodes
            .map(|node| compile(node, depth_left, size_left))
            .collect()
    };
    match node.op.as_str() {
        "" => compile_leaf(node),
        "and" => Ok(Filter::All(compile_all(node.nodes)?)),
        "or" => Ok(Filter::Any(compile_all(node.nodes)?)),
        "not" => match <[FilterNode; 1]>::try_from(node.nodes) {
            Ok([node]) => Ok(Filter::Not(Box::new(compile(node, depth_left, size_left)?))),
            Err(_) => Err(BadFilter("not takes one node")),
        },
        _ => Err(BadFilter("unknown op")),
    }
}

fn compile_leaf(node: FilterNode) -> Result<Filter, BadFilter> {
    let is_about_presence = matches!(node.cmp.as_str(), "ex" | "nex");
    if node.key.is_empty() && !is_about_presence {
        return Err(BadFilter("key missing"));
    }
    Ok(Filter::Leaf {
        key: node.key.into(),
        test: compile_test(&node.cmp, node.val, node.vals)?,
    })
}

fn compile_test(cmp: &str, val: String, vals: Vec<String>) -> Result<Test, BadFilter> {
    let takes_one = !matches!(cmp, "in" | "nin" | "ex" | "nex");
    let takes_set = matches!(cmp, "in" | "nin");
    if val.is_empty() == takes_one {
        return Err(BadFilter("val missing or not wanted"));
    }
    if vals.is_empty() == takes_set {
        return Err(BadFilter("vals missing or not wanted"));
    }
    Ok(match cmp {
        "eq" => Test::Equal(val.into()),
        "neq" => Test::NotEqual(val.into()),
        "in" => Test::In(vals.into()),
        "nin" => Test::NotIn(vals.into()),
        "ex" => Test::Exists,
        "nex" => Test::NotExists,
        "sw" => Test::StartsWith(val.into()),
        "ew" => Test::EndsWith(val.into()),
        "ct" => Test::Contains(val.into()),
        "lt" => number(Side::Less, val)?,
        "lte" => number(Side::LessOrEqual, val)?,
        "gt" => number(Side::Greater, val)?,
        "gte" => number(Side::GreaterOrEqual, val)?,
        _ => return Err(BadFilter("unknown cmp")),
    })
}

fn number(side: Side, val: String) -> Result<Test, BadFilter> {
    match Decimal::parse(&val) {
        Some(_) => Ok(Test::Number(side, val.into())),
        None => Err(BadFilter("val is not a number")),
    }
}

impl Test {
    fn passes(&self, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::NotEqual(_) | Self::NotIn(_) | Self::NotExists);
        };
        match self {
            Self::Equal(other) => *value == **other,
            Self::NotEqual(other) => *value != **other,
            Self::In(set) => set.iter().any(|other| other == value),
            Self::NotIn(set) => set.iter().all(|other| other != value),
            Self::Exists => true,
            Self::NotExists => false,
            Self::StartsWith(start) => value.starts_with(&**start),
            Self::EndsWith(end) => value.ends_with(&**end),
            Self::Contains(part) => value.contains(&**part),
            Self::Number(side, other) => {
                let pair = Decimal::parse(value).zip(Decimal::parse(other));
                pair.is_some_and(|(value, other)| side.is_of(value.compare(&other)))
            }
        }
    }
}

impl Side {
    const fn is_of(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// A decimal number as it is written, so that nothing is rounded: digits, at most one point, no
/// exponent.
struct Decimal<'a> {
    is_negative: bool,
    /// Without leading zeros.
    whole: &'a str,
    /// Without trailing zeros.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            is_negative: text.starts_with('-') && !is_zero,
            whole,
            fraction,
        })
    }

    /// Orders numbers without regard to their sign.
    const fn size(&self) -> (usize, &'a str, &'a str) {
        (self.whole.len(), self.whole, self.fraction)
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.size().cmp(&other.size()),
            (true, true) => other.size().cmp(&self.size()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(key: &str, cmp: &str, val: &str, vals: &[&str]) -> FilterNode {
        FilterNode {
            key: key.to_owned(),
            cmp: cmp.to_owned(),
            val: val.to_owned(),
            vals: vals.iter().map(|val| (*val).to_owned()).collect(),
            ..FilterNode::default()
        }
    }

    fn joined(op: &str, nodes: Vec<FilterNode>) -> FilterNode {
        let op = op.to_owned();
        FilterNode {
            op,
            nodes,
            ..FilterNode::default()
        }
    }

    fn matches(node: FilterNode, tags: &[(&str, &str)]) -> bool {
        let tags: Vec<Tag> = tags
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Filter::compile(node).unwrap().matches(&tags)
    }

    #[test]
    fn every_comparison_of_text() {
        let tags = &[("k", "north-east")];
        for (cmp, val, vals, passes, passes_if_missing) in [
            ("eq", "north-east", &[][..], true, false),
            ("eq", "north", &[], false, false),
            ("neq", "north", &[], true, true),
            ("neq", "north-east", &[], false, true),
            ("in", "", &["south", "north-east"], true, false),
            ("in", "", &["", "south"], false, false),
            ("nin", "", &["south"], true, true),
            ("nin", "", &["north-east"], false, true),
            ("ex", "", &[], true, false),
            ("nex", "", &[], false, true),
            ("sw", "north", &[], true, false),
            ("sw", "east", &[], false, false),
            ("ew", "east", &[], true, false),
            ("ew", "north", &[], false, false),
            ("ct", "th-ea", &[], true, false),
            ("ct", "west", &[], false, false),
        ] {
            assert_eq!(
                matches(leaf("k", cmp, val, vals), tags),
                passes,
                "{cmp} {val}"
            );
            let if_missing = matches(leaf("k", cmp, val, vals), &[("K", "north-east")]);
            assert_eq!(if_missing, passes_if_missing, "{cmp} {val}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        // From small to large; what stands in one row is equal.
        let rows = [
            &["-100"][..],
            &["-9.5", "-09.50"],
            &["-9.05"],
            &["0", "-0", "+0.0", "00"],
            &["0.000000000000000000001"],
            &["9"],
            &["10", "10.0"],
            &["10.01"],
            &["123456789012345678901234567890"],
            &["123456789012345678901234567890.1"],
        ];
        let ranked: Vec<_> = (rows.iter().enumerate())
            .flat_map(|(rank, row)| row.iter().map(move |text| (rank, *text)))
            .collect();
        for (rank, value) in &ranked {
            for (other_rank, other) in &ranked {
                let passes = |cmp| matches(leaf("k", cmp, other, &[]), &[("k", value)]);
                let name = format!("{value} against {other}");
                assert_eq!(passes("lt"), rank < other_rank, "{name}");
                assert_eq!(passes("lte"), rank <= other_rank, "{name}");
                assert_eq!(passes("gt"), rank > other_rank, "{name}");
                assert_eq!(passes("gte"), rank >= other_rank, "{name}");
            }
        }
        for no_number in ["", "-", ".", "1.", ".5", "1e3", "1,5", "one", "0x1", "--1"] {
            assert!(
                !matches(leaf("k", "lte", "5", &[]), &[("k", no_number)]),
                "{no_number}"
            );
        }
    }

    #[test]
    fn nodes_join_what_is_below() {
        let a = || leaf("a", "ex", "", &[]);
        let b = || leaf("b", "ex", "", &[]);
        let (only_a, both) = (&[("a", "")][..], &[("a", ""), ("b", "")][..]);
        assert!(!matches(joined("and", vec![a(), b()]), only_a));
        assert!(matches(joined("and", vec![a(), b()]), both));
        assert!(matches(joined("or", vec![a(), b()]), only_a));
        assert!(!matches(joined("or", vec![a(), b()]), &[]));
        assert!(matches(
            joined("not", vec![joined("and", vec![a(), b()])]),
            only_a
        ));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let ok = || leaf("k", "ex", "", &[]);
        for node in [
            FilterNode::default(),
            leaf("k", "like", "x", &[]),
            leaf("", "eq", "x", &[]),
            leaf("k", "eq", "", &[]),
            leaf("k", "eq", "x", &["y"]),
            leaf("k", "in", "", &[]),
            leaf("k", "in", "x", &["y"]),
            leaf("k", "ex", "x", &[]),
            leaf("k", "gt", "ten", &[]),
            joined("and", vec![]),
            joined("or", vec![]),
            joined("not", vec![ok(), ok()]),
            joined("xor", vec![ok()]),
            joined("or", vec![ok(), FilterNode::default()]),
        ] {
            assert!(Filter::compile(node.clone()).is_err(), "{node:?}");
        }
    }

    #[test]
    fn depth_and_size_have_bounds() {
        let nested = |depth: usize| {
            (1..depth).fold(leaf("k", "ex", "", &[]), |node, _| {
                joined("not", vec![node])
            })
        };
        assert!(Filter::compile(nested(FILTER_DEPTH_MAX)).is_ok());
        assert_eq!(
            Filter::compile(nested(FILTER_DEPTH_MAX + 1)),
            Err(BadFilter("too deep"))
        );
        let wide = |vals| leaf("k", "in", "", &vec!["v"; vals]);
        assert!(Filter::compile(wide(FILTER_SIZE_MAX - 1)).is_ok());
        assert_eq!(
            Filter::compile(wide(FILTER_SIZE_MAX)),
            Err(BadFilter("too large"))
        );
        let two = joined("or", vec![wide(200), wide(200)]);
        assert_eq!(Filter::compile(two), Err(BadFilter("too large")));
    }
}
