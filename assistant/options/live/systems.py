"""``LiveSystems`` over HTTP: requests to declared addresses, and nothing else.

The host is the entry's, whatever a request or a response says: no redirect is followed, no proxy of the
environment is used, no cookie is kept. A response is read up to its bound, never decompressed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
from yarl import URL

from assistant.domain.clock import Circuit, Clock, Deadline, RetryBudget
from assistant.domain.errors import ConfigurationError, DeadlineExceededError, DependencyError
from assistant.domain.live import ElementProblem, LiveReadError
from assistant.domain.paths import is_on_this_machine
from assistant.options.live.connected import SystemRequest, SystemResponse

AGENT_HEADER = "X-Assistant-Agent"
_CONNECT_TIMEOUT_S = 1.0
_MOST_IN_PROGRESS = 256
"""Requests of one system in progress, each with its own connection: 50 answers of five operations. The next
one waits within its limit."""
_WHOLE_TIME = 0.9
"""Share of its usual time that a system must have had before its lateness counts as its failure."""
_KEEP_ALIVE_S = 20.0
"""Seconds that an idle connection stays open."""
_READ_BUFFER_BYTES = 65_536
_LARGEST_TOKEN_BYTES = 32 * 1024
_SECRET_FRESH_S = 300.0
"""Seconds for which a secret is used before it is read again, and a token that does not say how long it
lives."""
_TOKEN_MARGIN_S = 30.0
"""Seconds before its end at which a token is renewed."""
_LONGEST_TOKEN_S = 3_600.0
_WORTH_A_RETRY = frozenset({502, 503, 504})
_SSL_ERRORS = (aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError)

ReadSecret = Callable[[], Awaitable[bytes]]
"""Returns a secret as it is stored now. Raises ConfigurationError, DependencyError."""


SignRequest = Callable[[str, Mapping[str, str]], Awaitable[Mapping[str, str]]]
"""Returns all headers of a signed GET without a body, for its URL and headers, ``Host`` among them.

Raises DependencyError."""


@dataclass(frozen=True, slots=True)
class SystemAccess:
    """Address of a system, and how a request proves who calls."""

    name: str
    url: str
    """``https://host:port``; ``http`` only on this machine."""
    auth: str = "none"
    """``none``, ``token`` (the secret is the bearer token), ``oauth`` (the secret is a JSON object of
    client_id and client_secret, for a token of ``token_path``), or ``sigv4``."""
    secret: ReadSecret | None = None
    """For ``token`` and ``oauth``."""
    sign: SignRequest | None = None
    """For ``sigv4``."""
    token_path: str = "/oauth/token"  # noqa: S105 - a path
    host_name: str | None = None
    """Name in the certificate and in ``Host``; None: the address's host."""
    ca_pem: str | None = None
    """Certificates of the authorities that may sign the system's; None: the machine's."""


def checked_address(system: str, url: str) -> str:
    """Return the base URL of a system without its trailing slash.

    Raises ConfigurationError for another scheme, a path, credentials in it, or a link-local address: the
    metadata services of clouds are there.
    """
    if wrong := _wrong_address(url):
        raise ConfigurationError(
            f"The address of the system {system} is {url}: {wrong}. Give https://host:port."
        )
    return url.rstrip("/")


