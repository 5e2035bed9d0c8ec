"""Parameters of SSM (the issuer's keys, the power switch, the link secret), KMS's tokens, and secrets of live
systems in Secrets Manager."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
import structlog

from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError, ConfigurationError, DependencyError
from assistant.process.aws.clients import ServiceRefusedError, aws_call
from assistant.stores.ports import SwitchUnreadableError, is_on_by
from assistant.tenant.deployed_names import CLOSED, LINK_SECRET_PURPOSE, ON, link_secret_context

_KEYS = "The parameter of the issuer's keys"
_KEYS_LIMIT_S = 5.0
"""A caller with an unknown key id waits for it."""
_REFRESH_S = 5.0
_STALE_S = 10.0
"""Older readings are not used: a pause may have begun or ended since."""
_WAIT_S = 1.0
_POWER_LIMIT_S = 15.0
_SECRET_BYTES = 32
_SECRET_LIMIT_S = 30.0
_SECRET_READ_LIMIT_S = 5.0
_SIGNING_ALGORITHM = "ECDSA_SHA_256"
_TOKEN_NUMBER_BYTES = 32
"""An ES256 signature is two such numbers in a row (RFC 7518, section 3.4); KMS returns them in DER."""
_TOKEN_LIMIT_S = 15.0
_log = structlog.get_logger(__name__)


async def _read_parameter(ssm: Any, name: str, *, what: str, limit_s: float) -> tuple[int, str]:
    """Return version and value of a parameter. Raises what ``aws_call`` raises."""
    async with aws_call(what, limit_s=limit_s):
        response = await ssm.get_parameter(Name=name)
    try:
        return int(response["Parameter"]["Version"]), str(response["Parameter"]["Value"])
    except (KeyError, TypeError, ValueError):
        raise DependencyError(f"{what} could not be read: the response has no parameter.") from None


class ParameterKeySource:
    """A ``KeySource`` of the parameter ``name``, whose value is a key set (JWKS, JSON).

    Versions of a parameter only grow. A lower version than the last one read is an older copy (the parameter
    was deleted and created again, or restored), which may lack keys or contain revoked ones: it is refused
    until the key set has been put often enough for a higher version, or until a restart.
    """

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self._version = 0

    async def fetch(self) -> bytes:
        version, value = await _read_parameter(self._client, self._name, what=_KEYS, limit_s=_KEYS_LIMIT_S)
        if version < self._version:
            raise DependencyError(f"{_KEYS} went back from version {self._version} to {version}.")
        self._version = version
        return value.encode()


class ParameterRevocations:
    """A source of revoked tokens: the parameter ``name``, JSON; without it none is revoked."""

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name

    async def fetch(self) -> bytes:
        """Return the value. Raises DependencyError."""
        what = "The parameter of revoked tokens"
        try:
            _, value = await _read_parameter(self._client, self._name, what=what, limit_s=_POWER_LIMIT_S)
        except ServiceRefusedError as error:
            if error.reason != "ParameterNotFound":
                raise
            return b"{}"
        return value.encode()


class ParameterPower:
    """``EndpointPower`` by the parameter ``name``, which has ``on`` or a word of ``CLOSED``.

    A request starts a reading in the background when the last one is over 5 s old. When it is over 10 s old,
    requests wait for the new one, until a second after it began: a stalled store delays requests by at most
    a second. Any other word is logged and means on: calls to the endpoints report their own state. While the
    parameter cannot be read, the last state is kept.
    """

    def __init__(self, client: Any, *, name: str, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._paused = False
        self._began_at_s = -math.inf
        """When the last reading began."""
        self._known_at_s = -math.inf
        """When the last reading that ended began."""
        self._reading: asyncio.Task[None] | None = None

    async def is_paused(self) -> bool:
        now_s = self._clock.monotonic_s()
        if now_s - self._began_at_s >= _REFRESH_S and (self._reading is None or self._reading.done()):
            self._began_at_s = now_s
            self._reading = asyncio.create_task(self._read())
        left_s = self._began_at_s + _WAIT_S - now_s
        if self._reading is not None and now_s - self._known_at_s > _STALE_S and left_s > 0:
            await asyncio.wait([self._reading], timeout=left_s)
        return self._paused

    async def read(self) -> bool:
        """Read the parameter now, and return whether the endpoints are paused."""
        await self._read()
        return self._paused

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        began_s = self._clock.monotonic_s()
        try:
            _, value = await _read_parameter(
                self._client, self._name, what="The power parameter", limit_s=_POWER_LIMIT_S
            )
            word = value.strip()
        except DependencyError as error:
            _log.warning("power_not_read", reason=str(error))
            return
        finally:
            self._known_at_s = began_s
        if word != ON and word not in CLOSED:
            _log.warning("power_not_understood")
        self._paused = word in CLOSED


class ParameterSwitches:
    """``SystemSwitches`` by a parameter for each system, ``<prefix>/<system>``, with ``on`` or ``off``.

    No parameter means on; any word but ``on`` is off (``is_on_by``). A request starts a reading in the
    background when the last one is over 5 s old, and waits only for a system's first one, at most a second.
    While a parameter cannot be read, the last state is kept; before the first reading the system may not be
    called.
    """

    def __init__(self, client: Any, *, prefix: str, clock: Clock) -> None:
        self._client = client
        self._prefix = prefix.rstrip("/")
        self._clock = clock
        self._on: dict[str, bool] = {}
        self._began_at_s: dict[str, float] = {}
        self._readings: dict[str, asyncio.Task[None]] = {}

    async def is_on(self, system: str) -> bool:
        now_s = self._clock.monotonic_s()
        reading = self._readings.get(system)
        is_due = now_s - self._began_at_s.get(system, -math.inf) >= _REFRESH_S
        if is_due and (reading is None or reading.done()):
            self._began_at_s[system] = now_s
            reading = self._readings[system] = asyncio.create_task(self._read(system))
        if system not in self._on and reading is not None:
            await asyncio.wait([reading], timeout=_WAIT_S)
        if system not in self._on:
            raise SwitchUnreadableError(f"The switch of {system} has not been read yet. Retry shortly.")
        return self._on[system]

    async def close(self) -> None:
        for reading in self._readings.values():
            reading.cancel()
        await asyncio.gather(*self._readings.values(), return_exceptions=True)

    async def _read(self, system: str) -> None:
        try:
            name, what = f"{self._prefix}/{system}", "The switch of a live system"
            _, word = await _read_parameter(self._client, name, what=what, limit_s=_POWER_LIMIT_S)
        except DependencyError as error:
            if not isinstance(error, ServiceRefusedError) or error.reason != "ParameterNotFound":
                _log.error("switch_not_read", system=system, reason=error.message)
                return
            word = None
        self._on[system] = is_on_by(word)


async def create_link_secret(
    *, ssm: Any, kms: Any, name: str, tenant: str, key_id: str, purpose: str = LINK_SECRET_PURPOSE
) -> None:
    """Create the parameter ``name`` unless it exists: a data key encrypted by KMS, which nobody has seen.

    ``key_id`` is the id, alias or ARN of a KMS key. The encryption context names tenant and purpose; KMS
    checks it and audits it. Raises DependencyError.
    """
    async with aws_call("KMS", limit_s=_SECRET_LIMIT_S):
        made = await kms.generate_data_key_without_plaintext(
            KeyId=key_id, NumberOfBytes=_SECRET_BYTES, EncryptionContext=link_secret_context(tenant, purpose)
        )
    value = base64.b64encode(made["CiphertextBlob"]).decode()
    try:
        async with aws_call("The parameter store", limit_s=_SECRET_LIMIT_S):
            await ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=False)
    except ServiceRefusedError as error:
        if error.reason != "ParameterAlreadyExists":
            raise


async def kms_link_secret(
    *, ssm: Any, kms: Any, name: str, tenant: str, purpose: str = LINK_SECRET_PURPOSE
) -> bytes:
    """Return the secret that the parameter ``name`` holds for this tenant and purpose, 32 bytes.

    Raises ConfigurationError for a wrong parameter, key or context, and DependencyError when SSM or KMS does
    not respond.
    """
    try:
        _, value = await _read_parameter(ssm, name, what="The parameter store", limit_s=_SECRET_LIMIT_S)
        ciphertext = base64.b64decode(value, validate=True)
    except binascii.Error:
        advice = "delete it and create it again"
        raise ConfigurationError(f"The parameter {name} holds no ciphertext in base64; {advice}.") from None
    except ServiceRefusedError as error:
        raise _refused(
            error,
            f"The parameter {name} cannot be read ({error.reason}). It must exist, and this process must be "
            "allowed to read it (ssm:GetParameter).",
        ) from None
    try:
        async with aws_call("KMS", limit_s=_SECRET_LIMIT_S):
            context = link_secret_context(tenant, purpose)
            response = await kms.decrypt(CiphertextBlob=ciphertext, EncryptionContext=context)
    except ServiceRefusedError as error:
        raise _refused(
            error,
            f"KMS does not decrypt the parameter {name} ({error.reason}). It must have been made for the "
            f"tenant {tenant} and the purpose {purpose}, with a key that is enabled and that "
            "this process may use (kms:Decrypt). If it was made for another, delete it and create it again.",
        ) from None
    secret = bytes(response.get("Plaintext", b""))
    if len(secret) < _SECRET_BYTES:
        short = f"a data key of fewer than {_SECRET_BYTES} bytes"
        raise ConfigurationError(f"The parameter {name} holds {short}; create it again.")
    return secret


def _refused(error: ServiceRefusedError, message: str) -> AssistantError:
    """Return the error itself when a retry may succeed, else a ConfigurationError with ``message``."""
    return error if error.passes else ConfigurationError(message)


async def signed_token(kms: Any, *, key_id: str, kid: str, claims: Mapping[str, Any]) -> str:
    """Return an access token (JWS, ES256) over ``claims``, signed by KMS: no process has the key.

    ``key_id`` is an ECC_NIST_P256 key of KMS. Raises DependencyError.
    """
    head = _base64url(orjson.dumps({"alg": "ES256", "kid": kid, "typ": "at+jwt"}))
    signed = f"{head}.{_base64url(orjson.dumps(dict(claims)))}"
    async with aws_call("KMS", limit_s=_TOKEN_LIMIT_S):
        how = {"KeyId": key_id, "MessageType": "RAW", "SigningAlgorithm": _SIGNING_ALGORITHM}
        response = await kms.sign(Message=signed.encode(), **how)
    from cryptography.hazmat.primitives.asymmetric import utils  # only the probe's package has it

    numbers = utils.decode_dss_signature(bytes(response["Signature"]))
    return f"{signed}.{_base64url(b''.join(number.to_bytes(_TOKEN_NUMBER_BYTES) for number in numbers))}"


def _base64url(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


class StoredSecret:
    """One secret by its name, read anew with each call."""

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self.put_at: datetime | None = None
        """When the value that was read last was put; None before the first read."""

    async def __call__(self) -> bytes:
        """Return the current value, without white space around it.

        Raises ConfigurationError when it is absent, refused or empty, DependencyError when the service does
        not respond.
        """
        try:
            async with aws_call("Secrets Manager", limit_s=_SECRET_READ_LIMIT_S):
                response = await self._client.get_secret_value(SecretId=self._name)
        except ServiceRefusedError as error:
            raise _refused(
                error,
                f"The secret {self._name} cannot be read ({error.reason}). It must exist with a value, and "
                "this process must be allowed to read it (secretsmanager:GetSecretValue).",
            ) from None
        value = response.get("SecretString") or response.get("SecretBinary") or b""
        secret = value.encode() if isinstance(value, str) else bytes(value)
        if not secret.strip():
            raise ConfigurationError(f"The secret {self._name} is empty. Put a value.")
        self.put_at = response.get("CreatedDate")
        return secret.strip()
