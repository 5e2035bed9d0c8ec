"""Callers of the API: the issuer's keys, bearer tokens, and ``Service``, which all routes share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, NoReturn, Protocol, TypeVar, cast

import structlog
from fastapi import Depends, Request
from joserfc import jws, jwt
from joserfc.errors import InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwk import ECKey, RSAKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.datastructures import Headers
from starlette.types import Scope

from assistant.domain import errors
from assistant.domain.clock import Clock
from assistant.domain.identity import REVOCATIONS, CareContext, Identity, PlainContext, Role
from assistant.service.health import ServiceMetrics, caller_is_identified
from assistant.service.opened import ServedTenant
from assistant.service.running import Admission, AgentRates, AwaitedAnswer, RateKind, RunningAnswers
from assistant.service.served import ServedTenants
from assistant.service.streams import CALLER, BytesInFlight
from assistant.service.wire import ConsoleConfig, DeployedVersions

VerificationKey = ECKey | RSAKey

BOUND_SUBJECT = "assistant_subject"
"""Extra member of a key in the set (RFC 7517): the only ``sub`` that the key may sign for, as an agent
without labels. The probe's key has it, so that it cannot sign tokens of anybody else."""
_MAX_KEYS = 100
"""Of a published set; the rest is ignored."""
_MIN_MODULUS_CHARACTERS = 342
"""2,048 bits in base64url."""
# See CachedKeySet:
_FRESH_S = 300.0
_MAX_AGE_S = 3600.0
_BURST = 3
_BURST_S = 15.0
_UNAVAILABLE = "Cannot fetch the issuer's signing keys. Retry shortly."
_log = structlog.get_logger(__name__)


class KeySet(Protocol):
    """Public keys by id."""

    async def key(self, kid: str) -> VerificationKey | None:
        """Return the key, or None when the issuer has no such key.

        Raises DependencyError when the keys are too old and cannot be fetched.
        """
        ...

    async def check(self) -> None:
        """Raises DependencyError when the keys are too old and cannot be fetched."""
        ...


class KeySource(Protocol):
    """Where the issuer's keys are published: a JWKS address, or a versioned parameter on AWS."""

    async def fetch(self) -> bytes:
        """Return the published key set (JWKS, JSON). Raises DependencyError."""
        ...


class CachedKeySet:
    """Keys of a source, cached in memory.

    They are refreshed after 5 minutes, and at once for an unknown key id, so that a new key works from its
    first token on. Invented key ids cause at most 3 fetches in 15 s. While the source is unavailable, or
    publishes no valid key set, the cached keys are used for up to an hour; an unknown id is then an error.
    """

    def __init__(self, source: KeySource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._keys: dict[str, VerificationKey] = {}
        self._fetched_s: float | None = None
        """When the last successful fetch began; None before it."""
        self._is_source_down = False
        """Whether the last fetch failed."""
        self._fetch_times_s: deque[float] = deque(maxlen=_BURST)
        """Begins of the last fetches, successful or not: they bound the rate."""
        self._fetching: asyncio.Task[None] | None = None
        """The last fetch, running or done."""

    async def key(self, kid: str) -> VerificationKey | None:
        if kid not in self._keys or self._age_s() > _MAX_AGE_S:
            await self._fetch_if_due()
        elif self._age_s() > _FRESH_S:
            self._start_fetch_if_due()  # in the background: the cached keys still count
        self._require_young()
        if kid not in self._keys and self._is_source_down:
            # it may be a new key, so its holder gets an error to retry, and no demand to sign in again
            raise errors.DependencyError(_UNAVAILABLE, retry_after_s=5.0)
        return self._keys.get(kid)

    async def check(self) -> None:
        if self._age_s() > _FRESH_S:
            await self._fetch_if_due()
        self._require_young()

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _age_s(self) -> float:
        """Return the age of the cached keys; infinite before the first fetch."""
        return float("inf") if self._fetched_s is None else self._clock.monotonic_s() - self._fetched_s

    def _require_young(self) -> None:
        """Raise DependencyError where the cached keys are too old to be used."""
        if self._age_s() > _MAX_AGE_S:
            raise errors.DependencyError(_UNAVAILABLE, retry_after_s=5.0)

    async def _fetch_if_due(self) -> None:
        """Start a fetch unless one runs or the rate is used up; wait for the one that runs."""
        self._start_fetch_if_due()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)  # others wait for the same fetch

    def _start_fetch_if_due(self) -> None:
        """Start a fetch unless one runs or three were begun in the last 15 s."""
        if self._fetching is not None and not self._fetching.done():
            return
        now_s = self._clock.monotonic_s()
        times_s = self._fetch_times_s
        if len(times_s) < _BURST or now_s - times_s[0] >= _BURST_S:
            times_s.append(now_s)
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        """Replace the keys by those of the source; an error leaves them as they are."""
        started_s = self._clock.monotonic_s()
        try:
            self._keys = _parse(await self._source.fetch())
        except (errors.DependencyError, ValueError) as error:
            reason = error.message if isinstance(error, errors.DependencyError) else "not a key set"
            _log.warning("keys_not_fetched", reason=reason)
            self._is_source_down = True
        else:
            self._fetched_s = started_s
            self._is_source_down = False


