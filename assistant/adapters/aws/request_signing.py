"""AWS Signature Version 4 for calls that are all alike: POST to one URL, the operation in a header.

Written from AWS's description of the algorithm ("Create a signed AWS API request", IAM User Guide); the
tests compare it with botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import urlsplit

_CONTENT_TYPE = "application/x-amz-json-1.0"
_ALGORITHM = "AWS4-HMAC-SHA256"


class RequestSigner:
    """Signs for one URL, region and service. The day's key is derived once."""

    def __init__(self, *, url: str, region: str, service: str) -> None:
        parts = urlsplit(url)
        self._path = parts.path or "/"
        self._host = parts.netloc
        self._scope_end = f"{region}/{service}/aws4_request"
        self._key_for: tuple[str, str] = ("", "")
        self._key = b""

    def headers(
        self, *, target: str, body: bytes, at: datetime, access_key: str, secret_key: str, token: str | None
    ) -> dict[str, str]:
        """Return all headers of the signed request but Content-Length. ``at`` is aware."""
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "Content-Type": _CONTENT_TYPE,
            "Host": self._host,
            "X-Amz-Date": stamp,
        }
        if token is not None:
            headers["X-Amz-Security-Token"] = token
        headers["X-Amz-Target"] = target
        # The names are in the alphabet's order already, as the canonical form wants them.
        signed = ";".join(headers).lower()
        canonical = "".join(f"{name.lower()}:{value}\n" for name, value in headers.items())
        request = f"POST\n{self._path}\n\n{canonical}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{stamp[:8]}/{self._scope_end}"
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(secret_key, stamp[:8]), text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"{_ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _key_of(self, secret_key: str, day: str) -> bytes:
        if self._key_for != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, *self._scope_end.split("/")):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._key_for = key, (secret_key, day)
        return self._key
