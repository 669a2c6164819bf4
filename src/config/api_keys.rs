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
