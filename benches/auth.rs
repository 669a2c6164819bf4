//! What a token costs, whole: taken apart, verified, its claims read. `cargo bench --bench auth`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use longwire::auth::{ApiKeys, Identity, JwkSet, Revocations, Scope, TokenSettings, TokenVerifier};
use serde_json::Value;

const VECTORS: &str = include_str!("../tests/auth_vectors/vectors.json");
/// Between the tokens' `nbf` and `exp`.
const NOW_S: i64 = 1_700_000_000;

fn verifiers(vectors: &Value) -> [TokenVerifier; 2] {
    let text = |name: &str| vectors[name].as_str().unwrap().to_owned();
    let configured = TokenVerifier::new(&TokenSettings {
        hmac_secret_key: text("secret"),
        rsa_public_key: text("rsa_public"),
        ecdsa_public_key: text("p256_public"),
        ..TokenSettings::default()
    });
    let mut with_set = TokenVerifier::new(&TokenSettings::default()).unwrap();
    let set = JwkSet::parse(vectors["jwks"].to_string().as_bytes()).unwrap();
    with_set.set_jwks(Arc::new(set));
    [configured.unwrap(), with_set]
}

fn tokens(c: &mut Criterion) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let [configured, with_set] = verifiers(&vectors);
    let mut group = c.benchmark_group("verify_connect");
    for (alg, verifier) in [
        ("HS256", &configured),
        ("RS256", &configured),
        ("ES256", &configured),
        ("EdDSA", &with_set),
    ] {
        let mut all = vectors["tokens"].as_array().unwrap().iter();
        let token = all.find(|vector| vector["alg"] == alg).unwrap();
        let token = token["token"].as_str().unwrap();
        assert!(verifier.verify_connect(token, NOW_S).is_ok());
        group.bench_function(alg, |b| {
            b.iter(|| verifier.verify_connect(black_box(token), NOW_S));
        });
    }
    let forged = format!("{}.e30.AAAA", "eyJhbGciOiJIUzI1NiJ9");
    group.bench_function("HS256_forged", |b| {
        b.iter(|| configured.verify_connect(black_box(&forged), NOW_S));
    });
    group.finish();
}

fn lists(c: &mut Criterion) {
    let mut revocations = Revocations::new(100_000);
    for user in 0..100_000 {
        let user = user.to_string();
        revocations
            .revoke_user(&user, Some(NOW_S), NOW_S + 9, NOW_S)
            .unwrap();
    }
    let identity = Identity {
        user: "4711",
        token_id: Some("token"),
        issued_at_s: Some(NOW_S),
    };
    c.bench_function("is_revoked/100_000", |b| {
        b.iter(|| revocations.is_revoked(black_box(identity), NOW_S));
    });
    let mut keys = ApiKeys::default();
    for number in 0..4 {
        keys.add(&format!("key-{number}"), Scope::all()).unwrap();
    }
    c.bench_function("find_api_key/4", |b| {
        b.iter(|| keys.find(black_box(b"key-2")).is_some());
    });
}

criterion_group!(benches, tokens, lists);
criterion_main!(benches);