_REVOCATIONS_DUE_S = 15.0
_REVOCATIONS_LIMIT_S = 3.0
"""Longest wait for one reading."""


class RevokedTokens:
    """The revoked tokens of one tenant's agents. Their source has the text ``{"agent":
    "2026-11-28T09:00:00Z"}``: tokens of the agent that were issued until then are refused. It is read again
    after 15 s, by the next request.

    While the source cannot be read, the last reading counts; before the first one no token is accepted.
    """

    def __init__(self, source: KeySource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._revoked: Mapping[str, datetime] | None = None
        """By agent; None before the first reading."""
        self._read_s = float("-inf")
        """When the last reading began, successful or not."""
        self._reading = asyncio.Lock()

    async def require(self, agent: str, *, issued_s: float) -> None:
        """Raises TokenRevokedError for a token that was revoked, DependencyError before the first reading.

        ``issued_s``: when the token was issued, in seconds since 1970.
        """
        async with self._reading:
            now_s = self._clock.monotonic_s()
            if self._revoked is None or now_s - self._read_s >= _REVOCATIONS_DUE_S:
                self._read_s = now_s
                await self._read()
        if self._revoked is None:
            raise errors.DependencyError("Cannot read whether the token was revoked. Retry shortly.")
        revoked_at = self._revoked.get(agent)
        if revoked_at is not None and issued_s <= revoked_at.timestamp():
            _log.info("token_refused", reason="revoked", claim="iat")
            raise errors.TokenRevokedError(
                f"The token was revoked, as all of yours issued until {revoked_at:%Y-%m-%d %H:%M:%S} UTC. "
                "Sign in again, or ask who administers the assistant."
            )

    async def _read(self) -> None:
        """Read the source; an error is logged, and leaves the last reading."""
        try:
            async with asyncio.timeout(_REVOCATIONS_LIMIT_S):
                self._revoked = REVOCATIONS.validate_json(await self._source.fetch())
        except (errors.DependencyError, TimeoutError, ValidationError) as error:
            _log.error("revocations_not_read", reason=type(error).__name__)


class _Document(BaseModel):
    """A key set (JWKS, RFC 7517)."""

    keys: list[dict[str, object]]


def _parse(body: bytes) -> dict[str, VerificationKey]:
    """Return the usable keys by id. Raises ValueError unless the body is a key set with a usable key."""
    entries = _Document.model_validate_json(body).keys[:_MAX_KEYS]
    keys = {str(key.kid): key for entry in entries if (key := _usable_key(entry)) is not None}
    if not keys:
        raise ValueError("no usable key")
    return keys


def _usable_key(entry: Mapping[str, object]) -> VerificationKey | None:
    """Return a P-256 or RSA signing key (2,048 bits or more); None for any other key of the set."""
    if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
        return None
    try:
        if entry.get("kty") == "EC" and entry.get("crv") == "P-256":
            return ECKey.import_key(_members(entry, "kty", "crv", "x", "y", "kid"))
        if entry.get("kty") == "RSA" and len(str(entry["n"])) >= _MIN_MODULUS_CHARACTERS:
            return RSAKey.import_key(_members(entry, "kty", "n", "e", "kid"))
    except (JoseError, ValueError, KeyError):
        _log.warning("key_unusable")
    return None


def _members(entry: Mapping[str, object], *needed: str) -> dict[str, str | list[str]]:
    """Return the members of a key that are needed, and ``BOUND_SUBJECT`` where it has one. Raises
    KeyError."""
    names = [*needed, BOUND_SUBJECT] if BOUND_SUBJECT in entry else needed
    return {name: str(entry[name]) for name in names}


SKEW_S = 60
"""Difference of clocks that is allowed when the times of a token are checked."""
_MAX_TOKEN_CHARACTERS = 8 * 1024
# Type of key = algorithm of its signatures
_ALGORITHMS = {"EC": "ES256", "RSA": "RS256"}
_ROLE_NAMES = frozenset(Role)


class OurClaims(BaseModel):
    """Our own claims; joserfc checks those of RFC 7519."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


_Claims = TypeVar("_Claims", bound=OurClaims)


class _TenantClaims(OurClaims):
    """The claims of an agent's token that the service reads."""

    sub: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    roles: Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=50)]
    labels: Annotated[list[Annotated[str, StringConstraints(max_length=128)]], Field(max_length=200)] = []
    iat: int | float


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Turns ``Authorization`` headers into identities.

    Every token that the issuer did not sign gets the same UnauthenticatedError, so that responses do not help
    to guess tokens. For a token that it did sign, the error names the claim that is missing or wrong: then
    the issuer is not configured as the assistant needs, and signing in again would not help.
    """

    keys: KeySet
    issuer: str
    audience: str
    tenants: Collection[str]
    clock: Clock
    refused: Collection[str] = ()
    """Tenants that cannot be served now: their agents get TenantNotServedError."""
    revoked: Mapping[str, RevokedTokens] = field(default_factory=dict[str, RevokedTokens])
    """By tenant; a tenant that is missing has no revocations."""

    async def identify(self, authorization: str | None) -> Identity:
        """Return the caller.

        Raises UnauthenticatedError, TokenRevokedError, TenantNotServedError, DependencyError (keys or
        revocations unavailable).
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            _refuse("no_bearer_token")
        try:
            claims, key = await verified_claims(
                token,
                _TenantClaims,
                keys=self.keys,
                issuer=self.issuer,
                audience=self.audience,
                clock=self.clock,
            )
        except TokenRefusedError as refused:
            _refuse(str(refused), claim=refused.claim)
        if not _allows(key, claims):
            _refuse("beyond_its_key")
        if claims.tenant in self.refused:
            raise errors.TenantNotServedError(
                f"The assistant does not serve {claims.tenant}: its configuration or one of its files was "
                "refused. Ask who runs the service; its log names it (tenant_not_served)."
            )
        if claims.tenant not in self.tenants:
            _refuse("unknown_tenant", claim="tenant")
        await self.require_unrevoked(claims.tenant, claims.sub, issued_s=claims.iat)
        roles = frozenset(Role(role) for role in claims.roles if role in _ROLE_NAMES)
        caller_is_identified.set(True)
        return Identity(tenant=claims.tenant, agent=claims.sub, roles=roles, labels=frozenset(claims.labels))

    async def require_unrevoked(self, tenant: str, agent: str, *, issued_s: float) -> None:
        """Raises as ``RevokedTokens.require``."""
        if tenant in self.revoked:
            await self.revoked[tenant].require(agent, issued_s=issued_s)


