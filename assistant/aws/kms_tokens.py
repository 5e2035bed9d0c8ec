"""Tokens that KMS signs: no process holds the key, and each signature stands in an audit trail."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from assistant.aws.aws_calls import aws_call

_ALGORITHM = "ECDSA_SHA_256"
_HALF_BYTES = 32
"""Of an ES256 signature, which is both numbers in a row (RFC 7518, section 3.4); KMS gives them in DER."""
_LIMIT_S = 15.0


async def signed_token(kms: Any, *, key_id: str, kid: str, claims: Mapping[str, Any]) -> str:
    """Return an access token (JWS, ES256) over ``claims``. ``key_id`` is an ECC_NIST_P256 key of KMS.

    Raises DependencyError.
    """
    head = _base64(orjson.dumps({"alg": "ES256", "kid": kid, "typ": "at+jwt"}))
    signed = f"{head}.{_base64(orjson.dumps(dict(claims)))}"
    async with aws_call("KMS", limit_s=_LIMIT_S):
        answer = await kms.sign(
            KeyId=key_id, Message=signed.encode(), MessageType="RAW", SigningAlgorithm=_ALGORITHM
        )
    numbers = decode_dss_signature(bytes(answer["Signature"]))
    return f"{signed}.{_base64(b''.join(number.to_bytes(_HALF_BYTES) for number in numbers))}"


def _base64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
