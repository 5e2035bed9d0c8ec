"""AWS Signature Version 4 for POST requests of one service, without a query string.

Written from AWS's description of the algorithm ("Create a signed AWS API request", IAM User Guide); the
tests compare it with botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Whose signature it is. ``token`` comes with credentials that end."""

    access_key: str
    secret_key: str
    token: str | None = None


class RequestSigner:
    """Signs for one host, region and service. The day's key is derived once."""

    def __init__(self, *, host: str, region: str, service: str) -> None:
        self._host = host
        self._scope_end = f"{region}/{service}/aws4_request"
        self._key_for: tuple[str, str] = ("", "")
        self._key = b""

    def headers(
        self, path: str, *, headers: Mapping[str, str], body: bytes, at: datetime, key: SigningKey
    ) -> dict[str, str]:
        """Return all headers of the signed request but Content-Length.

        ``path`` is as it is sent, percent-encoded; ``headers`` are signed with the others, their values
        without blanks at either end or in a row; ``at`` is aware.
        """
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        sent = {**headers, "Host": self._host, "X-Amz-Date": stamp}
        if key.token is not None:
            sent["X-Amz-Security-Token"] = key.token
        signed, canonical = _canonical(sent)
        # The path is encoded once more here than where it is sent, for every service but S3.
        hashed = hashlib.sha256(body).hexdigest()
        request = f"POST\n{quote(path, safe='/~')}\n\n{canonical}\n{signed}\n{hashed}"
        scope = f"{stamp[:8]}/{self._scope_end}"
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(key.secret_key, stamp[:8]), text.encode(), "sha256").hex()
        sent["Authorization"] = (
            f"{_ALGORITHM} Credential={key.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return sent

    def _key_of(self, secret_key: str, day: str) -> bytes:
        if self._key_for != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, *self._scope_end.split("/")):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._key_for = key, (secret_key, day)
        return self._key


def _canonical(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the names and the lines of the canonical form."""
    lower = sorted((name.lower(), value) for name, value in headers.items())
    return ";".join(name for name, _ in lower), "".join(f"{name}:{value}\n" for name, value in lower)
