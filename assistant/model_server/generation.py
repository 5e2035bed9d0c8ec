"""Chat completions over HTTP as OpenAI (and vLLM) answer them, proxied to llama.cpp on loopback.

Unknown request fields are ignored, as OpenAI's servers do; a known field that is not served and would change
the answer is refused. Each slot has its own llama.cpp server, which computes one answer alone from its first
token, so that at temperature 0 the same prompt gives the same bytes (docs/decisions/0027). Closing a
connection frees its slot within milliseconds, except while a prompt is read.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from assistant.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    OverloadedError,
    UnreadableRequestError,
)
from assistant.model_server.weights import Weights
from assistant.process.http import send_response
from assistant.process.settings import ModelServerSettings

_CONNECT_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 60.0
"""Longest wait between two reads from the runtime: even a long prompt takes seconds, not a minute."""
_STREAM_TIMEOUT_S = 480.0
"""SageMaker ends every stream after 8 minutes."""
_HEALTH_TIMEOUT_S = 1.5
"""SageMaker wants an answer to a ping within 2 s."""
_CONTEXT_ERROR = "exceed_context_size_error"
"""llama.cpp's type of the error for a prompt that is too long."""


@asynccontextmanager
async def open_generation(
    runtime: LlamaRuntime, *, admission: Admission, context_tokens: int
) -> AsyncGenerator[GenerationTask]:
    """Yield the task of a running runtime; close its connections at the end."""
    async with aiohttp.ClientSession(
        headers=runtime.authorization,
        # No limit here: admission is one. No idle connections: the runtime keeps a thread for each, and
        # closes it after 5 s, perhaps while a request is on its way.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(
            total=_STREAM_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENCE_TIMEOUT_S
        ),
    ) as connections:
        yield GenerationTask(runtime.addresses, connections, admission, context_tokens)


