//! Sets of public keys (JWKS, RFC 7517), from a file or from an identity provider.

use std::fmt;

use jsonwebtoken::Algorithm as Jwt;
use serde_json::value::RawValue;

use super::keys::{Key, Kind};
use super::members::{Members, WrongType};
use super::token::{Algorithm, algorithm, decode};

/// The largest document in bytes.
pub const JWKS_BYTES_MAX: usize = 64 * 1024;
/// The most keys of a document, those of no use here included.
pub const JWKS_KEYS_MAX: usize = 64;

/// Public keys by their names.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<(String, Key)>,
}

/// Why a document is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksError {
    /// More than [`JWKS_BYTES_MAX`].
    TooLong,
    /// Not one JSON object with a list `keys`, or a name twice in an object.
    Malformed,
    /// More than [`JWKS_KEYS_MAX`].
    TooManyKeys,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JwksError::TooLong => write!(f, "a key set of more than {JWKS_BYTES_MAX} bytes"),
            JwksError::Malformed => f.write_str("not a key set: a JSON object with a list keys"),
            JwksError::TooManyKeys => write!(f, "a key set of more than {JWKS_KEYS_MAX} keys"),
        }
    }
}

impl std::error::Error for JwksError {}

impl JwkSet {
    /// Reads a document. Keys that cannot verify a token here are left out: other types, curves, algorithms and
    /// uses, secrets (`oct`), RSA keys outside 2048 to 8192 bits, keys without a name (`kid`).
    ///
    /// # Errors
    /// A document that is no key set or exceeds the bounds. Nothing of it is used then.
    pub fn parse(document: &[u8]) -> Result<Self, JwksError> {
        if document.len() > JWKS_BYTES_MAX {
            return Err(JwksError::TooLong);
        }
        let set = Members::parse(document).ok_or(JwksError::Malformed)?;
        let list = set.raw("keys").ok_or(JwksError::Malformed)?;
        let list: Vec<&RawValue> =
            serde_json::from_str(list.get()).map_err(|_| JwksError::Malformed)?;
        if list.len() > JWKS_KEYS_MAX {
            return Err(JwksError::TooManyKeys);
        }
        let mut keys = Vec::new();
        for jwk in list {
            let jwk = Members::of(jwk).map_err(|_| JwksError::Malformed)?;
            keys.extend(read_key(&jwk).unwrap_or(None));
        }
        Ok(Self { keys })
    }

    /// Number of keys that can verify a token.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key has this name.
    pub fn has(&self, kid: &str) -> bool {
        self.named(kid).next().is_some()
    }

    /// Keys of different types may share a name (RFC 7517 section 4.5).
    pub(super) fn named<'a>(&'a self, kid: &str) -> impl Iterator<Item = &'a Key> {
        let is_named = move |(own, _): &&(String, Key)| own == kid;
        self.keys.iter().filter(is_named).map(|(_, key)| key)
    }
}

/// A key with its name; `None` or an error if it is of no use.
fn read_key(jwk: &Members<'_>) -> Result<Option<(String, Key)>, WrongType> {
    let Some(kid) = jwk.read::<String>("kid")? else {
        return Ok(None);
    };
    if !is_for_signatures(jwk)? {
        return Ok(None);
    }
    let key = match jwk.read::<String>("kty")?.as_deref() {
        Some("RSA") => rsa(jwk)?,
        Some("EC") => ecdsa(jwk)?,
        Some("OKP") => okp(jwk)?,
        _ => None,
    };
    let key = match jwk.read::<String>("alg")? {
        Some(alg) => key
            .zip(named_algorithm(&alg))
            .and_then(|(key, alg)| key.only_for(alg)),
        None => key,
    };
    Ok(key.map(|key| (kid, key)))
}

/// Newer sets write the curve in place of EdDSA (RFC 9864).
fn named_algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "Ed25519" => Some(Algorithm::Of(Jwt::EdDSA)),
        name => algorithm(name),
    }
}

fn is_for_signatures(jwk: &Members<'_>) -> Result<bool, WrongType> {
    let key_use = jwk.read::<String>("use")?;
    let operations = jwk.read::<Vec<String>>("key_ops")?;
    Ok(key_use.is_none_or(|key_use| key_use == "sig")
        && operations.is_none_or(|all| all.iter().any(|operation| operation == "verify")))
}

fn rsa(jwk: &Members<'_>) -> Result<Option<Key>, WrongType> {
    let (modulus, exponent) = (coordinate(jwk, "n")?, coordinate(jwk, "e")?);
    Ok(Key::rsa(&modulus, &exponent))
}

fn ecdsa(jwk: &Members<'_>) -> Result<Option<Key>, WrongType> {
    let (kind, bytes) = match jwk.read::<String>("crv")?.as_deref() {
        Some("P-256") => (Kind::P256, 32),
        Some("P-384") => (Kind::P384, 48),
        Some("P-521") => (Kind::P521, 66),
        _ => return Ok(None),
    };
    let (x, y) = (coordinate(jwk, "x")?, coordinate(jwk, "y")?);
    if x.len() != bytes || y.len() != bytes {
        return Ok(None);
    }
    let key = Key::ecdsa(&[&[4], &x[..], &y[..]].concat());
    Ok(key.filter(|key| key.kind() == kind))
}

fn okp(jwk: &Members<'_>) -> Result<Option<Key>, WrongType> {
    match jwk.read::<String>("crv")?.as_deref() {
        Some("Ed25519") => Ok(Key::ed25519(&coordinate(jwk, "x")?)),
        _ => Ok(None),
    }
}

fn coordinate(jwk: &Members<'_>, name: &str) -> Result<Vec<u8>, WrongType> {
    let text = jwk.read::<String>(name)?.ok_or(WrongType)?;
    decode(&text).ok_or(WrongType)
}
