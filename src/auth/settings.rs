//! What a verifier is made of, as texts, and what is wrong with them.

use std::fmt;

/// Settings of one verifier, as they stand in the configuration. An empty text is a setting that is not used.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenSettings {
    /// Secret of HS256, HS384 and HS512.
    pub hmac_secret_key: String,
    /// The secret before it, which is accepted too while keys change.
    pub hmac_previous_secret_key: String,
    /// Unix seconds from which the previous secret is refused; 0 = never.
    pub hmac_previous_secret_key_valid_until: i64,
    /// Public key of RS256, RS384 and RS512, in PEM; 2048 to 8192 bits.
    pub rsa_public_key: String,
    /// Public key of ES256 (P-256), ES384 (P-384) or ES512 (P-521), in PEM.
    pub ecdsa_public_key: String,
    /// Where the key set is fetched from. If given, a token that names a key (`kid`) is checked with that set alone.
    pub jwks_public_endpoint: String,
    /// What `aud` must be or contain.
    pub audience: String,
    /// What `aud`, or one item of it, must match. Matches anywhere unless written with `^` and `$`.
    pub audience_regex: String,
    /// What `iss` must be.
    pub issuer: String,
    /// What `iss` must match. Matches anywhere unless written with `^` and `$`.
    pub issuer_regex: String,
    /// The claim that names the user, in place of `sub`.
    pub user_id_claim: String,
}

/// Without the secrets.
impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("jwks_public_endpoint", &self.jwks_public_endpoint)
            .field("audience", &self.audience)
            .field("audience_regex", &self.audience_regex)
            .field("issuer", &self.issuer)
            .field("issuer_regex", &self.issuer_regex)
            .field("user_id_claim", &self.user_id_claim)
            .finish_non_exhaustive()
    }
}

/// A setting that cannot be used: one line, free of secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// Name of the field of [`TokenSettings`].
    pub setting: &'static str,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl SettingError {
    pub(super) fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { setting, problem }
    }
}

/// `hmac_secret_key: holds a PEM key; …`
impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl std::error::Error for SettingError {}
