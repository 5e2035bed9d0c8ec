"""Which pages of other origins may frame the console or call the API: those that the tenant file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_METHODS = ("GET", "POST", "DELETE")
_SENT_HEADERS = ("authorization", "content-type", "idempotency-key", "last-event-id")
_READ_HEADERS = ("retry-after", "etag")
_PREFLIGHT_KEPT_S = 600


@dataclass(frozen=True, slots=True)
class OtherOrigins:
    """Origins (``https://care.example.org``) beside the service's own. Empty: none, in every browser."""

    framing: Sequence[str] = ()
    """Pages that may hold the console in a frame."""
    calling: Sequence[str] = ()
    """Pages whose scripts may call the API, with a bearer token; no cookie is ever accepted."""

    def console_headers(self, issuer: str) -> dict[str, str]:
        """Return the headers of the console's files that say what its page may do, and where it may be."""
        headers = {
            "content-security-policy": content_security_policy(issuer, framing=self.framing),
            "cross-origin-opener-policy": "same-origin",
        }
        if not self.framing:
            headers["x-frame-options"] = "DENY"  # it cannot name origins; frame-ancestors goes before it
        return headers

    def admit(self, application: ASGIApp) -> ASGIApp:
        """Return the application with answers to preflights of the calling origins, streams included."""
        if not self.calling:
            return application
        return CORSMiddleware(
            application,
            allow_origins=self.calling,
            allow_methods=_METHODS,
            allow_headers=_SENT_HEADERS,
            expose_headers=_READ_HEADERS,
            max_age=_PREFLIGHT_KEPT_S,
        )


def content_security_policy(issuer: str, *, framing: Sequence[str] = ()) -> str:
    parts = urlsplit(issuer)
    ancestors = " ".join(framing) or "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {parts.scheme}://{parts.netloc}; "
        f"form-action 'none'; frame-ancestors {ancestors}; base-uri 'none'"
    )
