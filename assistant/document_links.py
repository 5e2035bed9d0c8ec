"""Links to stored documents that carry their own right: signed with the tenant's link secret, for minutes.

The token stands in the fragment, which no browser sends: no log of a balancer, a proxy or this service ever
holds it. The page at ``LINK_PAGE`` posts it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from pydantic import ValidationError

from assistant.domain.clock import Clock
from assistant.domain.documents import Span
from assistant.domain.errors import UnauthenticatedError
from assistant.domain.identity import Identity
from assistant.domain.public import PublicModel

LINK_LIFETIME_S = 600
LINK_PAGE = "/open"
"""Path of the page that opens a link."""
_PURPOSE = b"document-link/1:"
"""Keeps the key's other signatures, should there ever be any, from being taken for links."""
_MAX_TOKEN_CHARACTERS = 4_096


class LinkGrant(PublicModel):
    """What a link allows: this agent reads this document until then, with these labels."""

    tenant: str
    agent: str
    labels: tuple[str, ...]
    document_id: str
    content_hash: str | None
    span: tuple[int, int]
    expires_s: int
    """Seconds since 1970, UTC."""


class SignedDocumentLinks:
    """``DocumentLinks`` of one tenant, and the reading side of them."""

    def __init__(self, *, tenant: str, secret: bytes, clock: Clock) -> None:
        self._tenant = tenant
        self._secret = secret
        self._clock = clock

    def link(
        self, document_id: str, *, span: Span, identity: Identity, content_hash: str | None = None
    ) -> str:
        grant = LinkGrant(
            tenant=self._tenant,
            agent=identity.agent,
            labels=tuple(sorted(identity.labels)),
            document_id=document_id,
            content_hash=content_hash,
            span=(span.start, span.end),
            expires_s=int(self._clock.now().timestamp()) + LINK_LIFETIME_S,
        )
        payload = grant.model_dump_json().encode()
        token = f"{self._tenant}.{_encode(payload)}.{_encode(self._mac(payload))}"
        return f"{LINK_PAGE}#{token}"

    def open(self, token: str) -> LinkGrant:
        """Return what the token of a link allows. Raises UnauthenticatedError (forged, altered, expired)."""
        parts = token.split(".")
        if len(token) > _MAX_TOKEN_CHARACTERS or len(parts) != 3:
            raise refused_link()
        try:
            payload, mac = _decode(parts[1]), _decode(parts[2])
        except (ValueError, binascii.Error):
            raise refused_link() from None
        if not hmac.compare_digest(mac, self._mac(payload)):
            raise refused_link()
        try:
            grant = LinkGrant.model_validate_json(payload)
        except ValidationError:
            raise refused_link() from None
        is_expired = grant.expires_s <= self._clock.now().timestamp()
        if grant.tenant != self._tenant or is_expired:
            raise refused_link()
        return grant

    def _mac(self, payload: bytes) -> bytes:
        return hmac.new(self._secret, _PURPOSE + payload, hashlib.sha256).digest()


def tenant_of_link(token: str) -> str:
    """Return whose key a link claims to be signed with; only ``open`` says whether it is."""
    return token.partition(".")[0]


def refused_link() -> UnauthenticatedError:
    """Return the one error for every link that does not hold."""
    return UnauthenticatedError(
        "The link is not valid or older than 10 minutes; open it from the answer again."
    )


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
