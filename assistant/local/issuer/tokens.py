"""Access tokens of the local issuer, as design.md has them: 8 hours, ES256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.identity import Role
from assistant.local.issuer.signing_key import ALGORITHM, load_or_create_signing_key

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
    signer = TokenSigner(
        key=load_or_create_signing_key(state_dir),
        issuer=issuer,
        audience=audience,
        clock=clock or SystemClock(),
    )
    return signer.access_token(grant)


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Signs in the name of ``issuer``."""

    key: ECKey
    issuer: str
    audience: str
    clock: Clock

    def access_token(self, grant: Grant) -> str:
        return self._sign(grant, audience=self.audience, kind="at+jwt", extra={"labels": list(grant.labels)})

    def id_token(self, grant: Grant, *, client_id: str, nonce: str | None) -> str:
        """Return the token that tells the client who signed in (OpenID Connect Core 1.0, section 2)."""
        extra = {} if nonce is None else {"nonce": nonce}
        return self._sign(grant, audience=client_id, kind="JWT", extra=extra)

    def _sign(self, grant: Grant, *, audience: str, kind: str, extra: Mapping[str, object]) -> str:
        now = int(self.clock.now().timestamp())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": audience,
            "iat": now,
            "exp": now + TOKEN_LIFETIME_S,
            "sub": grant.agent,
            "tenant": grant.tenant,
            "roles": list(grant.roles),
            **extra,
        }
        header: dict[str, object] = {"alg": ALGORITHM, "kid": self.key.kid, "typ": kind}
        return jwt.encode(header, claims, self.key, algorithms=[ALGORITHM])
