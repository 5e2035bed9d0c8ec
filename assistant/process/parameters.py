"""Parameters of SSM (an operator's words, the issuer's keys, the link secret), KMS's tokens, and secrets of
systems in Secrets Manager."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from assistant.domain.documents import ReceiptSignature
from assistant.domain.errors import AssistantError, ConfigurationError, DependencyError
from assistant.process.aws import ServiceRefusedError, aws_call
from assistant.tenant.deployed_names import LINK_SECRET_PURPOSE, link_secret_context

_KEYS = "The parameter of the issuer's keys"
_KEYS_LIMIT_S = 5.0
"""A caller with an unknown key id waits for it."""
_WORD_LIMIT_S = 15.0
_SECRET_BYTES = 32
_SECRET_LIMIT_S = 30.0
_SECRET_READ_LIMIT_S = 5.0
_SIGNING_ALGORITHM = "ECDSA_SHA_256"
_TOKEN_NUMBER_BYTES = 32
"""An ES256 signature is two such numbers in a row (RFC 7518, section 3.4); KMS returns them in DER."""
_TOKEN_LIMIT_S = 15.0


async def read_parameter(ssm: Any, name: str, *, what: str, limit_s: float) -> tuple[int, str]:
    """Return version and value of a parameter. Raises what ``aws_call`` raises."""
    async with aws_call(what, limit_s=limit_s):
        response = await ssm.get_parameter(Name=name)
    try:
        return int(response["Parameter"]["Version"]), str(response["Parameter"]["Value"])
    except (KeyError, TypeError, ValueError):
        raise DependencyError(f"{what} could not be read: the response has no parameter.") from None


class ParameterWords:
    """``Words`` in a parameter, or in those below a path; ``client`` is an aiobotocore client of SSM."""

    refresh_s = 5.0

    def __init__(self, client: Any, *, place: str) -> None:
        self._client = client
        self._place = place.rstrip("/")

    async def read(self, name: str) -> bytes | None:
        path = f"{self._place}/{name}" if name else self._place
        what = f"The parameter {path}"
        try:
            _, value = await read_parameter(self._client, path, what=what, limit_s=_WORD_LIMIT_S)
        except ServiceRefusedError as error:
            if error.reason != "ParameterNotFound":
                raise
            return None
        return value.encode()


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
        version, value = await read_parameter(self._client, self._name, what=_KEYS, limit_s=_KEYS_LIMIT_S)
        if version < self._version:
            raise DependencyError(f"{_KEYS} went back from version {self._version} to {version}.")
        self._version = version
        return value.encode()


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
        _, value = await read_parameter(ssm, name, what="The parameter store", limit_s=_SECRET_LIMIT_S)
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
    signature = await _signed(kms, key_id, signed.encode())
    from cryptography.hazmat.primitives.asymmetric import utils  # only the probe's package has it

    numbers = utils.decode_dss_signature(signature)
    return f"{signed}.{_base64url(b''.join(number.to_bytes(_TOKEN_NUMBER_BYTES) for number in numbers))}"


async def signed_receipt(kms: Any, key_id: str, text: bytes) -> ReceiptSignature:
    """Return KMS's signature of a receipt's text, by an ECC_NIST_P256 key. Raises DependencyError."""
    return ReceiptSignature(key=key_id, value=base64.b64encode(await _signed(kms, key_id, text)).decode())


async def _signed(kms: Any, key_id: str, message: bytes) -> bytes:
    """Return the signature of a message of at most 4,096 bytes, in DER."""
    async with aws_call("KMS", limit_s=_TOKEN_LIMIT_S):
        how = {"KeyId": key_id, "MessageType": "RAW", "SigningAlgorithm": _SIGNING_ALGORITHM}
        response = await kms.sign(Message=message, **how)
    return bytes(response["Signature"])


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
