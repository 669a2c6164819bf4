//! Keys of the server API: one for everything, and those that are good for some methods and channels only.

use super::row::{Setting, field_of, group, key_of, settings_at};
use super::value::{Field, Form, Item, Kind};

macro_rules! http_api_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// One more key that is good for everything, as in `api_keys`.
        key: String = String::new(), Kind::Text(Form::Key);
        /// Lets whoever reaches the server use the server API without a key.
        insecure: bool = false, Kind::Flag;
        /// Has no effect: the server API is at the same addresses as everything else.
        external: bool = false, Kind::Flag;
    } };
}

http_api_rows!(group
    /// The `http_api` section but for `http_api.keys`.
    HttpApi
);

/// `http_api.*` but for `http_api.keys`.
pub(super) const HTTP_API: &[Setting] = http_api_rows!(settings_at "http_api" (http_api));

macro_rules! api_key_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// The key, as in `X-API-Key`.
        key: String = String::new(), Kind::Text(Form::Key);
        /// Methods it is good for, such as `publish`; nothing = all.
        methods: Vec<String> = Vec::new(), Kind::List(Item::ApiMethod);
        /// Channels it is good for, with `*` for any characters; nothing = all, and methods without a channel.
        channels: Vec<String> = Vec::new(), Kind::List(Item::Channel);
    } };
}

api_key_rows!(group
    /// A key and what it is good for.
    ScopedKey
);

impl ScopedKey {
    /// Whether the key is good for `method` on `channel`; `None` for a method that names no channel, which a key for
    /// some channels is not good for.
    pub fn allows(&self, method: &str, channel: Option<&str>) -> bool {
        let allows_method = self.methods.is_empty() || self.methods.iter().any(|own| own == method);
        let allows_channel = self.channels.is_empty()
            || channel.is_some_and(|name| self.channels.iter().any(|own| is_match(own, name)));
        allows_method && allows_channel
    }
}

/// Whether `text` is `pattern` with any characters in place of each `*`.
fn is_match(pattern: &str, text: &str) -> bool {
    let Some((start, mut pattern)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    // The earliest place of each part leaves the most room for those after it.
    while let Some((part, rest)) = pattern.split_once('*') {
        let Some(place) = text.find(part) else {
            return false;
        };
        text = text.get(place + part.len()..).unwrap_or_default();
        pattern = rest;
    }
    text.ends_with(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("news", "news", true),
            ("news", "news:1", false),
            ("*", "", true),
            ("news:*", "news:1", true),
            ("news:*", "news:", true),
            ("news:*", "old:news:1", false),
            ("*:1", "news:1", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_key_is_good_for_what_it_lists() {
        let key = ScopedKey {
            methods: vec!["publish".to_owned()],
            channels: vec!["news:*".to_owned()],
            ..ScopedKey::default()
        };
        assert!(key.allows("publish", Some("news:1")));
        assert!(!key.allows("publish", Some("chat")));
        assert!(!key.allows("publish", None));
        assert!(!key.allows("presence", Some("news:1")));
        assert!(ScopedKey::default().allows("channels", None));
    }
}
