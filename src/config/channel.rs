//! Channels by their names: which options a channel has, whether it is private, whom its name admits.

use super::channel_options::{ChannelOptions, DataFormat};
use super::proxy::Proxy;
use super::row::{Setting, field_of, group, key_of, settings_at};
use super::value::{Field, Form, Kind, TimeUnit, Unit};

macro_rules! channel_naming_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Begins the name of a channel that takes a token to subscribe; nothing = no such channels.
        private_prefix: String = "$".to_owned(), Kind::Text(Form::Marker);
        /// Ends the namespace in a channel's name, as in `chat:42`; nothing = no namespaces.
        namespace_boundary: String = ":".to_owned(), Kind::Text(Form::Marker);
        /// Begins the list of users in the name of a user-limited channel, as in `news#42,43`; nothing = no such channels.
        user_boundary: String = "#".to_owned(), Kind::Text(Form::Marker);
        /// Stands between the users in such a list; nothing = the list is one user.
        user_separator: String = ",".to_owned(), Kind::Text(Form::Marker);
        /// Longest name of a channel for Centrifuge clients; `channels.name_bytes` holds for all.
        max_length: usize = 255, Kind::Number { unit: Unit::Bytes, min: 1, max: 4_096 };
        /// Time the epoch and the newest offset of a channel are kept after its last publication, rounded up to whole seconds.
        history_meta_ttl_s "history_meta_ttl": u32 = 2_592_000, Kind::Duration { unit: TimeUnit::Seconds, min: 1, max: 315_360_000 };
        /// What data clients may publish; nothing = anything the client's protocol carries.
        publication_data_format: DataFormat = DataFormat::Any, Kind::Choice(DataFormat::NAMES);
    } };
}

channel_naming_rows!(group
    /// How names of channels are read, and what holds for all channels.
    ChannelNaming
);

/// `channel.*` but for the options and the proxies.
pub(super) const NAMING: &[Setting] = channel_naming_rows!(settings_at "channel" (channel.naming));

/// The `channel` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelConfig {
    /// How names are read, and what holds for all channels.
    pub naming: ChannelNaming,
    /// Backends to ask about channels.
    pub proxy: ChannelProxies,
    /// Options of channels without a namespace.
    pub without_namespace: ChannelOptions,
    /// Namespaces by their names, which are unique and in ascending order.
    pub namespaces: Vec<(String, ChannelOptions)>,
}

/// Backends to ask about channels, where the options name none of `proxies`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelProxies {
    /// Whether a client may subscribe.
    pub subscribe: Proxy,
    /// Whether a client may publish.
    pub publish: Proxy,
    /// Whether a subscription goes on.
    pub sub_refresh: Proxy,
}

/// The channel's namespace is not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownNamespace;

/// Why a channel's name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameProblem {
    /// No name at all.
    Empty,
    /// Longer than `channel.max_length`.
    TooLong,
    /// Not ASCII, in a channel without a `channel_regex`.
    NotAscii,
    /// The `channel_regex` does not match.
    NoMatch,
}

impl ChannelConfig {
    /// The options of `channel`.
    ///
    /// # Errors
    /// The name begins with a namespace that is not configured.
    pub fn resolve(&self, channel: &str) -> Result<&ChannelOptions, UnknownNamespace> {
        match self.split(channel).0 {
            None => Ok(&self.without_namespace),
            Some(name) => self.namespace(name).ok_or(UnknownNamespace),
        }
    }

    /// The options of every namespace, and of channels without.
    pub fn all_options(&self) -> impl Iterator<Item = &ChannelOptions> {
        let named = self.namespaces.iter().map(|(_, options)| options);
        named.chain([&self.without_namespace])
    }

    /// The options of `channel`; those of channels without a namespace, if its own is not configured.
    pub fn resolve_or_default(&self, channel: &str) -> &ChannelOptions {
        self.resolve(channel).unwrap_or(&self.without_namespace)
    }

