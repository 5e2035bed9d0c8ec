"""Signature Version 4 of GET requests to a company's own systems, by botocore's signer.

The lean signer of ``signed_posts`` is for POST without a query; a live read is one request of an answer, so
botocore's 0.3 ms do not matter here.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from assistant.domain.errors import DependencyError

_CONTENT_HASH = "X-Amz-Content-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"


class GetSigner:
    """Signs with the credentials of an aiobotocore client: on ECS the task's role."""

    def __init__(self, client: Any, *, service: str, region: str) -> None:
        self._client = client
        self._service = service
        self._region = region

    async def __call__(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return all headers of the signed request. Raises DependencyError without credentials."""
        credentials = self._client._request_signer._credentials
        if credentials is None:
            raise DependencyError("no AWS credentials")
        try:
            key = await credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise DependencyError(f"no AWS credentials ({type(error).__name__})") from None
        # VPC Lattice signs no payload, and a GET has none.
        request = AWSRequest("GET", url, headers={**headers, _CONTENT_HASH: _UNSIGNED})
        request.context["payload_signing_enabled"] = False
        SigV4Auth(key, self._service, self._region).add_auth(request)
        return dict(request.headers.items())
