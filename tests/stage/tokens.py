"""Keys and tokens as an issuer makes them, and contexts of a conversation as a care application signs them:
right and wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from assistant.domain.clock import Clock

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


CARE = "https://care.test"
CONTEXT_AUDIENCE = "assistant-context"


def context_claims(clock: Clock, **changes: Any) -> dict[str, Any]:
    """Return good claims of ann's conversation; a change to None leaves the claim out."""
    issued = int(clock.now().timestamp())
    good: dict[str, Any] = {
        "iss": CARE,
        "aud": CONTEXT_AUDIENCE,
        "iat": issued,
        "exp": issued + 300,
        "tenant": "clinic",
        "agent": "ann",
        "customer": "C-1",
        "ids": {"order": ["1-1", "1-2"]},
        "jti": uuid.uuid4().hex,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


Make = Callable[[Clock], str]
FORGED: dict[str, Make] = {
    "of another agent": lambda clock: token(context_claims(clock, agent="bob")),
    "of another tenant": lambda clock: token(context_claims(clock, tenant="pharmacy")),
    "of another issuer": lambda clock: token(context_claims(clock, iss="https://care.evil")),
    "for another audience": lambda clock: token(context_claims(clock, aud="assistant")),
    "without agent": lambda clock: token(context_claims(clock, agent=None)),
    "without tenant": lambda clock: token(context_claims(clock, tenant=None)),
    "without customer": lambda clock: token(context_claims(clock, customer=None)),
    "with an empty customer": lambda clock: token(context_claims(clock, customer="")),
    "with a customer that is a list": lambda clock: token(context_claims(clock, customer=["C-1", "C-2"])),
    "without expiry": lambda clock: token(context_claims(clock, exp=None)),
    "without its time": lambda clock: token(context_claims(clock, iat=None)),
    "that lives an hour": lambda clock: token(
        context_claims(clock, exp=int(clock.now().timestamp()) + 3_600)
    ),
    "of tomorrow": lambda clock: token(
        context_claims(
            clock, iat=int(clock.now().timestamp()) + 86_400, exp=int(clock.now().timestamp()) + 86_700
        )
    ),
    "with ids that are text": lambda clock: token(context_claims(clock, ids={"order": "1-1"})),
    "with a thousand ids": lambda clock: token(
        context_claims(clock, ids={"order": [f"1-{n}" for n in range(1000)]})
    ),
    "with an id of two lines": lambda clock: token(context_claims(clock, ids={"order": ["1-1\r\nX: y"]})),
    "with a kind that is no name": lambda clock: token(context_claims(clock, ids={"../order": ["1-1"]})),
    "with a key of nobody": lambda clock: token(
        context_claims(clock), key=ECKey.generate_key("P-256", {"kid": "ec"})
    ),
    "with an unknown key id": lambda clock: token(context_claims(clock), kid="other"),
    "with the key id of another key": lambda clock: token(context_claims(clock), key=RSA_KEY, kid="ec"),
    "that has expired": lambda clock: token(
        context_claims(clock, iat=int(clock.now().timestamp()) - 400, exp=int(clock.now().timestamp()) - 100)
    ),
    "without a key id": lambda clock: jwt.encode(
        {"alg": "ES256"}, context_claims(clock), EC_KEY, algorithms=["ES256"]
    ),
    "with algorithm none": lambda clock: unsigned(context_claims(clock)),
    "with algorithm NONE": lambda clock: unsigned(context_claims(clock), algorithm="NONE"),
    "with a shared secret": lambda clock: token(
        context_claims(clock), key=OctKey.import_key("s" * 32), kid="ec"
    ),
    "signed with the public key": lambda clock: signed_with_public_key(context_claims(clock)),
    "with a changed body": lambda clock: _with_body_of(
        token(context_claims(clock)), token(context_claims(clock, customer="C-2"))
    ),
    "without signature": lambda clock: token(context_claims(clock)).rpartition(".")[0] + ".",
    "that is no token": lambda _: "C-1",
    "that is not ASCII": lambda clock: token(context_claims(clock)) + "\u00e9",
    "of 20 kB": lambda clock: token(context_claims(clock, more="x" * 20_000)),
}


def _with_body_of(signed: str, other: str) -> str:
    head, _, signature = signed.split(".")
    return ".".join([head, other.split(".")[1], signature])
