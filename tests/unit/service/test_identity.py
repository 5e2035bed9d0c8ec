"""Who a token speaks for, and how every other is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from assistant.domain.errors import (
    DependencyError,
    ForbiddenError,
    TenantNotServedError,
    UnauthenticatedError,
)
from assistant.domain.identity import Identity, Role
from assistant.service.identity import BOUND_SUBJECT, TokenVerifier, require_role
from tests.fakes.clock import SteppedClock
from tests.fakes.tokens import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    RSA_KEY,
    StaticKeys,
    claims,
    signed_with_public_key,
    token,
    unsigned,
)

CLOCK = SteppedClock()
NOW = CLOCK.now()
REFUSAL = "No valid bearer token; sign in again."


def verifier(keys: Any = None, *, refused: tuple[str, ...] = ()) -> TokenVerifier:
    return TokenVerifier(
        keys or StaticKeys(),
        issuer=ISSUER,
        audience=AUDIENCE,
        tenants=() if "clinic" in refused else ("clinic",),
        clock=CLOCK,
        refused=refused,
    )


async def identify(bearer: str) -> Identity:
    return await verifier().identify(f"Bearer {bearer}")


@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["ES256", "RS256"])
async def test_a_good_token_becomes_an_identity(key: ECKey | RSAKey) -> None:
    bearer = token(claims(NOW, roles=["agent", "auditor"], labels=["hr"]), key=key)
    assert await identify(bearer) == Identity(
        tenant="clinic",
        agent="ann",
        roles=frozenset({Role.AGENT, Role.AUDITOR}),
        labels=frozenset({"hr"}),
    )


async def test_an_agent_of_a_tenant_that_cannot_be_served_is_not_asked_to_sign_in_again() -> None:
    with pytest.raises(TenantNotServedError, match="clinic"):
        await verifier(refused=("clinic",)).identify(f"Bearer {token(claims(NOW))}")
    with pytest.raises(UnauthenticatedError):
        await verifier(refused=("clinic",)).identify(f"Bearer {unsigned(claims(NOW))}")


async def test_one_of_several_audiences_suffices() -> None:
    assert (await identify(token(claims(NOW, aud=["other", AUDIENCE])))).agent == "ann"


@pytest.mark.parametrize("change", [{"exp": -59}, {"iat": 59}, {"nbf": 59}])
async def test_clocks_may_differ_by_a_minute(change: dict[str, int]) -> None:
    shifted = {name: int(NOW.timestamp()) + seconds for name, seconds in change.items()}
    assert (await identify(token(claims(NOW, **shifted)))).agent == "ann"


def at(seconds: int) -> int:
    return int(NOW.timestamp()) + seconds


BAD_TOKENS: dict[str, Callable[[datetime], str]] = {
    "unsigned": lambda now: unsigned(claims(now)),
    "unsigned, None": lambda now: unsigned(claims(now), algorithm="None"),
    "no signature under ES256": lambda now: unsigned(claims(now), algorithm="ES256"),
    "HS256 with the public key": lambda now: signed_with_public_key(claims(now)),
    "HS256 with a secret": lambda now: token(claims(now), key=OctKey.generate_key(256)),
    "another key under our id": lambda now: token(claims(now), key=ECKey.generate_key("P-256")),
    "an unknown key id": lambda now: token(claims(now), kid="other"),
    "ES256 with the id of the RSA key": lambda now: token(claims(now), kid="rsa"),
    "wrong audience": lambda now: token(claims(now, aud="other")),
    "wrong audiences": lambda now: token(claims(now, aud=["other"])),
    "audience that only begins so": lambda now: token(claims(now, aud="assistant-other")),
    "wrong issuer": lambda now: token(claims(now, iss="http://other")),
    "expired": lambda now: token(claims(now, exp=at(-61))),
    "issued in the future": lambda now: token(claims(now, iat=at(61))),
    "not valid yet": lambda now: token(claims(now, nbf=at(61))),
    "exp is text": lambda now: token(claims(now, exp="tomorrow")),
    "exp is true": lambda now: token(claims(now, exp=True)),
    "unknown tenant": lambda now: token(claims(now, tenant="pharmacy")),
    "tenant is a list": lambda now: token(claims(now, tenant=["clinic"])),
    "roles is text": lambda now: token(claims(now, roles="agent")),
    "labels is text": lambda now: token(claims(now, labels="hr")),
    "empty agent": lambda now: token(claims(now, sub="")),
    "too long": lambda now: token(claims(now, more="x" * 9000)),
    "no iss": lambda now: token(claims(now, iss=None)),
    "no aud": lambda now: token(claims(now, aud=None)),
    "no exp": lambda now: token(claims(now, exp=None)),
    "no iat": lambda now: token(claims(now, iat=None)),
    "no sub": lambda now: token(claims(now, sub=None)),
    "no tenant": lambda now: token(claims(now, tenant=None)),
    "no roles": lambda now: token(claims(now, roles=None)),
    "altered": lambda now: token(claims(now))[:-6] + "AAAAAA",
    "garbage": lambda now: "garbage",
    "two dots": lambda now: "..",
    "binary": lambda now: "\udcff.a.b",
    "a JWE": lambda now: "a.b.c.d.e",
}


SIGNED = {
    "aud": ("wrong audience", "wrong audiences", "audience that only begins so", "no aud"),
    "iss": ("wrong issuer", "no iss"),
    "exp": ("exp is text", "exp is true", "no exp"),
    "iat": ("no iat", "issued in the future"),
    "nbf": ("not valid yet",),
    "tenant": ("unknown tenant", "tenant is a list", "no tenant"),
    "roles": ("roles is text", "no roles"),
    "labels": ("labels is text",),
    "sub": ("empty agent", "no sub"),
}
"""Claims of tokens that the issuer signed, and that the assistant cannot take."""
CLAIM_OF = {name: claim for claim, names in SIGNED.items() for name in names}


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_bad_token_is_the_same_refusal_and_a_signed_one_names_its_claim(name: str) -> None:
    with pytest.raises(UnauthenticatedError) as refused:
        await identify(BAD_TOKENS[name](NOW))
    claim = CLAIM_OF.get(name)
    said = refused.value.message
    assert said == REFUSAL if claim is None else said.startswith(f"The token's claim {claim} is missing, or ")
    assert refused.value.__cause__ is None


BOUND = ECKey.import_key(EC_KEY.as_dict(private=True) | {BOUND_SUBJECT: "probe"})


class BoundKeys(StaticKeys):
    """The same key, bound to one subject by the key set."""

    async def key(self, kid: str) -> ECKey | RSAKey | None:
        return BOUND if kid == "ec" else None


async def test_a_bound_key_speaks_for_its_subject() -> None:
    bearer = token(claims(NOW, sub="probe"))
    assert (await verifier(BoundKeys()).identify(f"Bearer {bearer}")).agent == "probe"


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "ann"},
        {"sub": "probe", "roles": ["agent", "auditor"]},
        {"sub": "probe", "labels": ["hr"]},
    ],
    ids=["another agent", "another role", "a label"],
)
async def test_a_bound_key_speaks_for_nobody_else(changes: dict[str, Any]) -> None:
    with pytest.raises(UnauthenticatedError, match=REFUSAL):
        await verifier(BoundKeys()).identify(f"Bearer {token(claims(NOW, **changes))}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "bearer"])
async def test_no_bearer_token_is_the_same_refusal(header: str | None) -> None:
    with pytest.raises(UnauthenticatedError, match=REFUSAL):
        await verifier().identify(header)


async def test_a_forbidden_algorithm_asks_for_no_key() -> None:
    keys = StaticKeys()
    with pytest.raises(UnauthenticatedError):
        await verifier(keys).identify(f"Bearer {unsigned(claims(NOW))}")
    assert keys.asked == []


async def test_unavailable_keys_are_an_outage_and_no_refusal() -> None:
    class NoKeys(StaticKeys):
        async def key(self, kid: str) -> ECKey | RSAKey | None:
            raise DependencyError("no keys")

    with pytest.raises(DependencyError):
        await verifier(NoKeys()).identify(f"Bearer {token(claims(NOW))}")


def test_a_missing_role_is_forbidden() -> None:
    auditor = Identity("clinic", "ann", frozenset({Role.AUDITOR}), frozenset())
    require_role(auditor, Role.AGENT, Role.AUDITOR)
    with pytest.raises(ForbiddenError, match="agent or knowledge_owner"):
        require_role(auditor, Role.AGENT, Role.KNOWLEDGE_OWNER)


async def test_a_role_that_nobody_knows_gives_no_right() -> None:
    assert (await identify(token(claims(NOW, roles=["root", "agent"])))).roles == {Role.AGENT}
