//! Who a client is and what it may do: connection and subscription tokens, their keys, their revocation, API keys.
//!
//! Plain data and functions: no sockets, no threads, no clock. The wall clock comes in as Unix seconds, and a key
//! set (JWKS) as the bytes somebody fetched.
//!
//! - `token`: the compact form of a signed token (RFC 7515), read strictly.
//! - `members`: JSON objects in which no name comes twice.
//! - `keys`: configured keys, and which of them may have signed a token. `jwks`: sets of public keys (RFC 7517).
//! - `claims`: what tokens say. `verifier`: all of it together.
//! - `revocations`: tokens that are refused although they are valid.
//! - `api_keys`: keys of backends, and what each may do.
//! - `jwks_url`: where a key set may be fetched from.
//! - `issue`: makes tokens, for development.

mod api_keys;
mod claims;
mod issue;
mod jwks;
mod jwks_url;
mod keys;
mod members;
mod revocations;
mod settings;
mod token;
mod verifier;

pub use api_keys::{API_KEY_BYTES_MAX, ApiKey, ApiKeyError, ApiKeys, Scope};
pub use claims::{ConnectClaims, Identity, Overrides, SubscribeClaims, SubscriptionClaims};
pub use issue::{CLAIMS_BYTES_MAX, IssueError, sign_hs256};
pub use jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, JwkSet, JwksError};
pub use jwks_url::{
    AddressPolicy, JWKS_FETCH_TIMEOUT_MS, JWKS_REDIRECTS_MAX, JWKS_REFETCH_INTERVAL_MS,
    JWKS_URL_BYTES_MAX, JwksUrl, JwksUrlError,
};
pub use revocations::{Revocations, RevocationsFull, Revoked, RevokedBy};
pub use settings::{SettingError, TokenSettings};
pub use token::TOKEN_BYTES_MAX;
pub use verifier::{TokenError, TokenVerifier};
