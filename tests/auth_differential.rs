//! Tokens made by PyJWT, whole and damaged (tests/auth_vectors/generate.py): whatever is accepted here is accepted
//! there too and says the same, and everything PyJWT made is accepted.

use std::sync::Arc;

use longwire::auth::{JwkSet, TokenSettings, TokenVerifier};
use serde_json::{Map, Value};

const VECTORS: &str = include_str!("auth_vectors/vectors.json");
/// Between the tokens' `nbf` and `exp`.
const NOW_S: i64 = 1_700_000_000;

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn text<'a>(vectors: &'a Value, name: &str) -> &'a str {
    vectors[name].as_str().unwrap()
}

/// With configured keys on one curve and another, and with the key set.
fn verifiers(vectors: &Value) -> [TokenVerifier; 3] {
    let settings = |ecdsa: &str| TokenSettings {
        hmac_secret_key: text(vectors, "secret").to_owned(),
        rsa_public_key: text(vectors, "rsa_public").to_owned(),
        ecdsa_public_key: text(vectors, ecdsa).to_owned(),
        ..TokenSettings::default()
    };
    let configured = TokenVerifier::new(&settings("p256_public")).unwrap();
    let on_p521 = TokenVerifier::new(&settings("p521_public")).unwrap();
    let mut with_set = TokenVerifier::new(&settings("p384_public")).unwrap();
    let set = JwkSet::parse(vectors["jwks"].to_string().as_bytes()).unwrap();
    with_set.set_jwks(Arc::new(set));
    [configured, on_p521, with_set]
}

#[test]
fn what_pyjwt_made_is_accepted_and_nothing_that_it_refuses() {
    let vectors = vectors();
    let [configured, on_p521, with_set] = verifiers(&vectors);
    let (mut whole, mut accepted) = (0, 0);
    for (index, vector) in vectors["tokens"].as_array().unwrap().iter().enumerate() {
        let (alg, token) = (text(vector, "alg"), text(vector, "token"));
        let is_whole = index % 5 == 0;
        whole += usize::from(is_whole);
        // A configured key is of one curve, and Ed25519 keys come in sets only.
        let knows = |verifier| match verifier {
            "p256" => !matches!(alg, "ES384" | "ES512" | "EdDSA"),
            "p521" => !matches!(alg, "ES256" | "ES384" | "EdDSA"),
            _ => true,
        };
        let all = [
            ("p256", &configured),
            ("p521", &on_p521),
            ("set", &with_set),
        ];
        for (name, verifier) in all {
            match verifier.verify_connect(token, NOW_S) {
                Ok(claims) => {
                    accepted += 1;
                    let theirs = vector["claims"].as_object();
                    let theirs = theirs.unwrap_or_else(|| panic!("PyJWT refuses {token}"));
                    assert_same(&claims, theirs);
                }
                Err(error) => assert!(!is_whole || !knows(name), "{name} {alg} {error}: {token}"),
            }
        }
    }
    assert_eq!(whole, 120);
    assert!(accepted >= 120 + 84 + 84, "{accepted}");
}

fn assert_same(ours: &longwire::auth::ConnectClaims, theirs: &Map<String, Value>) {
    let number = |name: &str| theirs.get(name).and_then(Value::as_i64);
    assert_eq!(Some(ours.user.as_str()), theirs["sub"].as_str());
    assert_eq!(ours.expire_at_s, number("exp"));
    assert_eq!(ours.issued_at_s, number("iat"));
    assert_eq!(
        ours.token_id.as_deref(),
        theirs.get("jti").and_then(Value::as_str)
    );
    if let Some(info) = theirs.get("info") {
        let ours: Value = serde_json::from_slice(ours.info.as_ref().unwrap()).unwrap();
        assert_eq!(ours, *info);
    }
    let channels: Vec<&str> = ours
        .subs
        .iter()
        .map(|(channel, _)| channel.as_str())
        .collect();
    let expected: Vec<&str> = match theirs.get("channels") {
        Some(channels) => channels
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect(),
        None => Vec::new(),
    };
    assert_eq!(channels, expected);
}

#[test]
fn of_the_key_set_only_keys_for_signatures_are_taken() {
    let vectors = vectors();
    let set = JwkSet::parse(vectors["jwks"].to_string().as_bytes()).unwrap();
    for kid in [
        "rsa",
        "rsa_other",
        "p256",
        "p384",
        "p521",
        "ed25519",
        "rsa_512_only",
    ] {
        assert!(set.has(kid), "{kid}");
    }
    assert_eq!(set.len(), 7);
}
