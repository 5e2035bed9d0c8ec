"""Calls of AWS's services: clients, errors, signed requests; and what processes read from SSM, KMS and
Secrets Manager.

An adapter opens a client with ``open_client`` and wraps each call in ``aws_call``, which turns errors into
ours:

    async with open_client("ssm", region="us-east-1") as ssm, aws_call("The parameter store", limit_s=5.0):
        response = await ssm.get_parameter(Name="/assistant/power")

Retries have one policy, botocore's ``standard`` mode with three attempts: throttling, 500, 503 and broken
connections are retried after a random wait of at most 1 s, then 2 s; a client that fails often uses up its
retry quota and fails at once instead of adding to the load. Every call of the adapters is safe to repeat:
writes are conditional, idempotent, or at least once by contract. Adapters retry only the refused part of a
batch.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.loaders import create_loader
from yarl import URL

from assistant.domain.documents import ReceiptSignature
from assistant.domain.errors import AssistantError, ConfigurationError, DependencyError
from assistant.tenant.deployed_names import LINK_SECRET_PURPOSE, link_secret_context

AwsService = Literal[
    "bedrock-runtime",
    "dynamodb",
    "kms",
    "lambda",
    "s3",
    "sagemaker-runtime",
    "secretsmanager",
    "sqs",
    "ssm",
]

_CONNECT_TIMEOUT_S = 2.0
_KEEP_ALIVE_S = 30.0
"""Time that idle connections are kept: less than the minute after which AWS closes them."""
_EMULATOR_KEY = "local"
"""Access key for an emulator, which checks the form of a signature but no keys."""
_CREDENTIAL_SOURCES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Environment variables by which boto finds credentials without searching the machine or its network."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits of one client."""

    read_timeout_s: float
    """The longest pause in a response."""
    pool_connections: int
    """Concurrent calls; more wait for a connection."""
    attempts: int = 3
    """Tries of a call, the first included."""


LIMITS: Mapping[AwsService, ClientLimits] = {
    # Callers of models have deadlines and share one retry budget.
    "bedrock-runtime": ClientLimits(read_timeout_s=60.0, pool_connections=128, attempts=1),
    "dynamodb": ClientLimits(read_timeout_s=3.0, pool_connections=128),  # beside every running answer
    "kms": ClientLimits(read_timeout_s=3.0, pool_connections=4),
    # The parser has 50 s, and some more to start; its addresses end after a minute.
    "lambda": ClientLimits(read_timeout_s=90.0, pool_connections=4, attempts=1),
    "s3": ClientLimits(read_timeout_s=15.0, pool_connections=64),
    "sagemaker-runtime": ClientLimits(read_timeout_s=60.0, pool_connections=128, attempts=1),
    "secretsmanager": ClientLimits(read_timeout_s=3.0, pool_connections=4),
    "sqs": ClientLimits(read_timeout_s=30.0, pool_connections=32),  # a long poll is silent for 20 s
    "ssm": ClientLimits(read_timeout_s=3.0, pool_connections=4),
}


@asynccontextmanager
async def open_client(
    service: AwsService,
    *,
    region: str,
    endpoint_url: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    limits: ClientLimits | None = None,
) -> AsyncGenerator[Any]:
    """Open the aiobotocore client of a service; leaving the context closes its connections.

    ``endpoint_url`` is for an emulator; on AWS omit it and the keys, and the default chain finds the
    credentials (on ECS the task's role). An emulator gets a fixed key if the environment names no
    credentials, so that real ones are not searched for on the machine or its network. ``limits`` None: those
    of LIMITS.
    """
    has_source = any(os.environ.get(name) for name in _CREDENTIAL_SOURCES)
    if endpoint_url is not None and access_key_id is None and not has_source:
        access_key_id = secret_access_key = _EMULATOR_KEY
    limits = limits or LIMITS[service]
    config = AioConfig(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=limits.read_timeout_s,
        max_pool_connections=limits.pool_connections,
        retries={"total_max_attempts": limits.attempts, "mode": "standard"},
        connector_args={"keepalive_timeout": _KEEP_ALIVE_S},
        # By default botocore signs addresses of S3 in an older form, which objects under a KMS key refuse.
        signature_version="s3v4" if service == "s3" else None,
        # An emulator has one host name, so buckets are in its paths.
        s3={"addressing_style": "path"} if endpoint_url is not None else None,
    )
    session = get_session()
    session.register_component("data_loader", _service_descriptions())
    keys = {"aws_access_key_id": access_key_id, "aws_secret_access_key": secret_access_key}
    place = {"region_name": region, "endpoint_url": endpoint_url}
    opening: Any = session.create_client(service, config=config, **place, **keys)
    async with opening as client:
        yield client


