"""Whether a request is signed by Signature Version 4 in form. There are no keys here to verify it with."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assistant.local.gateway.aws_errors import badly_signed, not_signed

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 "
    r"Credential=\w{4,128}/(?P<date>\d{8})/[a-z0-9-]+/(?P<service>[a-z0-9-]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[a-z0-9;_-]+), ?"
    r"Signature=[0-9a-f]{64}"
)
_DATE = re.compile(r"\d{8}T\d{6}Z")
_SERVICE = "sagemaker"


def require_signature(headers: Mapping[str, str]) -> None:
    """Raise AwsError 403 unless the Authorization header is a well-formed signature for this service."""
    authorization = headers.get("authorization")
    if authorization is None:
        raise not_signed("Missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        raise badly_signed("The Authorization header is not a Signature Version 4.")
    if match["service"] != _SERVICE:
        raise badly_signed(f"Credential should be scoped to correct service: '{_SERVICE}'.")
    date = headers.get("x-amz-date", "")
    if not _DATE.fullmatch(date) or date[:8] != match["date"]:
        raise badly_signed("X-Amz-Date is missing, or is not the date of the credential's scope.")
    missing = {"host", "x-amz-date"} - set(match["headers"].split(";"))
    if missing:
        raise badly_signed(f"SignedHeaders lacks {', '.join(sorted(missing))}.")
