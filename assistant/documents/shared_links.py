"""Links to stored documents that anyone who has one may open for 10 minutes, and the secret that signs them.

A link is "/open#TENANT.GRANT.MAC": grant and MAC (HMAC-SHA256) in base64url. Browsers do not send the part
after "#", so no log of a balancer, a proxy or this service has it; the page at ``LINK_PAGE`` posts it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from pathlib import Path

from assistant.domain.clock import Clock
from assistant.domain.documents import Span
from assistant.domain.errors import ConfigurationError, UnauthenticatedError
from assistant.domain.identity import Identity
from assistant.domain.public import PublicModel
from assistant.process.private_files import make_secret_file

LINK_LIFETIME_S = 600
"""The 10 minutes of ``refused_link``'s message."""
LINK_PAGE = "/open"
"""Path of the page that opens a link."""
_PURPOSE = b"document-link/1:"
"""Begin of what is signed, so that no other signature with the same key is a valid link."""
_MAX_TOKEN_CHARACTERS = 4_096
"""A longer token is refused unread: a grant has a few hundred characters."""
_SECRET_BYTES = 32
"""Fewest bytes of a secret: the length of SHA-256, as HMAC needs."""
_SECRET_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")


class LinkGrant(PublicModel):
    """What a link allows: to read one document until ``expires_s``, as ``agent`` with ``labels`` may."""

    tenant: str
    agent: str
    labels: tuple[str, ...]
    document_id: str
    content_hash: str | None
    span: tuple[int, int]
    expires_s: int
    """Seconds since 1970, UTC."""


class SignedDocumentLinks:
    """Makes the links of one tenant (``DocumentLinks``), and reads them."""

    def __init__(self, *, tenant: str, secret: bytes, clock: Clock) -> None:
        self._tenant = tenant
        self._secret = secret
        self._clock = clock

    def link(
        self, document_id: str, *, span: Span, identity: Identity, content_hash: str | None = None
    ) -> str:
        """Return the path with the token, for ``identity``. ``span``: the passage that the page shows;
        ``content_hash``: the content that it is in, None for the newest."""
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
        """Return what a token, the part after "#", allows. Raises UnauthenticatedError (forged, altered,
        expired, or of another tenant)."""
        parts = token.split(".")
        if len(token) > _MAX_TOKEN_CHARACTERS or len(parts) != 3:
            raise refused_link()
        try:
            payload, mac = _decode(parts[1]), _decode(parts[2])
            is_signed = hmac.compare_digest(mac, self._mac(payload))
            grant = LinkGrant.model_validate_json(payload) if is_signed else None
        except ValueError:  # also pydantic's
            raise refused_link() from None
        now_s = self._clock.now().timestamp()
        if grant is None or grant.tenant != self._tenant or grant.expires_s <= now_s:
            raise refused_link()
        return grant

    def derived_key(self, purpose: bytes) -> bytes:
        """Return a key of 32 bytes from the same secret, for another purpose."""
        return hmac.new(self._secret, purpose, hashlib.sha256).digest()

    def _mac(self, payload: bytes) -> bytes:
        return hmac.new(self._secret, _PURPOSE + payload, hashlib.sha256).digest()


def tenant_of_link(token: str) -> str:
    """Return the tenant that a token names, to choose the ``SignedDocumentLinks`` whose ``open`` verifies
    it."""
    return token.partition(".")[0]


def refused_link() -> UnauthenticatedError:
    """Return the one error for every invalid link."""
    return UnauthenticatedError(
        "The link is not valid or older than 10 minutes; open it from the answer again."
    )


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Return the bytes of base64url without padding. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def local_secret(reference: str, *, tenant: str, key: str, tenants_dir: Path, state_dir: Path) -> bytes:
    """Return the secret that ``reference`` names: the value of ``key`` in the tenant file.

    ``state:NAME`` is STATE/secrets/<tenant>/NAME, created on first use and readable by its owner only.
    ``file:PATH`` is relative to the tenant file and must exist. ``aws.parameters.kms_link_secret`` reads
    ``kms:NAME``. Raises ConfigurationError naming file and key.
    """
    scheme, _, rest = reference.partition(":")
    place = f"{tenants_dir / tenant}.toml: {key}"
    if scheme == "state" and _SECRET_NAME.fullmatch(rest):
        path = state_dir / "secrets" / tenant / rest
        make_secret_file(path, content=lambda: secrets.token_hex(_SECRET_BYTES).encode())
    elif scheme == "file" and rest:
        path = tenants_dir / rest
    else:
        raise ConfigurationError(f"{place} must be state:NAME (a-z, 0-9, -), file:PATH or kms:NAME.")
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"{place}: {path} cannot be read: {error.strerror}.") from None
    if len(secret) < _SECRET_BYTES:
        raise ConfigurationError(f"{place}: {path} holds fewer than {_SECRET_BYTES} bytes.")
    return secret