class TokenRefusedError(Exception):
    """A token does not verify. The text is a reason for the log, and never sent to the caller."""

    def __init__(self, reason: str, *, claim: str = "") -> None:
        super().__init__(reason)
        self.claim = claim
        """The claim that is missing or wrong in a token that the issuer signed; "" for any other token."""


async def verified_claims(
    token: str,
    model: type[_Claims],
    *,
    keys: KeySet,
    issuer: str,
    audience: str,
    clock: Clock,
    may_be_expired: bool = False,
) -> tuple[_Claims, VerificationKey]:
    """Return the claims of a signed token (JWS, ES256 or RS256) and the key that signed it.

    ``iss``, ``aud``, ``exp`` and ``iat`` are checked, with 60 s of skew; of ``exp`` only that it is there
    where the token ``may_be_expired``. Raises TokenRefusedError, DependencyError (keys unavailable).
    """
    if len(token) > _MAX_TOKEN_CHARACTERS or not token.isascii():
        raise TokenRefusedError("unreadable")
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError):
        raise TokenRefusedError("unreadable") from None
    kid = header.get("kid")
    if header.get("alg") not in _ALGORITHMS.values() or not isinstance(kid, str):
        raise TokenRefusedError("algorithm_or_key_id")
    key = await keys.key(kid)
    if key is None:
        raise TokenRefusedError("unknown_key")
    # The key's own type decides the algorithm, never the token: RS256 cannot be turned into HS256.
    algorithm = _ALGORITHMS["EC" if isinstance(key, ECKey) else "RSA"]
    try:
        verified = jwt.decode(token, key, algorithms=[algorithm])
        now = int(clock.now().timestamp())
        unexpired = {"exp": now} if may_be_expired and "exp" in verified.claims else {}
        jwt.JWTClaimsRegistry(
            now=now,
            leeway=SKEW_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(verified.claims | unexpired)
        return model.model_validate(verified.claims), key
    except ValidationError as error:
        claim = str(error.errors()[0]["loc"][0])
        raise TokenRefusedError("claims_of_ours", claim=claim) from None
    except (MissingClaimError, InvalidClaimError) as error:
        raise TokenRefusedError(error.error, claim=error.claim) from None
    except (JoseError, ValueError) as error:
        raise TokenRefusedError(error.error if isinstance(error, JoseError) else "unreadable") from None


def _allows(key: VerificationKey, claims: _TenantClaims) -> bool:
    """Return whether the key may sign the claims: it is not bound, or they are those of its subject."""
    subject = key.get(BOUND_SUBJECT)
    return subject is None or (
        claims.sub == subject and set(claims.roles) <= {Role.AGENT} and not claims.labels
    )


def require_role(identity: Identity, *roles: Role) -> None:
    """Raises ForbiddenError when the identity has none of the roles."""
    if not identity.roles.intersection(roles):
        names = " or ".join(roles)
        raise errors.ForbiddenError(
            f"The role {names} is required. Ask your sign-in administrator to add it."
        )


def _refuse(reason: str, *, claim: str = "") -> NoReturn:
    """Log the reason, and raise UnauthenticatedError, which names only the claim."""
    _log.info("token_refused", reason=reason, claim=claim)
    if claim:
        raise errors.UnauthenticatedError(
            f"The token's claim {claim} is missing, or the assistant does not take its value. Ask the "
            "administrator of the sign-in: docs/from-nothing.md, Register at the issuer."
        )
    raise errors.UnauthenticatedError("No valid bearer token; sign in again.")


class Contexts(Protocol):
    """Verifies contexts of questions. An option opens it (``contexts of questions``)."""

    async def verify(
        self, given: str | PlainContext | None, *, identity: Identity, of_reply: bool = False
    ) -> CareContext | None:
        """Return the context, or None without one. ``of_reply``: it may have expired since its question.
        Raises ContextRefusedError, DependencyError (keys)."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that all endpoints of one process share; FastAPI routes get it as ``ServiceOf``."""

    tenants: ServedTenants
    verifier: TokenVerifier
    running: RunningAnswers
    rates: AgentRates
    admissions: Mapping[str, Admission]
    """By tenant: the places of its answers in progress."""
    bodies: BytesInFlight
    metrics: ServiceMetrics
    clock: Clock
    console: ConsoleConfig
    deployed: DeployedVersions
    contexts: Contexts | None = None
    """None where no option is here: then a question with a context is refused."""
    awaited: set[AwaitedAnswer] = field(default_factory=set[AwaitedAnswer])
    """Answers that readers here wait for and other tasks write."""

    async def identify(self, scope: Scope, kind: RateKind) -> Identity:
        """Return who calls, within their rate. Raises as ``TokenVerifier.identify``, OverloadedError."""
        identity = await self.verifier.identify(Headers(scope=scope).get("authorization"))
        self.count(identity, kind)
        scope[CALLER] = (identity.tenant, identity.agent)
        return identity

    async def context_of(
        self, given: str | PlainContext | None, *, identity: Identity, of_reply: bool = False
    ) -> CareContext | None:
        """Return the customer of a question's conversation; None where ``given`` is None. ``of_reply``: it
        may have expired since the question. Raises ContextRefusedError, DependencyError (the keys of contexts
        are unavailable)."""
        if self.contexts is not None:
            return await self.contexts.verify(given, identity=identity, of_reply=of_reply)
        if given is not None:
            raise errors.ContextRefusedError("This service takes no context of a question. Leave it out.")
        return None

    def count(self, identity: Identity, kind: RateKind) -> None:
        """Count a request against its agent's rate. Raises OverloadedError."""
        self.rates.count(identity, kind, self.tenants[identity.tenant].answering.tenant.limits)

    def begin_draining(self) -> None:
        """When the process stops: end the readings that wait for answers of other tasks, whose readers come
        back to another task."""
        for awaited in self.awaited:
            awaited.stop()


def service_of(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def caller_of(request: Request) -> Identity:
    """Return who calls, and count the request against their rate: the dependency of every route with a token.

    Raises UnauthenticatedError, OverloadedError.
    """
    kind: RateKind = "reads" if request.method in ("GET", "HEAD") else "writes"
    return await service_of(request).identify(request.scope, kind)


ServiceOf = Annotated[Service, Depends(service_of)]
Caller = Annotated[Identity, Depends(caller_of)]


def caller_with(*roles: Role) -> Any:
    """Return the dependency of a route whose caller must have one of the roles. It raises ForbiddenError.

    It is checked before a body is read, and before the query. A route with a query of its own calls
    ``require_role``, so that a wrong query is reported first.
    """

    async def authorised(caller: Caller) -> Identity:
        require_role(caller, *roles)
        return caller

    return Depends(authorised)


async def tenant_of(service: ServiceOf, caller: Caller) -> ServedTenant:
    return service.tenants[caller.tenant]


TenantOf = Annotated[ServedTenant, Depends(tenant_of)]
"""The tenant of the caller."""