def _wrong_address(url: str) -> str | None:
    """Return what is wrong with an address; None if nothing is."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = None
    with suppress(ValueError):
        address = ip_address(host)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_on_this_machine(url)):
        return "it needs https"
    if not host:
        return "it has no host"
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        return "it has a path, a query or credentials"
    if address is not None and (address.is_link_local or address.is_unspecified or address.is_multicast):
        return "it is an address of the machine's own network"
    return None


class HttpSystems:
    """``LiveSystems`` of one tenant. ``close`` closes its connections."""

    def __init__(self, accesses: Mapping[str, SystemAccess], *, clock: Clock) -> None:
        self._systems = {name: _HttpSystem(access, clock=clock) for name, access in accesses.items()}

    async def call(self, request: SystemRequest, *, deadline: Deadline, most_bytes: int) -> SystemResponse:
        system = self._systems.get(request.system)
        if system is None:
            raise LiveReadError(
                ElementProblem.SYSTEM_UNAVAILABLE, f"The address of {request.system} is not configured here."
            )
        return await system.call(request, deadline=deadline, most_bytes=most_bytes)

    def has_open_circuit(self, system: str) -> bool:
        return self._systems[system].circuit.is_open

    async def close(self) -> None:
        for system in self._systems.values():
            await system.close()


class _HttpSystem:
    """One system: its connections, its credentials, its circuit."""

    def __init__(self, access: SystemAccess, *, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._url = checked_address(access.name, access.url)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Host": access.host_name or urlsplit(self._url).netloc,
        }
        self.circuit = Circuit(clock=clock)
        self._budget = RetryBudget()
        self._room = asyncio.Semaphore(_MOST_IN_PROGRESS)
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._credentials = _Credentials(access, clock=clock, ask_token=self._ask_token)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, request: SystemRequest, *, deadline: Deadline, most_bytes: int) -> SystemResponse:
        """As ``LiveSystems.call``: refuse at once behind an open circuit, wait for room among the requests in
        progress, call with one retry, and tell the circuit the outcome. A refusal for TLS or form
        (SYSTEM_INVALID) does not open it."""
        if not self.circuit.allows():
            raise self._unavailable("it failed several times in a row")
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                await self._room.acquire()
        except TimeoutError:
            late = f"Too many requests to {self._access.name} are in progress. Retry shortly."
            raise LiveReadError(ElementProblem.SYSTEM_LATE, late) from None
        has_whole_time = deadline.remaining_s() >= (request.limit_s or 0.0) * _WHOLE_TIME
        self._budget.earn()
        try:
            response = await self._with_retry(request, deadline=deadline, most_bytes=most_bytes)
        except LiveReadError as error:
            is_late = error.problem is ElementProblem.SYSTEM_LATE
            if error.problem is ElementProblem.SYSTEM_UNAVAILABLE or (is_late and has_whole_time):
                self.circuit.failed()
            raise
        finally:
            self._room.release()
        if response.status >= 500:
            self.circuit.failed()
        else:
            self.circuit.succeeded()
        return response

    async def _with_retry(
        self, request: SystemRequest, *, deadline: Deadline, most_bytes: int
    ) -> SystemResponse:
        """Call, and once more where a second call may help: after a failed connection or a 502, 503 or 504 if
        the budget allows it, and after a 401 with a new token."""
        try:
            response, token = await self._once(request, deadline=deadline, most_bytes=most_bytes)
        except LiveReadError as error:
            if error.problem is not ElementProblem.SYSTEM_UNAVAILABLE or not self._may_repeat(deadline):
                raise
        else:
            if response.status == 401 and token is not None:
                self._credentials.forget(token)
            elif response.status not in _WORTH_A_RETRY or not self._may_repeat(deadline):
                return response
        response, _ = await self._once(request, deadline=deadline, most_bytes=most_bytes)
        return response

    def _may_repeat(self, deadline: Deadline) -> bool:
        return deadline.remaining_s() > 0.0 and self._budget.spend()

    async def _once(
        self, request: SystemRequest, *, deadline: Deadline, most_bytes: int
    ) -> tuple[SystemResponse, str | None]:
        """Return the response of one call, and the bearer token that it was sent with."""
        try:
            # within_s raises DeadlineExceededError where no time is left.
            async with asyncio.timeout(deadline.within_s(deadline.remaining_s())):
                return await self._exchange(request, most_bytes)
        except (TimeoutError, DeadlineExceededError):
            late = f"{self._access.name} did not answer in time. Retry shortly."
            raise LiveReadError(ElementProblem.SYSTEM_LATE, late) from None
        except _SSL_ERRORS:
            raise self._invalid("its certificate is not one of its name") from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError):
            raise self._invalid("the response is no whole HTTP") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(type(error).__name__) from None
        except (DependencyError, ConfigurationError) as error:  # by ``_credentials``
            raise self._unavailable(error.message.rstrip(".")) from None

    async def _exchange(self, request: SystemRequest, most_bytes: int) -> tuple[SystemResponse, str | None]:
        url = f"{self._url}{request.path}"
        if request.query:
            url = f"{url}?{urlencode(request.query, quote_via=quote)}"
        headers = dict(self._headers)
        if request.agent is not None:  # percent-encoded where it is not plain ASCII
            headers[AGENT_HEADER] = quote(request.agent, safe="!#$&'*+-./:=?@^_`|~")
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if request.key is not None:
            headers["Idempotency-Key"] = request.key
        signed, token = await self._credentials.authorised(url, headers)
        response = await self._send(url, signed, most_bytes=most_bytes, posted=request.body)
        if 300 <= response.status < 400:
            raise self._invalid("it redirects, which is never followed")
        return response, token

    async def _send(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        most_bytes: int,
        posted: Mapping[str, str] | bytes | None = None,
    ) -> SystemResponse:
        """GET, or POST a form (mapping) or a body (bytes). Return the response, its body only with status
        200."""
        session = await self._opened()
        async with session.request(
            "GET" if posted is None else "POST",
            URL(url, encoded=True),
            data=posted,
            headers=headers,
            allow_redirects=False,
            server_hostname=self._access.host_name,
        ) as response:  # what is not read when this ends closes the connection
            is_read = response.status == 200 and most_bytes > 0  # 0: the caller needs the status alone
            body = await self._body(response, most_bytes) if is_read else b""
            return SystemResponse(response.status, response.headers.get("Content-Type", ""), body)

    async def _body(self, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        """Return the body. Raises LiveReadError before more than its bound is held."""
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise self._invalid("the response is compressed, which was not asked for")
        body = bytearray()
        is_larger = (response.content_length or 0) > most_bytes
        while not is_larger and (part := await response.content.readany()):
            body += part
            is_larger = len(body) > most_bytes
        if is_larger:
            raise self._invalid(f"the response is larger than {most_bytes} bytes")
        return bytes(body)

    async def _ask_token(self, form: Mapping[str, str]) -> bytes:
        """Return the body of the system's token endpoint. Raises DependencyError."""
        url = f"{self._url}{self._access.token_path}"
        response = await self._send(url, self._headers, most_bytes=_LARGEST_TOKEN_BYTES, posted=form)
        if response.status != 200:
            raise DependencyError(f"no token was given (status {response.status})")
        return response.body

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:  # reading the authorities takes 20 ms of CPU: one request does it
            if self._session is None:
                context = await asyncio.to_thread(ssl.create_default_context, cadata=self._access.ca_pem)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        limit=_MOST_IN_PROGRESS, keepalive_timeout=_KEEP_ALIVE_S, ssl=context
                    ),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
                    auto_decompress=False,
                    read_bufsize=_READ_BUFFER_BYTES,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                )
        return self._session

    def _unavailable(self, why: str) -> LiveReadError:
        return LiveReadError(
            ElementProblem.SYSTEM_UNAVAILABLE, f"{self._access.name} cannot be reached: {why}. Retry shortly."
        )

    def _invalid(self, why: str) -> LiveReadError:
        return LiveReadError(
            ElementProblem.SYSTEM_INVALID, f"{self._access.name} gave a response that cannot be used: {why}."
        )


