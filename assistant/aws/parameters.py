"""Parameters of SSM (the issuer's keys, the power switch, the link secret) and tokens that KMS signs."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from assistant.aws.clients import ServiceRefusedError, aws_call
from assistant.domain.clock import Clock
from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.settings.deployed_names import CLOSED, LINK_SECRET_PURPOSE, ON, link_secret_context

_WHAT = "The parameter of the issuer's keys"
_KEYS_LIMIT_S = 5.0
"""A caller with a key id that nobody knows waits for it."""


class ParameterKeySource:
    """A ``KeySource`` of the parameter ``name``, whose value is a key set (JWKS, JSON).

    Versions of a parameter only grow. One that is lower than the last one seen is a copy from before (the
    parameter was deleted and made again, or restored) and may lack keys, or hold keys that were taken out:
    it is not used. Putting the key set once more under the same name, until its version is higher, or
    starting anew ends that.
    """

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self._version = 0

    async def fetch(self) -> bytes:
        async with aws_call(_WHAT, limit_s=_KEYS_LIMIT_S):
            answer = await self._client.get_parameter(Name=self._name)
        try:
            version, value = int(answer["Parameter"]["Version"]), str(answer["Parameter"]["Value"])
        except (KeyError, TypeError, ValueError):
            raise DependencyError(f"{_WHAT} could not be read: no parameter came.") from None
        if version < self._version:
            raise DependencyError(f"{_WHAT} went back from version {self._version} to {version}.")
        self._version = version
        return value.encode()


# The power switch of a tenant's model endpoints as a parameter of SSM.


_REFRESH_S = 5.0
_STALE_S = 10.0
"""After a quiet time the last reading says nothing: a paused night is longer than any cache."""
_PATIENCE_S = 1.0
_POWER_LIMIT_S = 15.0
_log = structlog.get_logger(__name__)


class ParameterPower:
    """``EndpointPower`` by the parameter ``name``, which holds a word of ``power_words``.

    It is read beside the requests, when one comes and the last reading is over 5 s old; over 10 s, requests
    wait for it, until a second after it was begun: a store that stalls costs one question a second, and the
    next ones nothing. Any other word is logged and means on: the endpoints themselves
    say what they are when they are asked. While the parameter cannot be read, the last state stands.
    """

    def __init__(self, client: Any, *, name: str, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._paused = False
        self._read_at_s: float | None = None
        self._known_at_s: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def is_paused(self) -> bool:
        now_s = self._clock.monotonic_s()
        due = self._read_at_s is None or now_s - self._read_at_s >= _REFRESH_S
        if due and (self._reading is None or self._reading.done()):
            self._read_at_s = now_s
            self._reading = asyncio.create_task(self._read())
        stale = self._known_at_s is None or now_s - self._known_at_s > _STALE_S
        if stale and self._reading is not None and self._read_at_s is not None:
            left_s = self._read_at_s + _PATIENCE_S - now_s
            if left_s > 0:
                await asyncio.wait([self._reading], timeout=left_s)
        return self._paused

    async def read(self) -> bool:
        """Ask now, and return whether the endpoints are paused, as ``is_paused`` understands it."""
        await self._read()
        return self._paused

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        began_s = self._clock.monotonic_s()
        try:
            async with aws_call("The power parameter", limit_s=_POWER_LIMIT_S):
                answer = await self._client.get_parameter(Name=self._name)
            word = str(answer["Parameter"]["Value"]).strip()
        except (DependencyError, KeyError) as error:
            _log.warning("power_not_read", reason=str(error))
            return
        finally:
            self._known_at_s = began_s
        if word != ON and word not in CLOSED:
            _log.warning("power_not_understood")
        self._paused = word in CLOSED


# The secret of a tenant's document links: a data key that KMS encrypted, kept in a parameter of SSM.


_LENGTH_BYTES = 32
_SECRET_LIMIT_S = 30.0


async def create_link_secret(*, ssm: Any, kms: Any, name: str, tenant: str, key_id: str) -> None:
    """Make the parameter ``name`` unless it is there. ``key_id`` is the id, alias or ARN of a KMS key.

    Raises DependencyError.
    """
    async with aws_call("KMS", limit_s=_SECRET_LIMIT_S):
        made = await kms.generate_data_key_without_plaintext(
            KeyId=key_id, NumberOfBytes=_LENGTH_BYTES, EncryptionContext=link_secret_context(tenant)
        )
    value = base64.b64encode(made["CiphertextBlob"]).decode()
    try:
        async with aws_call("The parameter store", limit_s=_SECRET_LIMIT_S):
            await ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=False)
    except ServiceRefusedError as error:
        if error.reason != "ParameterAlreadyExists":
            raise


async def kms_link_secret(*, ssm: Any, kms: Any, name: str, tenant: str) -> bytes:
    """Return the secret that the parameter ``name`` holds for this tenant, 32 bytes.

    Raises ConfigurationError when parameter, key or context are not the right ones, and DependencyError
    when SSM or KMS does not answer.
    """
    ciphertext = await _ciphertext(ssm, name)
    try:
        async with aws_call("KMS", limit_s=_SECRET_LIMIT_S):
            answer = await kms.decrypt(
                CiphertextBlob=ciphertext, EncryptionContext=link_secret_context(tenant)
            )
    except ServiceRefusedError as error:
        if error.passes:
            raise
        raise ConfigurationError(
            f"KMS does not decrypt the parameter {name} ({error.reason}). It must have been made for the "
            f"tenant {tenant} and the purpose {LINK_SECRET_PURPOSE}, with a key that is enabled and that "
            "this process may use (kms:Decrypt). If it was made for another, delete it and make it anew."
        ) from None
    secret = bytes(answer.get("Plaintext", b""))
    if len(secret) < _LENGTH_BYTES:
        raise ConfigurationError(
            f"The parameter {name} holds a data key of fewer than {_LENGTH_BYTES} bytes; make it anew."
        )
    return secret


async def _ciphertext(ssm: Any, name: str) -> bytes:
    try:
        async with aws_call("The parameter store", limit_s=_SECRET_LIMIT_S):
            answer = await ssm.get_parameter(Name=name)
        return base64.b64decode(answer["Parameter"]["Value"], validate=True)
    except ServiceRefusedError as error:
        if error.passes:
            raise
        raise ConfigurationError(
            f"The parameter {name} cannot be read ({error.reason}). It must be there, and this process must "
            "be allowed to read it (ssm:GetParameter)."
        ) from None
    except (KeyError, binascii.Error):
        raise ConfigurationError(
            f"The parameter {name} holds no ciphertext in base64; delete it and make it anew."
        ) from None


# Tokens that KMS signs: no process holds the key, and each signature stands in an audit trail.


_ALGORITHM = "ECDSA_SHA_256"
_HALF_BYTES = 32
"""Of an ES256 signature, which is both numbers in a row (RFC 7518, section 3.4); KMS gives them in DER."""
_TOKEN_LIMIT_S = 15.0


async def signed_token(kms: Any, *, key_id: str, kid: str, claims: Mapping[str, Any]) -> str:
    """Return an access token (JWS, ES256) over ``claims``. ``key_id`` is an ECC_NIST_P256 key of KMS.

    Raises DependencyError.
    """
    head = _base64(orjson.dumps({"alg": "ES256", "kid": kid, "typ": "at+jwt"}))
    signed = f"{head}.{_base64(orjson.dumps(dict(claims)))}"
    async with aws_call("KMS", limit_s=_TOKEN_LIMIT_S):
        answer = await kms.sign(
            KeyId=key_id, Message=signed.encode(), MessageType="RAW", SigningAlgorithm=_ALGORITHM
        )
    numbers = decode_dss_signature(bytes(answer["Signature"]))
    return f"{signed}.{_base64(b''.join(number.to_bytes(_HALF_BYTES) for number in numbers))}"


def _base64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
