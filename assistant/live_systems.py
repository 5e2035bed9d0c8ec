"""``LiveSystems`` over HTTP: GET requests to declared addresses, and nothing else.

The host is the entry's, whatever a request or a response says: no redirect is followed, no proxy of the
environment is used, no cookie is kept. A response is read up to its bound, never decompressed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol, cast
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
from yarl import URL

from assistant.domain.clock import Clock, Deadline
from assistant.domain.elements import ElementProblem
from assistant.domain.errors import ConfigurationError, DeadlineExceededError, DependencyError
from assistant.domain.retries import Circuit, RetryBudget
from assistant.live.ports import LiveReadError, SystemRequest, SystemResponse

AGENT_HEADER = "X-Assistant-Agent"
_CONNECT_TIMEOUT_S = 1.0
_MOST_IN_PROGRESS = 256
"""Requests of one system in progress, each with its own connection: 50 answers of five operations. The next
one is refused at once, so none waits for a connection of ours."""
_WHOLE_TIME = 0.9
"""Share of its usual time that a system must have had before its lateness counts as its failure."""
_KEEP_ALIVE_S = 20.0
_READ_BUFFER_BYTES = 65_536
_LARGEST_TOKEN_BYTES = 32 * 1024
_SECRET_FRESH_S = 300.0
_TOKEN_MARGIN_S = 30.0
_LONGEST_TOKEN_S = 3_600.0
_WORTH_A_RETRY = frozenset({502, 503, 504})
_SSL_ERRORS = (aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError)

ReadSecret = Callable[[], Awaitable[bytes]]
"""Returns a secret as it is stored now. Raises ConfigurationError, DependencyError."""


class SignRequest(Protocol):
    """Signs a GET without a body."""

    async def __call__(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return all headers of the signed request; ``headers`` has ``Host``. Raises DependencyError."""
        ...


@dataclass(frozen=True, slots=True)
class SystemAccess:
    """Where a system is, and how a request proves who calls."""

    name: str
    url: str
    """``https://host:port``; ``http`` only on this machine."""
    auth: str = "none"
    secret: ReadSecret | None = None
    """Of ``token`` and ``oauth``."""
    sign: SignRequest | None = None
    """Of ``sigv4``."""
    token_path: str = "/oauth/token"  # noqa: S105 - a path
    host_name: str | None = None
    """Name in the certificate and in ``Host``; the address's when absent."""
    ca_pem: str | None = None


def checked_address(system: str, url: str) -> str:
    """Return the base URL of a system without its trailing slash.

    Raises ConfigurationError for another scheme, a path, credentials in it, or a link-local address: the
    metadata services of clouds are there.
    """
    wrong = next(_wrong_address(url), None)
    if wrong is not None:
        raise ConfigurationError(
            f"The address of the system {system} is {url}: {wrong}. Give https://host:port."
        )
    return url.rstrip("/")


def _wrong_address(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    is_here = host == "localhost" or (address is not None and address.is_loopback)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_here):
        yield "it needs https"
    if not host:
        yield "it has no host"
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        yield "it has a path, a query or credentials"
    if address is not None and (address.is_link_local or address.is_unspecified or address.is_multicast):
        yield "it is an address of the machine's own network"


class HttpSystems:
    """``LiveSystems`` of one tenant. ``close`` closes its connections."""

    def __init__(self, accesses: Mapping[str, SystemAccess], *, clock: Clock) -> None:
        self._systems = {name: _HttpSystem(access, clock=clock) for name, access in accesses.items()}

    async def get(self, request: SystemRequest, *, deadline: Deadline, most_bytes: int) -> SystemResponse:
        system = self._systems.get(request.system)
        if system is None:
            raise LiveReadError(
                ElementProblem.SYSTEM_UNAVAILABLE, f"The address of {request.system} is not configured here."
            )
        return await system.get(request, deadline=deadline, most_bytes=most_bytes)

    def has_open_circuit(self, system: str) -> bool:
        return self._systems[system].has_open_circuit

    async def close(self) -> None:
        for system in self._systems.values():
            await system.close()