    /// The channel of a user alone, in a namespace or, if that is empty, in none.
    pub fn personal_channel(&self, namespace: &str, user: &str) -> String {
        let naming = &self.naming;
        let boundary = match namespace {
            "" => "",
            _ => naming.namespace_boundary.as_str(),
        };
        format!("{namespace}{boundary}{}{user}", naming.user_boundary)
    }

    /// The options of the namespace called `name`.
    pub fn namespace(&self, name: &str) -> Option<&ChannelOptions> {
        // A name that begins with the boundary has an empty namespace, which is none.
        if name.is_empty() {
            return Some(&self.without_namespace);
        }
        let place = self
            .namespaces
            .binary_search_by(|(known, _)| known.as_str().cmp(name));
        place
            .ok()
            .and_then(|index| self.namespaces.get(index))
            .map(|(_, options)| options)
    }

    /// The channel's namespace, and the rest of its name. Without a namespace the rest is the whole name.
    pub fn split<'c>(&self, channel: &'c str) -> (Option<&'c str>, &'c str) {
        let naming = &self.naming;
        let public = channel
            .strip_prefix(naming.private_prefix.as_str())
            .unwrap_or(channel);
        if naming.namespace_boundary.is_empty() {
            return (None, channel);
        }
        match public.split_once(naming.namespace_boundary.as_str()) {
            Some((namespace, rest)) => (Some(namespace), rest),
            None => (None, channel),
        }
    }

    /// Whether subscribing takes a token, by the channel's name.
    pub fn is_private(&self, channel: &str) -> bool {
        let prefix = &self.naming.private_prefix;
        !prefix.is_empty() && channel.starts_with(prefix.as_str())
    }

    /// Whether the channel's name has a list of users.
    pub fn is_user_limited(&self, channel: &str) -> bool {
        self.users(channel).is_some()
    }

    /// Whether `user` is in the list of users of the channel's name. Without a list, nobody is.
    pub fn lists_user(&self, channel: &str, user: &str) -> bool {
        let separator = self.naming.user_separator.as_str();
        self.users(channel).is_some_and(|users| match separator {
            "" => users == user,
            _ => users.split(separator).any(|listed| listed == user),
        })
    }

    /// What follows the last boundary.
    fn users<'c>(&self, channel: &'c str) -> Option<&'c str> {
        let boundary = self.naming.user_boundary.as_str();
        let (_, users) = channel.rsplit_once(boundary)?;
        (!boundary.is_empty()).then_some(users)
    }

    /// Checks the form of a name whose options are `options`.
    ///
    /// # Errors
    /// The name is empty, too long, or not of the characters its options ask for.
    pub fn check_name(&self, channel: &str, options: &ChannelOptions) -> Result<(), NameProblem> {
        if channel.is_empty() {
            return Err(NameProblem::Empty);
        }
        if channel.len() > self.naming.max_length {
            return Err(NameProblem::TooLong);
        }
        match options.channel_regex.regex() {
            Some(regex) if regex.is_match(self.split(channel).1) => Ok(()),
            Some(_) => Err(NameProblem::NoMatch),
            None if channel.is_ascii() => Ok(()),
            None => Err(NameProblem::NotAscii),
        }
    }

    /// What data clients may publish in a channel of these options.
    pub fn data_format(&self, options: &ChannelOptions) -> DataFormat {
        match options.publication_data_format {
            DataFormat::Any => self.naming.publication_data_format,
            own => own,
        }
    }

    /// Time the epoch and the newest offset of a channel of these options are kept, in seconds.
    pub fn history_meta_ttl_s(&self, options: &ChannelOptions) -> u32 {
        match options.history_meta_ttl_s {
            0 => self.naming.history_meta_ttl_s,
            own => own,
        }
    }

    /// Makes `namespaces` those of the configuration.
    pub(super) fn set_namespaces(&mut self, mut namespaces: Vec<(String, ChannelOptions)>) {
        namespaces.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.namespaces = namespaces;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Pattern;

    fn channel_config() -> ChannelConfig {
        let sized = |history_size| ChannelOptions {
            history_size,
            ..ChannelOptions::default()
        };
        let mut config = ChannelConfig::default();
        config.set_namespaces(vec![
            ("news".to_owned(), sized(2)),
            ("chat".to_owned(), sized(1)),
        ]);
        config
    }

    #[test]
    fn a_channel_has_the_options_of_its_namespace() {
        let config = channel_config();
        let size = |channel| config.resolve(channel).map(|options| options.history_size);
        for (channel, expected) in [
            ("chat:1", Ok(1)),
            ("$chat:1", Ok(1)),
            ("news:a:b", Ok(2)),
            ("news", Ok(0)),
            ("$news", Ok(0)),
            (":x", Ok(0)),
            ("", Ok(0)),
            ("chats:1", Err(UnknownNamespace)),
            ("$$chat:1", Err(UnknownNamespace)),
        ] {
            assert_eq!(size(channel), expected, "{channel}");
        }
    }

    #[test]
    fn boundaries_can_be_off_and_longer_than_a_character() {
        let mut config = channel_config();
        config.naming.namespace_boundary = "::".to_owned();
        assert_eq!(config.split("chat::x"), (Some("chat"), "x"));
        assert_eq!(config.split("chat:x"), (None, "chat:x"));
        config.naming.namespace_boundary.clear();
        config.naming.private_prefix.clear();
        config.naming.user_boundary.clear();
        assert_eq!(config.split("chat::x"), (None, "chat::x"));
        assert!(!config.is_private("$x") && !config.is_user_limited("x#1"));
        assert!(!config.lists_user("x#1", "1"));
    }

    #[test]
    fn private_names_begin_with_the_prefix() {
        let config = channel_config();
        assert!(config.is_private("$x") && config.is_private("$chat:x"));
        assert!(!config.is_private("chat:$x"));
    }

    #[test]
    fn a_user_limited_channel_names_its_users_after_the_last_boundary() {
        let mut config = channel_config();
        assert!(config.is_user_limited("news#42"));
        assert!(config.lists_user("news#42,43", "43"));
        assert!(config.lists_user("a#1#2", "2") && !config.lists_user("a#1#2", "1"));
        assert!(!config.lists_user("news#42", "4") && !config.lists_user("news#42", ""));
        assert!(!config.lists_user("news", "news"));
        config.naming.user_separator.clear();
        assert!(config.lists_user("news#4,5", "4,5") && !config.lists_user("news#4,5", "4"));
    }

    #[test]
    fn names_are_ascii_unless_an_expression_says_otherwise() {
        let mut config = channel_config();
        config.naming.max_length = 10;
        let plain = ChannelOptions::default();
        let digits = ChannelOptions {
            channel_regex: Pattern::new(r"^\d+$").unwrap(),
            ..ChannelOptions::default()
        };
        for (channel, options, expected) in [
            ("chat:1", &plain, Ok(())),
            ("", &plain, Err(NameProblem::Empty)),
            ("12345678901", &plain, Err(NameProblem::TooLong)),
            ("chat:\u{e9}", &plain, Err(NameProblem::NotAscii)),
            ("chat:12", &digits, Ok(())),
            ("chat:\u{661}", &digits, Ok(())),
            ("chat:x", &digits, Err(NameProblem::NoMatch)),
        ] {
            assert_eq!(config.check_name(channel, options), expected, "{channel}");
        }
    }

    #[test]
    fn options_fall_back_to_what_holds_for_all_channels() {
        let mut config = channel_config();
        config.naming.publication_data_format = DataFormat::Json;
        let own = ChannelOptions {
            history_meta_ttl_s: 5,
            publication_data_format: DataFormat::Binary,
            ..ChannelOptions::default()
        };
        let plain = ChannelOptions::default();
        assert_eq!(config.history_meta_ttl_s(&plain), 2_592_000);
        assert_eq!(config.history_meta_ttl_s(&own), 5);
        assert_eq!(config.data_format(&plain), DataFormat::Json);
        assert_eq!(config.data_format(&own), DataFormat::Binary);
    }
}
