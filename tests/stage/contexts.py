"""Contexts of a conversation as a care application signs them, right and wrong."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from assistant.domain.clock import Clock
from tests.stage.tokens import EC_KEY, RSA_KEY, signed_with_public_key, token, unsigned

CARE = "https://care.test"
CONTEXT_AUDIENCE = "assistant-context"


def claims(clock: Clock, **changes: Any) -> dict[str, Any]:
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
    "of another agent": lambda clock: token(claims(clock, agent="bob")),
    "of another tenant": lambda clock: token(claims(clock, tenant="pharmacy")),
    "of another issuer": lambda clock: token(claims(clock, iss="https://care.evil")),
    "for another audience": lambda clock: token(claims(clock, aud="assistant")),
    "without agent": lambda clock: token(claims(clock, agent=None)),
    "without tenant": lambda clock: token(claims(clock, tenant=None)),
    "without customer": lambda clock: token(claims(clock, customer=None)),
    "with an empty customer": lambda clock: token(claims(clock, customer="")),
    "with a customer that is a list": lambda clock: token(claims(clock, customer=["C-1", "C-2"])),
    "without expiry": lambda clock: token(claims(clock, exp=None)),
    "without its time": lambda clock: token(claims(clock, iat=None)),
    "that lives an hour": lambda clock: token(claims(clock, exp=int(clock.now().timestamp()) + 3_600)),
    "of tomorrow": lambda clock: token(
        claims(clock, iat=int(clock.now().timestamp()) + 86_400, exp=int(clock.now().timestamp()) + 86_700)
    ),
    "with ids that are text": lambda clock: token(claims(clock, ids={"order": "1-1"})),
    "with a thousand ids": lambda clock: token(claims(clock, ids={"order": [f"1-{n}" for n in range(1000)]})),
    "with an id of two lines": lambda clock: token(claims(clock, ids={"order": ["1-1\r\nX: y"]})),
    "with a kind that is no name": lambda clock: token(claims(clock, ids={"../order": ["1-1"]})),
    "with a key of nobody": lambda clock: token(
        claims(clock), key=ECKey.generate_key("P-256", {"kid": "ec"})
    ),
    "with an unknown key id": lambda clock: token(claims(clock), kid="other"),
    "with the key id of another key": lambda clock: token(claims(clock), key=RSA_KEY, kid="ec"),
    "that has expired": lambda clock: token(
        claims(clock, iat=int(clock.now().timestamp()) - 400, exp=int(clock.now().timestamp()) - 100)
    ),
    "without a key id": lambda clock: jwt.encode(
        {"alg": "ES256"}, claims(clock), EC_KEY, algorithms=["ES256"]
    ),
    "with algorithm none": lambda clock: unsigned(claims(clock)),
    "with algorithm NONE": lambda clock: unsigned(claims(clock), algorithm="NONE"),
    "with a shared secret": lambda clock: token(claims(clock), key=OctKey.import_key("s" * 32), kid="ec"),
    "signed with the public key": lambda clock: signed_with_public_key(claims(clock)),
    "with a changed body": lambda clock: _with_body_of(
        token(claims(clock)), token(claims(clock, customer="C-2"))
    ),
    "without signature": lambda clock: token(claims(clock)).rpartition(".")[0] + ".",
    "that is no token": lambda _: "C-1",
    "that is not ASCII": lambda clock: token(claims(clock)) + "\u00e9",
    "of 20 kB": lambda clock: token(claims(clock, more="x" * 20_000)),
}


def _with_body_of(signed: str, other: str) -> str:
    head, _, signature = signed.split(".")
    return ".".join([head, other.split(".")[1], signature])
