"""Verifies whose conversation a question belongs to: the token of the care application.

A context token is a JWT by the care application's key. Its claims, with ``iss`` and ``aud`` of
``[care_context]``:

    {"tenant": "pharmacy", "agent": "amira", "customer": "PT-204417", "ids": {"order": ["4471-2208"]},
     "iat": 1795687200, "exp": 1795687500, "jti": "…"}
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
from pydantic import Field, StringConstraints

from assistant.domain.clock import Clock
from assistant.domain.errors import ContextRefusedError
from assistant.domain.identity import CareContext, Identity, PlainContext, SubjectId, SubjectKind
from assistant.process.settings import ServiceSettings
from assistant.service.identity import (
    BOUND_SUBJECT,
    KeySet,
    KeySource,
    OurClaims,
    TokenRefusedError,
    verified_claims,
)
from assistant.stores.clients import HttpKeySource, open_clients
from assistant.tenant.deployment import CareContextSection
from assistant.tenant.tenant import TenantConfig

if TYPE_CHECKING:
    from assistant.process.aws import ParameterKeySource

_log = structlog.get_logger(__name__)

_LONGEST_CONTEXT_S = 300
"""Longest life of a token, ``exp`` - ``iat``, and the life of a plain context."""
_PLAIN_CONTEXT_LIFE = timedelta(seconds=_LONGEST_CONTEXT_S)


class _ContextClaims(OurClaims):
    """Claims of a context token."""

    tenant: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    agent: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    customer: SubjectId
    ids: Annotated[
        dict[SubjectKind, Annotated[list[SubjectId], Field(max_length=100)]], Field(max_length=20)
    ] = Field(default_factory=dict[str, list[str]])
    iat: int | float
    exp: int | float
    jti: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None


@dataclass(frozen=True, slots=True)
class CareContexts:
    """Turns the ``context`` of a question into the customer and ids of its conversation.

    A context that does not verify gets one error for every reason, so that responses do not help to guess.
    It is a 422: the agent's own sign-in is valid, and a 401 would make clients sign in again in vain. The log
    has the reason.
    """

    sections: Mapping[str, CareContextSection]
    """``[care_context]`` by tenant; a tenant without one takes no context."""
    keys: Mapping[str, KeySet]
    """Keys of the care application by tenant."""
    clock: Clock

    async def verify(
        self, given: str | PlainContext | None, *, identity: Identity, of_reply: bool = False
    ) -> CareContext | None:
        """Return the context; None where ``given`` is None. Raises ContextRefusedError, DependencyError
        (keys).

        ``given``: a token, or ids in plain text, which a tenant accepts only with ``plain_ids``.
        ``of_reply``: it may have expired since its question.
        """
        if given is None:
            return None
        section, keys = self.sections.get(identity.tenant), self.keys.get(identity.tenant)
        if isinstance(given, PlainContext):
            if section is None or not section.plain_ids:
                _refuse_context("plain_ids")
            expires_at = self.clock.now() + _PLAIN_CONTEXT_LIFE
            return _context(identity.agent, given.customer, given.ids, expires_at=expires_at)
        if section is None or keys is None:
            _refuse_context("no_care_application")
        try:
            claims, key = await verified_claims(
                given,
                _ContextClaims,
                keys=keys,
                issuer=section.issuer,
                audience=section.audience,
                clock=self.clock,
                may_be_expired=of_reply,
            )
        except TokenRefusedError as refused:
            _refuse_context(str(refused))
        if key.get(BOUND_SUBJECT) is not None or claims.exp - claims.iat > _LONGEST_CONTEXT_S:
            _refuse_context("bound_key_or_long_life")
        if claims.tenant != identity.tenant or claims.agent != identity.agent:
            _refuse_context("of_another")
        expires_at = datetime.fromtimestamp(claims.exp, UTC)
        return replace(
            _context(claims.agent, claims.customer, claims.ids, expires_at=expires_at),
            token_id=_token_id(given, claims.jti),
        )


def _context(
    agent: str, customer: str, ids: Mapping[str, Sequence[str]], *, expires_at: datetime
) -> CareContext:
    ids_by_kind = {kind: tuple(values) for kind, values in ids.items()}
    return CareContext(agent, customer, {**ids_by_kind, "customer": (customer,)}, expires_at)


def _token_id(token: str, jti: str | None) -> str:
    """Return an id of a token, 64 hexadecimal digits: a hash of its ``jti``, or else of its head and claims.

    The signature is left out: from one, anybody can make other valid ones of the same claims (ECDSA).
    """
    signed = token.rpartition(".")[0] if jti is None else f"jti {jti}"
    return hashlib.sha256(signed.encode()).hexdigest()


def _refuse_context(reason: str) -> NoReturn:
    _log.info("context_refused", reason=reason)
    raise ContextRefusedError(
        "The context of the question is not valid. Ask again from the customer's conversation."
    )


async def open_contexts(
    settings: ServiceSettings,
    tenants: Sequence[TenantConfig],
    cached: Callable[[KeySource], KeySet],
    stack: AsyncExitStack,
    clock: Clock,
) -> CareContexts:
    """Return the verifier of these tenants' contexts; ``stack`` closes its connections.

    ``cached``: makes a cached key set of a source of keys.
    """
    sources = await stack.enter_async_context(open_care_key_sources(settings, tenants))
    return CareContexts(
        {tenant.name: section for tenant in tenants if (section := tenant.care_context) is not None},
        {name: cached(source) for name, source in sources.items()},
        clock,
    )


@asynccontextmanager
async def open_care_key_sources(
    settings: ServiceSettings, tenants: Iterable[TenantConfig]
) -> AsyncGenerator[Mapping[str, HttpKeySource | ParameterKeySource]]:
    """Open the sources of the keys of care applications, by tenant; none for a tenant without
    ``[care_context]``, or without an address or a parameter."""
    sources: dict[str, HttpKeySource | ParameterKeySource] = {}
    async with open_clients(settings) as clients:
        for tenant in tenants:
            section = tenant.care_context
            if section is None:
                continue
            if settings.care_jwks_url is not None:
                sources[tenant.name] = HttpKeySource(settings.of_tenant(settings.care_jwks_url, tenant))
            elif section.jwks_parameter is not None:
                from assistant.process.aws import ParameterKeySource

                ssm = await clients.aws("ssm")
                sources[tenant.name] = ParameterKeySource(ssm, name=section.jwks_parameter)
        yield sources
