"""Keys and tokens of the local issuer and of the local care application; and the authorization codes and
sessions by which people get the issuer's tokens.

For a request of ``/authorize`` the issuer calls ``trusted_client``, then ``authorization_request``; when the
person has signed in, it adds the request with their ``Grant`` to ``Codes``. ``redeem_code`` takes it out
again, once.

Authorization code with PKCE (RFC 6749, RFC 7636, only S256), for public clients such as the console.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlencode, urlsplit

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import Role
from assistant.process.private_files import make_secret_file

ALGORITHM = "ES256"
AUDIENCE = "assistant"
"""``aud`` of access tokens: the service's default setting."""
TOKEN_LIFETIME_S = 8 * 3600
"""A working day, because a local sign-in cannot be refreshed."""
CARE_KEY = "care-key.json"
"""File of the key with which the local care application signs context tokens (``issue_context``)."""
CONTEXT_LIFETIME_S = 300
"""The longest lifetime of a context token that the service accepts."""
CLIENT_ID = "assistant-console"
CODE_LIFETIME_S = 60.0
"""A browser redeems a code at once; the error of ``redeem_code`` names this time."""
_MOST_KEPT = 1_000
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
"""base64url of a SHA-256, unpadded: the client's hash of its verifier, which it keeps until it redeems the
code."""
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_LONGEST_PARAMETER = 2_000
T = TypeVar("T")


def load_or_create_signing_key(state_dir: Path, *, file: str = "signing-key.json") -> ECKey:
    """Return the key of ``STATE/issuer/FILE``, made when absent, readable by its owner only.

    Two processes that make it at the same time get the same key. Raises ConfigurationError when the file is
    not a private P-256 key.
    """
    path = state_dir / "issuer" / file
    make_secret_file(path, content=_new_key)
    try:
        key = ECKey.import_key(orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, JoseError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: not a private key ({type(error).__name__}); delete it and sign in again."
        ) from None
    if not key.is_private or key.curve_name != "P-256":
        raise ConfigurationError(f"{path}: not a private P-256 key; delete it and sign in again.")
    return key


def _new_key() -> bytes:
    """Return a new private key as JWK, in JSON."""
    return orjson.dumps(ECKey.generate_key("P-256", auto_kid=True).as_dict(private=True))


def public_key_set(key: ECKey) -> dict[str, list[dict[str, object]]]:
    """Return the JWKS document of the key."""
    return {"keys": [{**key.as_dict(private=False), "use": "sig", "alg": ALGORITHM}]}


@dataclass(frozen=True, slots=True)
class Grant:
    """Whom and what a token is for: a person (``agent``) of a tenant, with roles and access labels."""

    tenant: str
    agent: str
    roles: tuple[Role, ...] = (Role.AGENT,)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Signs tokens in the name of ``issuer``."""

    key: ECKey
    issuer: str
    clock: Clock

    def access_token(self, grant: Grant) -> str:
        """Return the token that the service accepts."""
        return self._sign(grant, audience=AUDIENCE, kind="at+jwt", extra={"labels": list(grant.labels)})

    def id_token(self, grant: Grant, *, client_id: str, nonce: str | None) -> str:
        """Return the token that tells the client who signed in (OpenID Connect Core 1.0, section 2)."""
        extra = {} if nonce is None else {"nonce": nonce}
        return self._sign(grant, audience=client_id, kind="JWT", extra=extra)

    def _sign(self, grant: Grant, *, audience: str, kind: str, extra: Mapping[str, object]) -> str:
        claims: dict[str, object] = {"iss": self.issuer, "aud": audience, "sub": grant.agent}
        claims |= {"tenant": grant.tenant, "roles": list(grant.roles), **extra}
        return _signed(self.key, claims, kind=kind, lifetime_s=TOKEN_LIFETIME_S, clock=self.clock)


def _signed(key: ECKey, claims: Mapping[str, object], *, kind: str, lifetime_s: int, clock: Clock) -> str:
    now = int(clock.now().timestamp())
    header: dict[str, object] = {"alg": ALGORITHM, "kid": key.kid, "typ": kind}
    return jwt.encode(header, {"iat": now, "exp": now + lifetime_s, **claims}, key, algorithms=[ALGORITHM])


def issue_token(grant: Grant, *, state_dir: Path, issuer: str, clock: Clock | None = None) -> str:
    """Return a signed access token for the service, with the key of ``state_dir``.

    Raises ConfigurationError when the key is invalid.
    """
    key = load_or_create_signing_key(state_dir)
    return TokenSigner(key, issuer, clock or SystemClock()).access_token(grant)


@dataclass(frozen=True, slots=True)
class CareCase:
    """The customer whom a conversation is about, as the local care application knows them."""

    customer: str
    ids: Mapping[str, tuple[str, ...]]
    """The customer's ids, by kind: ``{"order": ("4471-2208",)}``."""


def issue_context(
    case: CareCase, grant: Grant, *, state_dir: Path, issuer: str, audience: str, clock: Clock | None = None
) -> str:
    """Return the context token of a question, signed with the care application's key.

    ``issuer`` and ``audience`` are those of the tenant's ``[care_context]``. Raises ConfigurationError when
    the key is invalid.
    """
    key = load_or_create_signing_key(state_dir, file=CARE_KEY)
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "tenant": grant.tenant,
        "agent": grant.agent,
        "customer": case.customer,
        "ids": {kind: list(ids) for kind, ids in case.ids.items()},
        "jti": secrets.token_hex(16),
    }
    kind, lifetime_s = "care-context+jwt", CONTEXT_LIFETIME_S
    return _signed(key, claims, kind=kind, lifetime_s=lifetime_s, clock=clock or SystemClock())


