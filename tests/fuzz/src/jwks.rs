//! A key set: refused, or with at most as many keys as it may have, and none of them signed a token nobody signed.

use std::sync::Arc;

use longwire::auth::{JWKS_KEYS_MAX, JwkSet, TokenSettings, TokenVerifier};

pub const SEEDS: &[&[u8]] = &[
    br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","use":"sig","key_ops":["verify"],"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
    br#"{"keys":[{"kty":"RSA","kid":"k","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"},{"kty":"oct","kid":"k","k":"AAAA"}]}"#,
];

/// Names the key `k`, and algorithms of each type, with no signature worth the name.
const FORGED: [&str; 3] = [
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ.e30",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.e30",
    "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30",
];

pub fn run(input: &[u8]) {
    let Ok(set) = JwkSet::parse(input) else {
        return;
    };
    assert!(set.len() <= JWKS_KEYS_MAX);
    let verifier = TokenVerifier::new(&TokenSettings::default());
    let mut verifier = verifier.expect("these settings are right");
    verifier.set_jwks(Arc::new(set));
    for signed in FORGED {
        let token = format!("{signed}.{}", "QUJD".repeat(21));
        assert!(verifier.verify_connect(&token, 0).is_err(), "forged");
    }
}
