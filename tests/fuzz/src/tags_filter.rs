//! A tags filter: one that is accepted has bounds, and its opposite matches what it does not.

use longwire::proto::centrifuge::filter::{FILTER_SIZE_MAX, Filter};
use longwire::proto::centrifuge::values::{FilterNode, Tag};

pub const SEEDS: &[&[u8]] = &[
    br#"{"op":"and","nodes":[{"key":"k","cmp":"eq","val":"v"},{"key":"n","cmp":"gte","val":"-1.50"}]}"#,
    br#"{"op":"not","nodes":[{"op":"or","nodes":[{"key":"k","cmp":"nin","vals":["v","w"]}]}]}"#,
    br#"{"key":"k","cmp":"sw","val":"v"}"#,
    br#"{"key":"n","cmp":"lt","val":"00.0"}"#,
    br#"{"cmp":"nex"}"#,
];

pub fn run(input: &[u8]) {
    let Ok(node) = serde_json::from_slice::<FilterNode>(input) else {
        return;
    };
    let Ok(filter) = Filter::compile(node) else {
        return;
    };
    assert!(nodes_of(&filter) <= FILTER_SIZE_MAX);
    let tags: [Tag; 2] = [("k".into(), "v".into()), ("n".into(), "-1.5".into())];
    for tags in [&tags[..], &tags[..1], &[]] {
        let opposite = Filter::Not(Box::new(filter.clone()));
        assert_ne!(filter.matches(tags), opposite.matches(tags));
    }
}

fn nodes_of(filter: &Filter) -> usize {
    match filter {
        Filter::Leaf { .. } => 1,
        Filter::All(nodes) | Filter::Any(nodes) => 1 + nodes.iter().map(nodes_of).sum::<usize>(),
        Filter::Not(node) => 1 + nodes_of(node),
    }
}