class ExpiringSecrets(Generic[T]):
    """Keeps values in memory by a random secret, each for a limited time: codes and sessions. Above
    _MOST_KEPT the oldest is dropped."""

    def __init__(self, *, clock: Clock, lifetime_s: float) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._kept: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def add(self, value: T) -> str:
        """Keep a value and return its secret."""
        secret = secrets.token_urlsafe(32)
        self._kept[secret] = (value, self._clock.monotonic_s() + self._lifetime_s)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return secret

    def find(self, secret: str | None) -> T | None:
        """Return the value of a secret; None for an unknown or expired one."""
        value, expires_s = self._kept.get(secret or "", (None, 0.0))
        return value if expires_s > self._clock.monotonic_s() else None

    def take(self, secret: str | None) -> T | None:
        """Return the value as ``find``, and forget it."""
        value = self.find(secret)
        self._kept.pop(secret or "", None)
        return value


class AuthorizationError(Exception):
    """A request that breaks the protocol: ``error`` and ``description`` go to the client as RFC 6749 says."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class UntrustedClientError(AuthorizationError):
    """Unknown client or redirect address: a page tells the person, and nothing is sent to the address."""


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A valid request of a client to sign a person in."""

    client_id: str
    redirect_uri: str
    state: str
    code_challenge: str
    nonce: str | None

    def redirect(self, parameters: Mapping[str, str], *, issuer: str) -> str:
        """Return the address to send the browser to: the client's, with ``parameters``, its state and our
        name (RFC 9207)."""
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        query = {**parameters, "iss": issuer} | ({"state": self.state} if self.state else {})
        return f"{self.redirect_uri}{joint}{urlencode(query)}"


def trusted_client(parameters: Mapping[str, str], *, redirect_origins: frozenset[str]) -> str:
    """Return the address to send the browser back to (redirect_uri). Raises UntrustedClientError unless the
    client is the console, and the address is of one of the origins."""
    if parameters.get("client_id") != CLIENT_ID:
        raise UntrustedClientError("unauthorized_client", f"The only client here is {CLIENT_ID}.")
    redirect_uri = parameters.get("redirect_uri", "")
    try:
        parts = urlsplit(redirect_uri)
    except ValueError:
        parts = urlsplit("")
    is_plain = redirect_uri.isascii() and redirect_uri.isprintable() and "\\" not in redirect_uri
    is_valid = is_plain and not parts.fragment and len(redirect_uri) <= _LONGEST_PARAMETER
    if not is_valid or f"{parts.scheme}://{parts.netloc}" not in redirect_origins:
        raise UntrustedClientError(
            "invalid_request",
            "The address to return to is not of an allowed origin (setting redirect_origins).",
        )
    return redirect_uri


def authorization_request(parameters: Mapping[str, str], *, redirect_uri: str) -> AuthorizationRequest:
    """Return the request of a client that ``trusted_client`` accepted. Raises AuthorizationError."""
    if parameters.get("response_type") != "code":
        raise AuthorizationError("unsupported_response_type", "response_type must be code.")
    if parameters.get("code_challenge_method") != "S256":
        raise AuthorizationError("invalid_request", "code_challenge_method must be S256.")
    challenge = parameters.get("code_challenge", "")
    if not _CHALLENGE.fullmatch(challenge):
        raise AuthorizationError("invalid_request", "code_challenge must be the base64url of a SHA-256.")
    state, nonce = parameters.get("state", ""), parameters.get("nonce")
    if len(state) > _LONGEST_PARAMETER or len(nonce or "") > _LONGEST_PARAMETER:
        raise AuthorizationError("invalid_request", "state and nonce may have 2,000 characters.")
    return AuthorizationRequest(CLIENT_ID, redirect_uri, state, challenge, nonce)


Codes = ExpiringSecrets[tuple[AuthorizationRequest, Grant]]


def redeem_code(codes: Codes, parameters: Mapping[str, str]) -> tuple[AuthorizationRequest, Grant]:
    """Return the request and grant of a code, which can be used once: a wrong attempt uses it up too. Raises
    AuthorizationError."""
    if parameters.get("grant_type") != "authorization_code":
        raise AuthorizationError("unsupported_grant_type", "grant_type must be authorization_code.")
    issued = codes.take(parameters.get("code"))
    if issued is None:
        raise AuthorizationError("invalid_grant", "The code is unknown, used or older than 60 s.")
    request, grant = issued
    if (
        parameters.get("client_id") != request.client_id
        or parameters.get("redirect_uri") != request.redirect_uri
        or not _matches_challenge(parameters.get("code_verifier", ""), request.code_challenge)
    ):
        raise AuthorizationError("invalid_grant", "Client, address or verifier is not the code's.")
    return request, grant


def _matches_challenge(verifier: str, challenge: str) -> bool:
    """Return whether the challenge is the SHA-256 of the verifier (RFC 7636, S256)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode()).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), challenge)