class _HttpSystem:
    """One system: its connections, its credentials, its circuit."""

    def __init__(self, access: SystemAccess, *, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._url = checked_address(access.name, access.url)
        self._circuit = Circuit(clock=clock)
        self._budget = RetryBudget()
        self._in_progress = 0
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._credentials = _Credentials(access, clock=clock, send=self._post)

    @property
    def has_open_circuit(self) -> bool:
        return self._circuit.is_open

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, request: SystemRequest, *, deadline: Deadline, most_bytes: int) -> SystemResponse:
        if not self._circuit.allows():
            raise self._unavailable("it failed several times in a row")
        if self._in_progress >= _MOST_IN_PROGRESS:
            raise self._unavailable("too many requests are in progress")
        has_whole_time = deadline.remaining_s() >= (request.limit_s or 0.0) * _WHOLE_TIME
        self._in_progress += 1
        self._budget.earn()
        try:
            response = await self._with_retry(request, deadline=deadline, most_bytes=most_bytes)
        except LiveReadError as error:
            is_late = error.problem is ElementProblem.SYSTEM_LATE
            if error.problem is ElementProblem.SYSTEM_UNAVAILABLE or (is_late and has_whole_time):
                self._circuit.failed()
            raise
        finally:
            self._in_progress -= 1
        if response.status >= 500:
            self._circuit.failed()
        else:
            self._circuit.succeeded()
        return response

    async def _with_retry(
        self, request: SystemRequest, *, deadline: Deadline, most_bytes: int
    ) -> SystemResponse:
        """Call, and once more where a second call may help and the budget allows it."""
        used = _UsedToken()
        try:
            response = await self._once(request, used, deadline=deadline, most_bytes=most_bytes)
        except LiveReadError as error:
            if error.problem is not ElementProblem.SYSTEM_UNAVAILABLE or not self._may_repeat(deadline):
                raise
        else:
            if response.status == 401 and self._credentials.renew(used.token):
                pass
            elif response.status not in _WORTH_A_RETRY or not self._may_repeat(deadline):
                return response
        return await self._once(request, used, deadline=deadline, most_bytes=most_bytes)

    def _may_repeat(self, deadline: Deadline) -> bool:
        return deadline.remaining_s() > 0.0 and self._budget.spend()

    async def _once(
        self, request: SystemRequest, used: _UsedToken, *, deadline: Deadline, most_bytes: int
    ) -> SystemResponse:
        url = f"{self._url}{request.path}"
        if request.query:
            url = f"{url}?{urlencode(request.query, quote_via=quote)}"
        try:
            async with asyncio.timeout(deadline.within_s(deadline.remaining_s())):
                return await self._exchange(url, request, used, most_bytes)
        except (TimeoutError, DeadlineExceededError):
            name = self._access.name
            raise LiveReadError(
                ElementProblem.SYSTEM_LATE, f"{name} did not answer in time. Retry shortly."
            ) from None
        except _SSL_ERRORS:
            raise self._invalid("its certificate is not one of its name") from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError):
            raise self._invalid("the response is no whole HTTP") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(type(error).__name__) from None
        except (DependencyError, ConfigurationError) as error:  # of credentials
            raise self._unavailable(error.message.rstrip(".")) from None

    async def _exchange(
        self, url: str, request: SystemRequest, used: _UsedToken, most_bytes: int
    ) -> SystemResponse:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Host": self._host}
        if request.agent is not None:
            headers[AGENT_HEADER] = _header_value(request.agent)
        headers = dict(await self._credentials.authorised(url, headers, used))
        async with (await self._opened()).get(
            URL(url, encoded=True), headers=headers, allow_redirects=False, **self._tls()
        ) as response:
            if 300 <= response.status < 400:
                raise self._invalid("it redirects, which is never followed")
            if response.status != 200:
                response.close()
                return SystemResponse(response.status, response.content_type, b"")
            body = await self._body(response, most_bytes)
            return SystemResponse(200, response.headers.get("Content-Type", ""), body)

    async def _body(self, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        """Return the body. Raises LiveReadError before more than its bound is held."""
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            response.close()
            raise self._invalid("the response is compressed, which was not asked for")
        body = bytearray()
        length = response.content_length
        if length is None or length <= most_bytes:
            async for part in response.content.iter_any():
                body += part
                if len(body) > most_bytes:
                    break
            else:
                return bytes(body)
        response.close()
        raise self._invalid(f"the response is larger than {most_bytes} bytes")

    async def _post(self, form: Mapping[str, str]) -> bytes:
        """Return the body of the system's token endpoint. Raises DependencyError."""
        async with (await self._opened()).post(
            URL(f"{self._url}{self._access.token_path}", encoded=True),
            data=dict(form),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "Host": self._host},
            allow_redirects=False,
            **self._tls(),
        ) as response:
            if response.status != 200:
                response.close()
                raise DependencyError(f"no token was given (status {response.status})")
            return await self._body(response, _LARGEST_TOKEN_BYTES)

    @property
    def _host(self) -> str:
        return self._access.host_name or urlsplit(self._url).netloc

    def _tls(self) -> dict[str, Any]:
        name = self._access.host_name
        return {"server_hostname": name} if name is not None and self._url.startswith("https") else {}

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:  # reading the authorities takes 20 ms of CPU: one request does it
            if self._session is None:
                context = await asyncio.to_thread(ssl.create_default_context, cadata=self._access.ca_pem)
                self._session = self._session_with(context)
        return self._session

    def _session_with(self, context: ssl.SSLContext) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
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

    def _unavailable(self, why: str) -> LiveReadError:
        return LiveReadError(
            ElementProblem.SYSTEM_UNAVAILABLE, f"{self._access.name} cannot be reached: {why}. Retry shortly."
        )

    def _invalid(self, why: str) -> LiveReadError:
        return LiveReadError(
            ElementProblem.SYSTEM_INVALID, f"{self._access.name} gave a response that cannot be used: {why}."
        )


