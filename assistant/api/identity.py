"""From a bearer token to the identity that chooses tenant, rights and labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, NoReturn

import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from assistant.api.keys import BOUND_SUBJECT, KeySet, VerificationKey
from assistant.domain.clock import Clock
from assistant.domain.errors import ForbiddenError, UnauthenticatedError
from assistant.domain.identity import Identity, Role

SKEW_S = 60
_MAX_TOKEN_CHARACTERS = 8 * 1024
_ALGORITHMS = {"EC": "ES256", "RSA": "RS256"}
_ROLE_NAMES = frozenset(Role)
_log = structlog.get_logger(__name__)

caller_is_identified: ContextVar[bool] = ContextVar("caller_is_identified", default=False)
"""Whether the caller of this request showed a valid token, or the valid token of a link."""


class _TenantClaims(BaseModel):
    """The claims that are ours; joserfc checks those of RFC 7519."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    sub: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    roles: Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=50)]
    labels: Annotated[list[Annotated[str, StringConstraints(max_length=128)]], Field(max_length=200)] = []


class TokenVerifier:
    """Turns ``Authorization`` headers into identities. Whatever is wrong with a token is one and the same
    UnauthenticatedError: who tries tokens learns nothing from the answers."""

    def __init__(
        self, keys: KeySet, *, issuer: str, audience: str, tenants: Collection[str], clock: Clock
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._tenants = frozenset(tenants)
        self._clock = clock

    async def identify(self, authorization: str | None) -> Identity:
        """Return who the header speaks for. Raises UnauthenticatedError, DependencyError (no keys)."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            _refuse("no_bearer_token")
        if len(token) > _MAX_TOKEN_CHARACTERS or not token.isascii():
            _refuse("unreadable")
        claims, key = await self._verified_claims(token)
        try:
            found = _TenantClaims.model_validate(claims)
        except ValidationError:
            _refuse("claims_of_ours")
        if not _may_say(key, found):
            _refuse("beyond_its_key")
        if found.tenant not in self._tenants:
            _refuse("unknown_tenant")
        roles = frozenset(Role(role) for role in found.roles if role in _ROLE_NAMES)
        caller_is_identified.set(True)
        return Identity(tenant=found.tenant, agent=found.sub, roles=roles, labels=frozenset(found.labels))

    async def _verified_claims(self, token: str) -> tuple[Mapping[str, Any], VerificationKey]:
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
        except (JoseError, ValueError):
            _refuse("unreadable")
        kid = header.get("kid")
        if header.get("alg") not in _ALGORITHMS.values() or not isinstance(kid, str):
            _refuse("algorithm_or_key_id")
        key = await self._keys.key(kid)
        if key is None:
            _refuse("unknown_key")
        # The key's own type decides the algorithm, never the token: RS256 cannot be turned into HS256.
        algorithm = _ALGORITHMS["EC" if isinstance(key, ECKey) else "RSA"]
        try:
            verified = jwt.decode(token, key, algorithms=[algorithm])
            self._registry().validate(verified.claims)
        except (JoseError, ValueError) as error:
            _refuse(error.error if isinstance(error, JoseError) else "unreadable")
        return verified.claims, key

    def _registry(self) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=SKEW_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )


def _may_say(key: VerificationKey, claims: _TenantClaims) -> bool:
    """Say whether the key is not bound to a subject, or the claims are no more than its subject has."""
    subject = key.get(BOUND_SUBJECT)
    return subject is None or (
        claims.sub == subject and set(claims.roles) <= {Role.AGENT} and not claims.labels
    )


def require_role(identity: Identity, *roles: Role) -> None:
    """Raises ForbiddenError when the identity has none of the roles."""
    if not identity.roles.intersection(roles):
        names = " or ".join(roles)
        raise ForbiddenError(f"This needs the role {names}; ask whoever manages sign-in to add it.")


def _refuse(reason: str) -> NoReturn:
    _log.info("token_refused", reason=reason)
    raise UnauthenticatedError("No valid bearer token; sign in again.")
