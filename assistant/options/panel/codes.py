"""One-time codes: what a helpdesk's server gives the panel in place of a sign-in.

A code is the agent's own access token and the customer's context token, encrypted (JWE, ``dir``, A256GCM).
Nothing is stored but that it was used. The issuer alone makes tokens (docs/decisions/0140).

    code = codes.make(token=…, context=…, origin="https://desk.example.com")   # "pharmacy.eyJhbGciOi…"
    grant = codes.open(code, origin="https://desk.example.com")                # within 60 s
    await codes.use(code)                                                      # a second time is refused
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
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

LIFETIME_S = 60
"""Seconds within which the panel must exchange a code."""
MAX_CODE_CHARACTERS = 24 * 1024
"""Two tokens of 8 KiB, encrypted, in base64url."""
PURPOSE = b"panel-code/1"
"""Purpose from which the key is derived. Links to documents have another one, so that no code works as a
link, and no link as a code."""
_ALGORITHMS = ("dir", "A256GCM")
_HEADER = {"alg": "dir", "enc": "A256GCM"}


class PanelGrant(PublicModel):
    """Content of a code."""

    token: str = Field(repr=False)
    """The agent's access token."""
    context: ContextToken = Field(repr=False)
    origin: str
    """Origin of the page that may hand the code to the panel."""
    expires_s: int
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class PanelCodes:
    """Makes the codes of one tenant, and opens them. ``claims``: where a used code is counted."""

    tenant: str
    key: OctKey = field(repr=False)
    claims: StoredClaims
    clock: Clock

    def make(self, *, token: str, context: str, origin: str) -> str:
        """Return a code: the tenant's name, a dot, and the encrypted grant. The caller has verified both
        tokens."""
        expires_s = int(self.clock.now().timestamp()) + LIFETIME_S
        grant = PanelGrant(token=token, context=context, origin=origin, expires_s=expires_s)
        sealed = jwe.encrypt_compact(_HEADER, grant.model_dump_json(), self.key, algorithms=_ALGORITHMS)
        return f"{self.tenant}.{sealed}"

    def open(self, code: str, *, origin: str) -> PanelGrant:
        """Return the code's content. Raises UnauthenticatedError (forged, altered, expired, for another
        page).

        It does not mark the code as used: call ``use`` before the content is handed out.
        """
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
        """Mark the code as used. Raises UnauthenticatedError if it was used before,
        RecordsUnavailableError."""
        code_hash = hashlib.sha256(code.encode()).hexdigest()
        # Claims count contexts of answers; a code is one more, with an answer id that no answer has.
        if not await self.claims.count_context(f"panel#{code_hash}", answer_id=uuid4().hex, key=None):
            raise refused_code()


def tenant_of_code(code: str) -> str:
    """Return the tenant that a code names; only ``open`` verifies it."""
    return code.partition(".")[0]


def refused_code() -> UnauthenticatedError:
    """Return the error for a refused code. It is the same for every reason, so that nobody can guess
    codes."""
    return UnauthenticatedError(
        f"The code is not valid, was used, or is older than {LIFETIME_S} s. Fetch a new one, or sign in."
    )
