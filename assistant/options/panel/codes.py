"""One-time codes: what a helpdesk's server gives the panel in place of a sign-in.

A code is the agent's own access token and the customer's context token, encrypted (JWE, ``dir``, A256GCM).
Nothing is stored but that it was used. The issuer alone makes tokens (docs/decisions/0140).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import Field

from assistant.domain.clock import Clock
from assistant.domain.errors import UnauthenticatedError
from assistant.domain.identity import ContextToken
from assistant.domain.public import PublicModel
from assistant.stores.events import StoredClaims

if TYPE_CHECKING:
    from assistant.service.served import ServedTenant
    from assistant.stores.opened import StoreChoice

LIFETIME_S = 60
MAX_CODE_CHARACTERS = 24 * 1024
"""Two tokens of 8 KiB, encrypted, in base64url."""
_PURPOSE = b"panel-code/1"
"""Derives the key, so that a code is of no use as a link to a document, nor the other way round."""
_ALGORITHMS = ("dir", "A256GCM")
_HEADER = {"alg": "dir", "enc": "A256GCM"}


class PanelGrant(PublicModel):
    """What a code carries."""

    token: str = Field(repr=False)
    """The agent's access token."""
    context: ContextToken = Field(repr=False)
    origin: str
    """Of the page that may hand it to the panel."""
    expires_s: int
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class PanelCodes:
    """Makes the codes of one tenant, and opens them."""

    tenant: str
    key: OctKey = field(repr=False)
    claims: StoredClaims
    clock: Clock

    def make(self, *, token: str, context: str, origin: str) -> str:
        expires_s = int(self.clock.now().timestamp()) + LIFETIME_S
        grant = PanelGrant(token=token, context=context, origin=origin, expires_s=expires_s)
        sealed = jwe.encrypt_compact(_HEADER, grant.model_dump_json(), self.key, algorithms=_ALGORITHMS)
        return f"{self.tenant}.{sealed}"

    def open(self, code: str, *, origin: str) -> PanelGrant:
        """Return what the code carries. Raises UnauthenticatedError (forged, altered, expired, of another
        page)."""
        try:
            sealed = code.partition(".")[2]
            decrypted = jwe.decrypt_compact(sealed, self.key, algorithms=_ALGORITHMS)
            grant = PanelGrant.model_validate_json(decrypted.plaintext or b"")
        except (JoseError, ValueError):  # also pydantic's
            raise refused_code() from None
        if grant.origin != origin or grant.expires_s <= self.clock.now().timestamp():
            raise refused_code()
        return grant

    async def use(self, code: str) -> None:
        """Mark the code as used. Raises UnauthenticatedError where it was, RecordsUnavailableError."""
        used = hashlib.sha256(code.encode()).hexdigest()
        if not await self.claims.count_context(f"panel#{used}", answer_id=uuid4().hex, key=None):
            raise refused_code()


def tenant_of_code(code: str) -> str:
    """Return the tenant that a code claims to be of; only ``open`` verifies it."""
    return code.partition(".")[0]


def refused_code() -> UnauthenticatedError:
    """Return the one error for every code that is not taken."""
    return UnauthenticatedError(
        f"The code is not valid, was used, or is older than {LIFETIME_S} s. Fetch a new one, or sign in."
    )


async def open_codes(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return what the routes ask for."""
    key = OctKey.import_key(served.links.derived_key(_PURPOSE))
    return (PanelCodes(stores.tenant.name, key, served.claims, stores.clock),)
