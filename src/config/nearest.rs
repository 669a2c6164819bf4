//! The known name nearest to an unknown one.

use super::row::Setting;
use super::settings::SETTINGS;

/// What a section other than the named one costs, if the named one is a section or nearly so.
const OTHER_SECTION: usize = 3;

/// The setting whose key is nearest to `key`, if any is near: misspelt, or in the wrong section.
pub(super) fn nearest(key: &str) -> Option<&'static Setting> {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let sections = SETTINGS.iter().map(|setting| setting.section_and_name().0);
    let is_section = !section.is_empty()
        && sections
            .filter(|known| !known.is_empty())
            .any(|known| edit_distance(section, known) <= 1);
    let elsewhere = if is_section { OTHER_SECTION } else { 0 };
    let distance = |setting: &&Setting| {
        let misspelt = edit_distance(key, setting.key);
        let misplaced = 1 + edit_distance(name, setting.section_and_name().1) + elsewhere;
        misspelt.min(misplaced)
    };
    let best = SETTINGS.iter().min_by_key(distance)?;
    (distance(&best) <= 1 + name.chars().count() / 3).then_some(best)
}

/// The name of `known` nearest to `name`, if any is near.
pub(super) fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.min_by_key(|known| edit_distance(name, known))?;
    (edit_distance(name, best) <= 1 + name.chars().count() / 3).then_some(best)
}

/// Levenshtein's distance: characters to insert, remove or replace.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.chars().enumerate() {
            let replace = row[j] + usize::from(from != to);
            next.push(replace.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(key: &str) -> Option<&'static str> {
        nearest(key).map(|setting| setting.key)
    }

    #[test]
    fn edit_distance_counts_characters() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edit_distance(a, b), distance);
            assert_eq!(edit_distance(b, a), distance);
        }
    }

    #[test]
    fn misspelt_and_misplaced_names_find_their_setting() {
        for (key, setting) in [
            ("lisen", "listen"),
            ("heartbeat.ping_intervall_ms", "heartbeat.ping_interval_ms"),
            ("hearbeat.ping_interval", "heartbeat.ping_interval_ms"),
            ("heartbeat_ping_interval_ms", "heartbeat.ping_interval_ms"),
            ("ping_interval_ms", "heartbeat.ping_interval_ms"),
            ("http.message_bytes", "websocket.message_bytes"),
        ] {
            assert_eq!(suggested(key), Some(setting), "{key}");
        }
    }

    #[test]
    fn a_name_like_no_other_has_no_suggestion() {
        assert_eq!(suggested("redis.cluster_url"), None);
        assert_eq!(suggested(""), None);
    }
}
