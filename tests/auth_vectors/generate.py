#!/usr/bin/env python3
"""Writes vectors.json in this directory: keys, and tokens as PyJWT makes them, with what PyJWT says of each.

    pip install pyjwt cryptography

The keys are new in every run and sign nothing else. Damaged tokens are the same in every run but for the signatures.
"""

import base64
import json
import os
import random
import warnings

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

warnings.filterwarnings("ignore")
EXP = 4_000_000_000
SECRET = "secret"
draw = random.Random(42)


def pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def pkcs1(key):
    form = serialization.PublicFormat.PKCS1
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def private_pem(key):
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


private = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "rsa_other": rsa.generate_private_key(65537, 3072),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
refused = {
    "rsa_1024": rsa.generate_private_key(65537, 1024),
}
signers = [
    ("HS256", "hmac"), ("HS384", "hmac"), ("HS512", "hmac"),
    ("RS256", "rsa"), ("RS384", "rsa"), ("RS512", "rsa"),
    ("ES256", "p256"), ("ES384", "p384"), ("ES512", "p521"), ("EdDSA", "ed25519"),
]


def signing_key(name):
    return SECRET if name == "hmac" else private[name]


def verifying_key(name):
    return SECRET if name == "hmac" else private[name].public_key()


def jwk(name, key, **more):
    algorithms = {"rsa": "RS256", "p25": "ES256", "p38": "ES384", "p52": "ES512", "ed2": "EdDSA"}
    algorithm = jwt.get_algorithm_by_name(algorithms[name[:3]])
    return algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": name} | more


def accepted(token, algorithm, name):
    try:
        return jwt.decode(token, verifying_key(name), algorithms=[algorithm], options={"verify_aud": False})
    except Exception:
        return None


def claims(index):
    """A few claims of every kind."""
    made = {"sub": str(index), "exp": EXP + index}
    if index % 2:
        made |= {"iat": 1_600_000_000, "nbf": 1_600_000_001, "jti": f"token-{index}"}
    if index % 3 == 0:
        made["info"] = {"name": "Zoë \n \"x\"", "n": [1, 2.5, None, True]}
    if index % 3 == 1:
        made["b64info"] = base64.b64encode(bytes(range(index))).decode()
    if index % 4 == 0:
        made["channels"] = ["news", f"personal:{index}"]
    if index % 5 == 0:
        made["aud"] = ["a", "b"]
    if index % 7 == 0:
        made["meta"] = {"k": index}
    return made


def damaged(token):
    """Another token, in one of the ways they go wrong."""
    at = draw.randrange(len(token))
    letter = draw.choice("AQgwBZz9-_=.+/ \n\u00e9")
    return draw.choice([
        token[:at] + letter + token[at + 1:],
        token[:at] + letter + token[at:],
        token[:at] + token[at + 1:],
        token[:at],
        token + letter,
        letter + token,
        token.rsplit(".", 1)[0] + ".",
        ".".join(reversed(token.split("."))),
    ])


tokens = []
for algorithm, name in signers:
    for index in range(12):
        header = {"kid": name} if name != "hmac" else {}
        token = jwt.encode(claims(index), signing_key(name), algorithm=algorithm, headers=header)
        tokens.append({"alg": algorithm, "key": name, "token": token, "claims": accepted(token, algorithm, name)})
        for _ in range(4):
            wrong = damaged(token)
            says = accepted(wrong, algorithm, name)
            tokens.append({"alg": algorithm, "key": name, "token": wrong, "claims": says})

keys = {
    "keys": [jwk(name, key, use="sig") for name, key in private.items()]
    + [jwk(name, key) for name, key in refused.items()]
    + [
        jwk("rsa", private["rsa_other"], kid="rsa_enc", use="enc"),
        jwk("rsa", private["rsa_other"], kid="rsa_sign", key_ops=["sign"]),
        jwk("rsa", private["rsa_other"], kid="rsa_pss", alg="PS256"),
        jwk("rsa", private["rsa_other"], kid="rsa_512_only", alg="RS512"),
        {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"secret").decode()},
        {"kty": "future", "kid": "future", "alg": "XY99"},
    ]
}
for key in keys["keys"]:
    key.pop("key_ops") if key.get("key_ops") == ["verify"] else None

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.json"), "w") as out:
    json.dump({
        "secret": SECRET,
        "rsa_public": pem(private["rsa"]),
        "rsa_public_pkcs1": pkcs1(private["rsa"]),
        "rsa_private": private_pem(private["rsa"]),
        "rsa_other_private": private_pem(private["rsa_other"]),
        "rsa_1024_public": pem(refused["rsa_1024"]),
        "p256_public": pem(private["p256"]),
        "p256_private": private_pem(private["p256"]),
        "p384_public": pem(private["p384"]),
        "p521_public": pem(private["p521"]),
        "ed25519_public": pem(private["ed25519"]),
        "jwks": keys,
        "tokens": tokens,
    }, out, indent=1)
    print(file=out)