@cache
def _service_descriptions() -> Any:
    """Return the loader of service descriptions, shared by all clients: it caches them, and reading one takes
    40 ms."""
    return create_loader()


# The limit and the errors of calls of AWS's services


class ServiceRefusedError(DependencyError):
    """The service refused the call. ``reason`` is AWS's error code, such as "AccessDenied"."""

    def __init__(self, message: str, *, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self._status = status

    @property
    def passes(self) -> bool:
        """Whether a retry may succeed: the service is overloaded or broken."""
        return self._status >= 500 or self.reason.startswith(("Throttl", "RequestThrottl", "RequestLimit"))


@asynccontextmanager
async def aws_call(what: str, *, limit_s: float) -> AsyncGenerator[None]:
    """Run calls on a client, with all their retries and the reading of bodies, within ``limit_s``.

    ``what`` begins the message: "The document store" gives "The document store refused: AccessDenied.".
    Raises ServiceRefusedError if the service refused the call (also after the last throttled attempt), and
    DependencyError for no response or an invalid one.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except ClientError as error:
        reason, status = refusal(error)
        raise ServiceRefusedError(f"{what} refused: {reason}.", reason=reason, status=status) from None
    except (BotoCoreError, aiohttp.ClientError) as error:
        raise DependencyError(f"{what} failed: {type(error).__name__}.") from None
    except TimeoutError:
        raise DependencyError(f"{what} did not respond within {limit_s:.0f} s.") from None


def refusal(error: ClientError) -> tuple[str, int]:
    """Return AWS's code, such as "NoSuchKey", and the HTTP status. AWS's message is left out: it may quote
    the request."""
    response = cast("dict[str, Any]", error.response)
    code = str(response.get("Error", {}).get("Code", "Unknown"))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


# Requests that botocore signs and aiohttp sends, with the credentials and the endpoint of an aiobotocore
# client: calls of DynamoDB and SageMaker, and reads of live systems. Without aiobotocore's serializers, hooks
# and parsers DynamoDB's calls of an answer take 6 ms less of CPU
# (docs/decisions/0010-lean-dynamodb-calls.md).


POST_ERRORS = (aiohttp.ClientError, BotoCoreError, TimeoutError, OSError)
"""Errors of ``SignedPosts.send`` and of reading its response."""
_CONTENT_HASH = "X-Amz-Content-SHA256"
_LEAST_SKEW = timedelta(seconds=30)
"""A smaller difference to the server's clock cannot be the reason for a refused signature."""
_CLOCK_REFUSALS = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})


class _Signer(SigV4Auth):
    """botocore's signer with a corrected clock: ``skew`` is the server's time minus ours."""

    skew = timedelta()

    def _modify_request_before_signing(self, request: Any) -> None:
        # botocore calls it after it has set the timestamp from this machine's clock.
        request.context["timestamp"] = (datetime.now(UTC) + self.skew).strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


async def _sign(
    client: Any, request: AWSRequest, *, service: str, region: str, skew: timedelta = timedelta()
) -> dict[str, str]:
    """Return all headers of the signed request, except Host. Raises BotoCoreError without credentials."""
    credentials = client._request_signer._credentials
    if credentials is None:
        raise NoCredentialsError
    signer = _Signer(await credentials.get_frozen_credentials(), service, region)
    signer.skew = skew
    signer.add_auth(request)
    return dict(request.headers.items())