class GenerationTask:
    """Proxies each request to a free slot of a running runtime; ``Container`` calls it."""

    def __init__(
        self,
        addresses: Sequence[str],
        connections: aiohttp.ClientSession,
        admission: Admission,
        context_tokens: int,
    ) -> None:
        self._connections = connections
        self._admission = admission
        self._context_tokens = context_tokens
        self._addresses = addresses
        self._free = deque(self._addresses)
        """Addresses of free slots, the longest free first, since one whose client left may still read its
        prompt. Never empty inside ``admission.slot()``, which lets in as many requests as there are slots."""

    async def healthy(self) -> bool:
        """Return whether every slot answers."""
        return all(await asyncio.gather(*map(self._is_healthy, set(self._addresses))))

    async def _is_healthy(self, address: str) -> bool:
        """Return whether one slot's server answers that it is healthy."""
        timeout = aiohttp.ClientTimeout(total=_HEALTH_TIMEOUT_S)
        try:
            async with self._connections.get(f"{address}/health", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def invoke(self, body: bytes, *, send: Send) -> None:
        """Answer one chat request from a free slot; errors of the request and a full queue as OpenAI does.
        It is cancelled when the client disconnects."""
        try:
            request = parse_chat_request(body)
            async with self._admission.slot():
                address = self._free.popleft()
                try:
                    await self._generate(request, send, address=address)
                finally:
                    self._free.append(address)
        except (UnreadableRequestError, InvalidRequestError) as error:
            await send_response(_error(400, error.message, kind="invalid_request_error"), send)
        except OverloadedError as error:
            await send_response(_error(429, error.message, kind="rate_limit_error", code="queue_full"), send)

    def refuse(self, status: int, message: str) -> Response:
        return _error(status, message, kind="invalid_request_error" if status < 500 else "server_error")

    async def _generate(self, request: ChatRequest, send: Send, *, address: str) -> None:
        """Send the request to a slot, and its response to the client: an error, a stream, or a whole
        answer."""
        response = await self._connections.post(
            f"{address}/v1/chat/completions",
            data=request.for_runtime(most_tokens=self._context_tokens),
            headers={"Content-Type": "application/json"},
        )
        try:
            if response.status != 200:
                await send_response(_translated(response.status, await response.read()), send)
            elif request.stream:
                headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
                await send_response(StreamingResponse(response.content.iter_any(), headers=headers), send)
            else:
                await send_response(Response(await response.read(), media_type="application/json"), send)
        finally:
            if not response.content.at_eof():
                response.close()  # at once: only a closed connection stops the runtime's generation


def _translated(status: int, body: bytes) -> Response:
    """Return the runtime's error in OpenAI's form."""
    try:
        error = cast("dict[str, Any]", orjson.loads(body))["error"]
        kind, message = str(error["type"]), str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _error(502, "The runtime answered garbage.", kind="server_error")
    if kind == _CONTEXT_ERROR:
        found = f"The prompt has {error.get('n_prompt_tokens')} tokens, the context {error.get('n_ctx')}."
        return _error(400, found, kind="invalid_request_error", code="context_length_exceeded")
    return _error(status, message, kind=kind)


def _error(status: int, message: str, *, kind: str, code: str | None = None) -> Response:
    """Return an error response in OpenAI's form; ``kind`` is its ``type``."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Response(orjson.dumps({"error": error}), status, media_type="application/json")


# --- admission ------------------------------------------------------------------------------------------


LONGEST_WAIT_S = 60.0
"""SageMaker gives up on a response that has not begun after 60 s."""


class Admission:
    """Limits requests: ``slots`` run at once, ``queue_size`` wait in order of arrival, further ones are
    refused."""

    def __init__(self, *, slots: int, queue_size: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._queue_size = queue_size
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._waiting

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Hold a slot. Raises OverloadedError when the queue is full, or no slot came free in time."""
        if self._slots.locked() and self._waiting >= self._queue_size:
            raise OverloadedError("Every slot of the model is taken and its queue is full; try again later.")
        self._waiting += 1
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise OverloadedError(f"No slot of the model came free within {LONGEST_WAIT_S:.0f} s.") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()


# --- requests -------------------------------------------------------------------------------------------


_UNSERVED_KINDS = ("audio", "prediction", "modalities", "response_format")
# Fields of OpenAI's API that are refused where they have a value
_NOT_SERVED = ("tools", "functions", "logprobs", "logit_bias", *_UNSERVED_KINDS)


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: StrictStr


class ChatRequest(BaseModel):
    """The fields of a request that are served."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    messages: list[_Message] = Field(min_length=1)
    stream: StrictBool = False
    stream_options: dict[str, StrictBool] | None = None
    max_tokens: StrictInt | None = Field(default=None, ge=1)
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0, strict=True)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0, strict=True)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0, strict=True)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0, strict=True)
    seed: StrictInt | None = None
    stop: StrictStr | list[StrictStr] | None = None
    n: Literal[1] | None = None

    def for_runtime(self, *, most_tokens: int) -> bytes:
        """Return the JSON body for the runtime's chat route. ``most_tokens``: limit of ``max_tokens``, and
        its default."""
        data = self.model_dump(exclude_none=True, exclude={"max_completion_tokens", "n"})
        wanted_tokens = self.max_completion_tokens or self.max_tokens or most_tokens
        data["max_tokens"] = min(wanted_tokens, most_tokens)
        if self.seed is not None:
            data["seed"] = self.seed & 0xFFFFFFFF  # the runtime's seed has 32 bits
        return orjson.dumps(data)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read a request. Raises UnreadableRequestError (not JSON), InvalidRequestError (names the field)."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnreadableRequestError("The body is not UTF-8 JSON.") from None
    if isinstance(data, dict):
        for name in _NOT_SERVED:
            if data.get(name):  # pyright: ignore[reportUnknownMemberType]
                raise InvalidRequestError(f"{name}: not served by this model.")
    try:
        return ChatRequest.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "the body"
        raise InvalidRequestError(f"{place}: {fault['msg']}") from None


# --- the runtime (llama.cpp) ----------------------------------------------------------------------------


_PROMPT_BATCH_TOKENS = 256
"""Tokens of a prompt that the runtime reads in one step."""
_CACHE_RAM_MIB = 0
"""No prompts of finished requests are kept; by default they take up to 8 GiB."""
_SPARE_HTTP_THREADS = 4
"""HTTP threads beside the one that serves the slot's request."""


class LlamaRuntime:
    """A model that llama.cpp runs in this process, with an HTTP server for each slot.

    ``start`` before the first request, ``close`` at the end. A request needs the headers ``authorization``.
    """

    def __init__(self, path: Path, *, model: str, slots: int, context_tokens: int, threads: int) -> None:
        self._path = path
        self._model = model
        self._slots = slots
        self._context_tokens = context_tokens
        self._threads = threads
        self.servers: list[Any] = []
        """Objects of xllamacpp, one a slot; dropping one stops its server."""
        self.api_key = secrets.token_urlsafe(32)

    @classmethod
    def started(cls, weights: Weights, settings: ModelServerSettings) -> LlamaRuntime:
        """Return a started runtime of the weights. Raises ConfigurationError."""
        runtime = cls(
            weights.path,
            model=weights.name,
            slots=settings.slots,
            context_tokens=settings.context_tokens,
            threads=settings.threads,
        )
        runtime.start()
        return runtime

    def start(self) -> None:
        """Load the model and open the ports. Raises ConfigurationError when the weights cannot be loaded."""
        xllamacpp: Any = import_module("xllamacpp")
        try:
            for _ in range(self._slots):
                self.servers.append(xllamacpp.Server(self._parameters(xllamacpp)))
        except RuntimeError as error:
            raise ConfigurationError(f"{self._path}: the weights cannot be loaded: {error}") from None

    @property
    def address(self) -> str:
        """Base URL of the first slot on the loopback interface."""
        return self.addresses[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Base URLs on the loopback interface, one a slot; a slot takes one request at once."""
        return tuple(str(server.listening_address) for server in self.servers)

    @property
    def authorization(self) -> dict[str, str]:
        """The header that every request to the servers needs."""
        return {"Authorization": f"Bearer {self.api_key}"}

    def close(self) -> None:
        """Stop the runtime; running generations end at once."""
        self.servers = []

    def _parameters(self, xllamacpp: Any) -> Any:
        """Return the parameters of one slot's server, in llama.cpp's names."""
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._path)
        parameters.model_alias = {self._model}
        # Answers in one batch, and prompts that are partly cached, are computed by other kernels than an
        # answer alone from its first token: numbers differ in the last bits, and then words do. So neither is
        # used.
        parameters.n_parallel = 1
        parameters.cache_prompt = False
        parameters.n_ctx = self._context_tokens
        # With several servers, weights are mapped, one copy for all; repacked ones would be a copy each.
        parameters.no_extra_bufts = self._slots > 1
        parameters.fit_params = False
        parameters.n_batch = parameters.n_ubatch = _PROMPT_BATCH_TOKENS
        # Half of the threads, for prompts too: a server's threads wait for each other by spinning, and beside
        # other busy processes a prompt of 500 tokens took 36 s with two threads, 9 s with one.
        threads = max(1, min(self._threads // 2, self._threads // self._slots))
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.cache_ram_mib = _CACHE_RAM_MIB
        parameters.n_threads_http = 1 + _SPARE_HTTP_THREADS
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [self.api_key]
        parameters.ui = False
        parameters.sse_ping_interval = -1
        parameters.verbosity = 0
        return parameters
