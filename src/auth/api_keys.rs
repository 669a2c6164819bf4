//! Keys of backends: several at once, so that they can be changed without a gap, each with what it may do.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

/// The longest API key in bytes.
pub const API_KEY_BYTES_MAX: usize = 256;

/// All API keys.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(Vec<ApiKey>);

/// An API key.
#[derive(Clone)]
pub struct ApiKey {
    secret: Padded,
    scope: Scope,
}

/// What a key may do. Both lists hold patterns in which `*` stands for any text, also an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Methods of the server API, such as `publish` or `history*`.
    pub methods: Vec<String>,
    /// Channels, such as `news:*`.
    pub channels: Vec<String>,
}

/// Why a key cannot be used. It is never printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyError {
    /// Empty: everybody has it.
    Empty,
    /// More than [`API_KEY_BYTES_MAX`].
    TooLong,
    /// It is there already.
    Twice,
}

impl fmt::Display for ApiKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiKeyError::Empty => f.write_str("an empty API key; remove it or give it a value"),
            ApiKeyError::TooLong => {
                write!(
                    f,
                    "an API key of more than {API_KEY_BYTES_MAX} bytes; use a shorter one"
                )
            }
            ApiKeyError::Twice => f.write_str("an API key comes twice; remove one of them"),
        }
    }
}

impl std::error::Error for ApiKeyError {}

impl Scope {
    /// Everything.
    pub fn all() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            methods: all(),
            channels: all(),
        }
    }
}

impl ApiKeys {
    /// Adds a key.
    ///
    /// # Errors
    /// A key that cannot be used.
    pub fn add(&mut self, secret: &str, scope: Scope) -> Result<(), ApiKeyError> {
        if secret.is_empty() {
            return Err(ApiKeyError::Empty);
        }
        if self.find(secret.as_bytes()).is_some() {
            return Err(ApiKeyError::Twice);
        }
        let secret = Padded::new(secret.as_bytes()).ok_or(ApiKeyError::TooLong)?;
        self.0.push(ApiKey { secret, scope });
        Ok(())
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that was given, if it is one. All keys are compared, each in the same time whatever its length and
    /// wherever it differs.
    pub fn find(&self, given: &[u8]) -> Option<&ApiKey> {
        let given = Padded::new(given)?;
        let compare = |key: &ApiKey| key.secret.ct_eq(&given);
        let matches: Vec<Choice> = self.0.iter().map(compare).collect();
        let position = matches.into_iter().position(bool::from)?;
        self.0.get(position)
    }
}

impl ApiKey {
    /// Whether it may call this method, on some channel at least.
    pub fn may_call(&self, method: &str) -> bool {
        is_any(&self.scope.methods, method)
    }

    /// Whether it may call this method on this channel; `None` for methods that are about none in particular, which
    /// takes a key for all channels.
    pub fn may(&self, method: &str, channel: Option<&str>) -> bool {
        let channels = &self.scope.channels;
        self.may_call(method)
            && match channel {
                Some(channel) => is_any(channels, channel),
                None => channels.iter().any(|glob| glob == "*"),
            }
    }
}

/// Without the secret.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiKey").field(&self.scope).finish()
    }
}

/// A secret with zeros up to the greatest length, so that a comparison does not tell its length.
#[derive(Clone)]
struct Padded {
    bytes: [u8; API_KEY_BYTES_MAX],
    len: u64,
}

impl Padded {
    fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; API_KEY_BYTES_MAX];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        let len = secret.len() as u64;
        Some(Self { bytes, len })
    }

    fn ct_eq(&self, other: &Self) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.len.ct_eq(&other.len)
    }
}

fn is_any(globs: &[String], text: &str) -> bool {
    globs.iter().any(|glob| is_match(glob, text))
}

/// Whether `text` has the form of `glob`. Only the last `*` is ever tried again, so the time is at most the product of
/// both lengths.
fn is_match(glob: &str, text: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(methods: &[&str], channels: &[&str]) -> Scope {
        let owned = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
        Scope {
            methods: owned(methods),
            channels: owned(channels),
        }
    }

    #[test]
    fn finds_each_of_several_keys_and_no_other() {
        let mut keys = ApiKeys::default();
        keys.add("old", scope(&["publish"], &["*"])).unwrap();
        keys.add("new", Scope::all()).unwrap();
        let longest = "k".repeat(API_KEY_BYTES_MAX);
        keys.add(&longest, Scope::all()).unwrap();
        assert!(!keys.find(b"old").unwrap().may("info", None));
        assert!(keys.find(b"new").unwrap().may("info", None));
        assert!(keys.find(longest.as_bytes()).is_some());
        for wrong in [
            "",
            "ol",
            "old\0",
            "oldnew",
            "OLD",
            &longest[1..],
            &format!("{longest}k"),
        ] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        assert!(ApiKeys::default().find(b"").is_none());
    }

    #[test]
    fn refuses_keys_of_no_use() {
        let mut keys = ApiKeys::default();
        assert_eq!(keys.add("", Scope::all()), Err(ApiKeyError::Empty));
        let long = "k".repeat(API_KEY_BYTES_MAX + 1);
        assert_eq!(keys.add(&long, Scope::all()), Err(ApiKeyError::TooLong));
        assert_eq!(keys.add("a", Scope::all()), Ok(()));
        assert_eq!(keys.add("a", Scope::all()), Err(ApiKeyError::Twice));
    }

    #[test]
    fn a_scope_bounds_methods_and_channels() {
        let mut keys = ApiKeys::default();
        keys.add("k", scope(&["publish", "history*"], &["news:*", "chat"]))
            .unwrap();
        let key = keys.find(b"k").unwrap();
        for (method, channel, may) in [
            ("publish", Some("news:a"), true),
            ("publish", Some("chat"), true),
            ("publish", Some("chats"), false),
            ("publish", Some("newt:a"), false),
            ("history_remove", Some("chat"), true),
            ("disconnect", None, false),
            ("publish", None, false),
            ("publish_all", Some("chat"), false),
        ] {
            assert_eq!(key.may(method, channel), may, "{method} {channel:?}");
        }
        assert!(key.may_call("publish") && !key.may_call("disconnect"));
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let mut keys = ApiKeys::default();
        keys.add("hunter2", Scope::all()).unwrap();
        let printed = format!("{keys:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("104, 117"),
            "{printed}"
        );
    }

    proptest! {
        #[test]
        fn globs_agree_with_a_regular_expression(glob in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let pattern = format!("^{}$", glob.replace('*', ".*"));
            let expected = regex::Regex::new(&pattern).unwrap().is_match(&text);
            prop_assert_eq!(is_match(&glob, &text), expected);
        }
    }
}