@dataclass(slots=True)
class _Credentials:
    """The headers that prove who calls. Secrets and tokens are kept for minutes, and renewed when refused."""

    access: SystemAccess
    clock: Clock
    ask_token: Callable[[Mapping[str, str]], Awaitable[bytes]]
    """Posts a form to the token endpoint; returns the body of its response."""
    _token: str | None = None
    _until_s: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def authorised(self, url: str, headers: Mapping[str, str]) -> tuple[Mapping[str, str], str | None]:
        """Return ``headers`` with those that prove who calls, and the bearer token among them, None without
        one.

        Raises ConfigurationError, DependencyError, and for a new token as ``_HttpSystem._send``.
        """
        if self.access.auth == "none":
            return headers, None
        if self.access.auth == "sigv4":
            if self.access.sign is None:
                raise ConfigurationError("no credentials to sign with")
            return await self.access.sign(url, headers), None
        token = await self._bearer()
        return {**headers, "Authorization": f"Bearer {token}"}, token

    def forget(self, refused: str) -> None:
        """Forget a token that the system refused.

        Of several requests that were refused at the same time only the first forgets it; the others find a
        newer token already, and retry with that.
        """
        if self._token == refused:
            self._token = None

    async def _bearer(self) -> str:
        async with self._lock:  # one of many waiting requests asks
            if self._token is None or self.clock.monotonic_s() >= self._until_s:
                self._token, ttl_s = await self._new_token()
                self._until_s = self.clock.monotonic_s() + ttl_s
            return self._token

    async def _new_token(self) -> tuple[str, float]:
        """Return a bearer token and the seconds for which to use it: the secret, or a token for client
        credentials (RFC 6749, 4.4). Raises ConfigurationError, DependencyError."""
        if self.access.secret is None:
            raise ConfigurationError("its secret is not configured")
        secret = await self.access.secret()
        if self.access.auth == "token":
            return _token_text(secret), _SECRET_FRESH_S
        client = _object(secret, "the secret")
        form = {
            "grant_type": "client_credentials",
            "client_id": str(client.get("client_id", "")),
            "client_secret": str(client.get("client_secret", "")),
        }
        issued = _object(await self.ask_token(form), "the token endpoint's response")
        ttl_s = issued.get("expires_in", _SECRET_FRESH_S)
        if not isinstance(ttl_s, int | float) or str(issued.get("token_type", "bearer")).lower() != "bearer":
            raise DependencyError("the token endpoint's response has another form")
        token = _token_text(str(issued.get("access_token", "")).encode())
        return token, min(max(0.0, ttl_s - _TOKEN_MARGIN_S), _LONGEST_TOKEN_S)


def _token_text(secret: bytes) -> str:
    """Return a token that fits into a header. Raises ConfigurationError."""
    token = secret.decode("ascii", "replace").strip()
    if not token or not token.isprintable() or " " in token:
        raise ConfigurationError("its token is not one line of ASCII")
    return token


def _object(body: bytes, what: str) -> Mapping[str, Any]:
    """Return a JSON object. Raises DependencyError, whose message begins with ``what``."""
    with suppress(orjson.JSONDecodeError):
        parsed: Any = orjson.loads(body)
        if isinstance(parsed, dict):
            return cast("dict[str, Any]", parsed)
    raise DependencyError(f"{what} is no JSON object")
