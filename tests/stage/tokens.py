"""Keys and tokens as an issuer makes them, right and wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

ISSUER = "http://issuer.test"
AUDIENCE = "assistant"
EC_KEY = ECKey.generate_key("P-256", {"kid": "ec"})
RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa"})


class StaticKeys:
    """A ``KeySet`` of the two keys above."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def key(self, kid: str) -> ECKey | RSAKey | None:
        self.asked.append(kid)
        return {"ec": EC_KEY, "rsa": RSA_KEY}.get(kid)

    async def check(self) -> None:
        return


def claims(now: datetime, **changes: Any) -> dict[str, Any]:
    """Return good claims; a change to None leaves the claim out."""
    issued = int(now.timestamp())
    good: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": issued,
        "exp": issued + 600,
        "sub": "ann",
        "tenant": "clinic",
        "roles": ["agent"],
        "labels": [],
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(payload: dict[str, Any], *, key: ECKey | RSAKey | OctKey = EC_KEY, **header: Any) -> str:
    algorithm = {"EC": "ES256", "RSA": "RS256", "oct": "HS256"}[key.key_type]
    full = {"alg": algorithm, "kid": "rsa" if key.key_type == "RSA" else "ec"} | header
    return jwt.encode(full, payload, key, algorithms=[full["alg"]])


def unsigned(payload: dict[str, Any], *, algorithm: str = "none") -> str:
    return f"{_encoded({'alg': algorithm, 'kid': 'ec'}, payload)}."


def signed_with_public_key(payload: dict[str, Any]) -> str:
    """The classic confusion: HS256 with the RSA public key, as PEM, for a secret."""
    signed = _encoded({"alg": "HS256", "kid": "rsa"}, payload)
    mac = hmac.new(RSA_KEY.as_pem(private=False), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_base64(mac)}"


def _encoded(header: dict[str, Any], payload: dict[str, Any]) -> str:
    return ".".join(_base64(json.dumps(part).encode()) for part in (header, payload))


def _base64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