class GetSigner:
    """Signs GET requests to a company's own systems with the credentials of an aiobotocore client, on ECS
    those of the task's role.
    """

    def __init__(self, client: Any, *, service: str, region: str) -> None:
        self._client = client
        self._service = service
        self._region = region

    async def __call__(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return all headers of the signed request, ``headers`` among them. Raises DependencyError without
        credentials."""
        # VPC Lattice does not check a signature of the payload, and a GET has no payload.
        request = AWSRequest("GET", url, headers={**headers, _CONTENT_HASH: "UNSIGNED-PAYLOAD"})
        try:
            return await _sign(self._client, request, service=self._service, region=self._region)
        except BotoCoreError as error:
            raise DependencyError(f"no AWS credentials ({type(error).__name__})") from None


class SignedPosts:
    """Sends signed POST requests to one AWS service. It keeps a pool of connections, and follows the
    service's clock if ours is wrong (``learn_skew``)."""

    def __init__(
        self, client: Any, *, connections: int, keep_alive_s: float, timeout: aiohttp.ClientTimeout
    ) -> None:
        """``client`` is an aiobotocore client; idle connections are closed after ``keep_alive_s``."""
        self._client = client
        self._connections = connections
        self._keep_alive_s = keep_alive_s
        self._timeout = timeout
        endpoint = urlsplit(str(client.meta.endpoint_url))
        self._base = f"{endpoint.scheme}://{endpoint.netloc}{endpoint.path.rstrip('/')}"
        self._service = str(client.meta.service_model.signing_name)
        self._region = str(client.meta.region_name)
        self._skew = timedelta()
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections. A later ``send`` fails."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self, path: str, *, body: bytes, headers: Mapping[str, str], timeout_s: float | None = None
    ) -> aiohttp.ClientResponse:
        """Return the response when its head has arrived; the caller reads or closes it.

        ``path`` is percent-encoded; ``timeout_s`` is for a call that needs longer than others. A request is
        never retried; no redirect is followed. Raises POST_ERRORS.
        """
        url = self._base + path
        hashed = {_CONTENT_HASH: hashlib.sha256(body).hexdigest()}  # else botocore prepares the whole request
        request = AWSRequest("POST", url, headers={**headers, **hashed})
        signed = await _sign(
            self._client, request, service=self._service, region=self._region, skew=self._skew
        )
        as_signed = URL(url, encoded=True)  # or "%3A" is sent as ":", which was not signed
        timeout = self._timeout if timeout_s is None else aiohttp.ClientTimeout(total=timeout_s)
        return await self._open_session().post(
            as_signed, data=body, headers=signed, allow_redirects=False, timeout=timeout
        )

    def learn_skew(self, code: str, date: str | None) -> bool:
        """Adopt the server's clock if ours is the reason for a refused signature.

        ``code`` is the code of the error, ``date`` the header "Date" of its response. Return True if the
        caller should send the request again, which is safe: the server did not run it.
        """
        if code not in _CLOCK_REFUSALS or (server_date := parsed_date(date)) is None:
            return False
        skew = server_date - datetime.now(UTC)
        if abs(skew - self._skew) < _LEAST_SKEW:
            return False
        self._skew = skew
        return True

    def _open_session(self) -> aiohttp.ClientSession:
        """Return the session, made by the first call because it needs a running loop."""
        if self._is_closed:  # a late call must not open a session that is never closed
            raise aiohttp.ClientConnectionError("closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=self._keep_alive_s),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def parsed_date(date: str | None) -> datetime | None:
    """Return the time of a ``Date`` header, with a zone; None for no header or an invalid one."""
    try:
        moment = parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


# Parameters of SSM (words that an operator sets, such as the power state; the issuer's keys; the link
# secret), tokens that KMS signs, and secrets of other systems in Secrets Manager


_KEYS = "The parameter of the issuer's keys"
_KEYS_LIMIT_S = 5.0
"""Short, because a caller whose token has an unknown key id waits for it."""
_WORDS_LIMIT_S = 15.0
_SECRET_BYTES = 32
"""Length of a link secret: that of SHA-256, by which it signs."""
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
    """``Words`` in the parameter ``place``, or in those below it: ``read("orders")`` reads
    ``<place>/orders``.

    ``client`` is an aiobotocore client of SSM.
    """

    refresh_s = 5.0

    def __init__(self, client: Any, *, place: str) -> None:
        self._client = client
        self._place = place.rstrip("/")

    async def read(self, name: str) -> bytes | None:
        """Return the value; None for a parameter that does not exist. Raises DependencyError."""
        path = f"{self._place}/{name}" if name else self._place
        what = f"The parameter {path}"
        try:
            _, value = await read_parameter(self._client, path, what=what, limit_s=_WORDS_LIMIT_S)
        except ServiceRefusedError as error:
            if error.reason != "ParameterNotFound":
                raise
            return None
        return value.encode()


class ParameterKeySource:
    """A ``KeySource`` of the parameter ``name``, whose value is a key set (JWKS, JSON).

    SSM counts a parameter's versions up. A lower version than the last one read is an older copy (the
    parameter was deleted and created again, or restored), which may lack keys or contain revoked ones: it is
    refused until the key set has been put often enough for a higher version, or until this process restarts.
    """

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self._version = 0

    async def fetch(self) -> bytes:
        """Return the key set. Raises DependencyError."""
        version, value = await read_parameter(self._client, self._name, what=_KEYS, limit_s=_KEYS_LIMIT_S)
        if version < self._version:
            raise DependencyError(f"{_KEYS} went back from version {self._version} to {version}.")
        self._version = version
        return value.encode()


async def create_link_secret(
    *, ssm: Any, kms: Any, name: str, tenant: str, key_id: str, purpose: str = LINK_SECRET_PURPOSE
) -> None:
    """Create the parameter ``name`` unless it exists. Its value is a data key that KMS made and encrypted: no
    process has seen it in plain text.

    ``key_id`` is the id, alias or ARN of a KMS key. The encryption context names tenant and purpose; KMS
    checks it and audits it. Raises DependencyError.
    """
    async with aws_call("KMS", limit_s=_SECRET_LIMIT_S):
        data_key = await kms.generate_data_key_without_plaintext(
            KeyId=key_id, NumberOfBytes=_SECRET_BYTES, EncryptionContext=link_secret_context(tenant, purpose)
        )
    value = base64.b64encode(data_key["CiphertextBlob"]).decode()
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
        raise _error_or_advice(
            error,
            f"The parameter {name} cannot be read ({error.reason}). It must exist, and this process must be "
            "allowed to read it (ssm:GetParameter).",
        ) from None
    try:
        async with aws_call("KMS", limit_s=_SECRET_LIMIT_S):
            context = link_secret_context(tenant, purpose)
            response = await kms.decrypt(CiphertextBlob=ciphertext, EncryptionContext=context)
    except ServiceRefusedError as error:
        raise _error_or_advice(
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


def _error_or_advice(error: ServiceRefusedError, message: str) -> AssistantError:
    """Return the error itself if a retry may succeed, else a ConfigurationError with ``message``, which says
    what to do."""
    return error if error.passes else ConfigurationError(message)


async def signed_token(kms: Any, *, key_id: str, kid: str, claims: Mapping[str, Any]) -> str:
    """Return an access token (JWS, ES256) over ``claims``, signed by KMS: no process has the key.

    ``key_id`` is an ECC_NIST_P256 key of KMS. Raises DependencyError.
    """
    head = _base64url(orjson.dumps({"alg": "ES256", "kid": kid, "typ": "at+jwt"}))
    signed = f"{head}.{_base64url(orjson.dumps(dict(claims)))}"
    signature = await _signed(kms, key_id, signed.encode())
    from cryptography.hazmat.primitives.asymmetric import utils  # a dependency of the probe's package alone

    numbers = utils.decode_dss_signature(signature)
    return f"{signed}.{_base64url(b''.join(number.to_bytes(_TOKEN_NUMBER_BYTES) for number in numbers))}"


async def signed_receipt(kms: Any, key_id: str, text: bytes) -> ReceiptSignature:
    """Return KMS's signature of a receipt's text, by an ECC_NIST_P256 key. Raises DependencyError."""
    return ReceiptSignature(key=key_id, value=base64.b64encode(await _signed(kms, key_id, text)).decode())


async def _signed(kms: Any, key_id: str, message: bytes) -> bytes:
    """Return the signature of a message of at most 4,096 bytes, in DER."""
    async with aws_call("KMS", limit_s=_TOKEN_LIMIT_S):
        options = {"KeyId": key_id, "MessageType": "RAW", "SigningAlgorithm": _SIGNING_ALGORITHM}
        response = await kms.sign(Message=message, **options)
    return bytes(response["Signature"])


def _base64url(part: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


class StoredSecret:
    """One secret of Secrets Manager by its name; each call reads it anew. ``client`` is an aiobotocore
    client."""

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self.put_at: datetime | None = None
        """When the value that was last read had been put into the secret; None before the first read."""

    async def __call__(self) -> bytes:
        """Return the current value, without white space around it.

        Raises ConfigurationError when it is absent, refused or empty, DependencyError when the service does
        not respond.
        """
        try:
            async with aws_call("Secrets Manager", limit_s=_SECRET_READ_LIMIT_S):
                response = await self._client.get_secret_value(SecretId=self._name)
        except ServiceRefusedError as error:
            raise _error_or_advice(
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
