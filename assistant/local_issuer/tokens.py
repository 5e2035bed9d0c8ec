"""Access tokens of the local issuer, as design.md has them: 8 hours, ES256."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.identity import Role
from assistant.local_issuer.signing_key import ALGORITHM, load_or_create_signing_key

TOKEN_LIFETIME_S = 8 * 3600
"""A working day: a local sign-in has no refresh."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Whom a token speaks for."""

    tenant: str
    agent: str
    roles: tuple[Role, ...] = (Role.AGENT,)
    labels: tuple[str, ...] = ()


def issue_token(
    grant: Grant, *, state_dir: Path, issuer: str, audience: str = "assistant", clock: Clock | None = None
) -> str:
    """Return a signed access token for the service, with the key of ``state_dir`` (made when absent).

    Raises ConfigurationError when the key is broken.
    """
    key = load_or_create_signing_key(state_dir)
    return sign_access_token(grant, key=key, issuer=issuer, audience=audience, clock=clock or SystemClock())


def sign_access_token(grant: Grant, *, key: ECKey, issuer: str, audience: str, clock: Clock) -> str:
    now = int(clock.now().timestamp())
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + TOKEN_LIFETIME_S,
        "sub": grant.agent,
        "tenant": grant.tenant,
        "roles": list(grant.roles),
        "labels": list(grant.labels),
    }
    return _sign(claims, key=key, kind="at+jwt")


def sign_id_token(
    grant: Grant, *, key: ECKey, issuer: str, client_id: str, nonce: str | None, clock: Clock
) -> str:
    """Return the token that tells the client who signed in (OpenID Connect Core 1.0, section 2)."""
    now = int(clock.now().timestamp())
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": client_id,
        "iat": now,
        "exp": now + TOKEN_LIFETIME_S,
        "sub": grant.agent,
        "tenant": grant.tenant,
        "roles": list(grant.roles),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    return _sign(claims, key=key, kind="JWT")


def _sign(claims: dict[str, object], *, key: ECKey, kind: str) -> str:
    header: dict[str, object] = {"alg": ALGORITHM, "kid": key.kid, "typ": kind}
    return jwt.encode(header, claims, key, algorithms=[ALGORITHM])