@dataclass(slots=True)
class _UsedToken:
    """The bearer token that one request was sent with; None for other ways to prove who calls."""

    token: str | None = None


@dataclass(slots=True)
class _Credentials:
    """The headers that prove who calls. Secrets and tokens are kept for minutes, and renewed when refused."""

    access: SystemAccess
    clock: Clock
    send: Callable[[Mapping[str, str]], Awaitable[bytes]]
    _token: str | None = None
    _until_s: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def authorised(self, url: str, headers: Mapping[str, str], used: _UsedToken) -> Mapping[str, str]:
        """Return the headers of a request, and note in ``used`` the token that they have."""
        if self.access.auth == "none":
            return headers
        if self.access.auth == "sigv4":
            if self.access.sign is None:
                raise ConfigurationError("no credentials to sign with")
            return await self.access.sign(url, headers)
        used.token = await self._bearer()
        return {**headers, "Authorization": f"Bearer {used.token}"}

    def renew(self, used: str | None) -> bool:
        """Forget the token that a system refused; return whether another one may be accepted.

        Of several requests that were refused at once only the first forgets it: what the others find is a
        newer token already, and they retry with that.
        """
        if used is None:
            return False
        if self._token == used:
            self._token = None
        return True

    async def _bearer(self) -> str:
        async with self._lock:  # one of many waiting requests asks
            if self._token is None or self.clock.monotonic_s() >= self._until_s:
                self._token, for_s = await (self._stored() if self.access.auth == "token" else self._issued())
                self._until_s = self.clock.monotonic_s() + for_s
            return self._token

    async def _stored(self) -> tuple[str, float]:
        return _token_text(await self._secret()), _SECRET_FRESH_S

    async def _issued(self) -> tuple[str, float]:
        """Return a token for client credentials (RFC 6749, section 4.4), and its seconds."""
        client = _object(await self._secret(), "the secret")
        form = {
            "grant_type": "client_credentials",
            "client_id": str(client.get("client_id", "")),
            "client_secret": str(client.get("client_secret", "")),
        }
        issued = _object(await self.send(form), "the token endpoint's response")
        for_s = issued.get("expires_in", _SECRET_FRESH_S)
        if not isinstance(for_s, int | float) or str(issued.get("token_type", "bearer")).lower() != "bearer":
            raise DependencyError("the token endpoint's response has another form")
        token = _token_text(str(issued.get("access_token", "")).encode())
        return token, min(max(0.0, for_s - _TOKEN_MARGIN_S), _LONGEST_TOKEN_S)

    async def _secret(self) -> bytes:
        if self.access.secret is None:
            raise ConfigurationError("its secret is not configured")
        return await self.access.secret()


def _token_text(secret: bytes) -> str:
    token = secret.decode("ascii", "replace").strip()
    if not token or not token.isprintable() or " " in token:
        raise ConfigurationError("its token is not one line of ASCII")
    return token


def _object(body: bytes, what: str) -> Mapping[str, Any]:
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise DependencyError(f"{what} is no JSON object")
    return cast("dict[str, Any]", found)


def _header_value(text: str) -> str:
    """Return an agent's id as a header carries it: percent-encoded where it is not plain ASCII."""
    return quote(text, safe="!#$&'*+-./:=?@^_`|~")
