"""Parsing on AWS: a function without rights reads what others wrote, and the functions of documents call it.

This file has both sides, so that they agree on the order and the frames; they run on different machines.
``ParsingFunction`` is the caller, in the functions that receive and index documents. ``Parser`` is the
callee, the handler of ``lambdas/parse_documents.py``. One call::

    caller  puts     parsing/5f1c…/requests            a frame (``parsing_process.frame``)
    caller  invokes  parse_documents with a ``ParsingOrder``, whose addresses are valid for a minute
    parser  gets     requests, and the tokenizer if its child was started with another
    parser  posts    parsing/5f1c…/answers             a frame: {} and a body, or
                                                       {"stopped": "Parsing took …"} without one
    caller  gets     answers, and deletes every version below parsing/5f1c…/

The answers are believed as little as a child's (docs/decisions/0126-the-parser-has-no-rights.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import uuid
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field
from yarl import URL

from assistant.documents.parsing_process import (
    MALFORMED,
    ParsingProcess,
    ParsingRequest,
    frame,
    frames,
)
from assistant.domain.errors import DependencyError, ParsingStoppedError, TooLargeError
from assistant.process.aws import LIMITS, aws_call
from assistant.process.settings import PARSING_PREFIX, SCRATCH
from assistant.process.telemetry import configure_logging
from assistant.stores.documents import LONGEST_CONTENT_BYTES
from assistant.stores.s3 import S3Blobs

ADDRESS_LIFE_S = 60
_HTTP_TIMEOUT_S = 15.0
_STOPPED = "Parsing ended its function, by memory or time. Split the document, or simplify its markup."
_ENDED_BY_LAMBDA = frozenset({None, "Sandbox.Timedout", "Runtime.ExitError", "Runtime.OutOfMemory"})
"""``errorType`` in the payload of a function that Lambda ended (None: the payload has no such field). Any
other, such as "DependencyError", is an exception of ``Parser``, which then can parse no document at all."""


class ParsingOrder(BaseModel):
    """The event of the parser: addresses that S3 accepts from anybody for a minute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: str = Field(repr=False)
    answers: str = Field(repr=False)
    form: dict[str, str] = Field(repr=False)
    """Fields that go before the answers, in a POST: a policy of key, size and time, and its signature."""
    tokenizer: str | None = Field(repr=False)
    tokenizer_sha256: str


@dataclass(slots=True)
class ParsingFunction:
    """``Parsing`` by the function ``name``. Open it on the event loop that serves its clients, S3's and
    Lambda's."""

    s3: Any
    functions: Any
    name: str
    bucket: str
    tokenizer_s3: str | None = None
    """``s3://bucket/key`` of the tokenizer that ``allow_reading`` names; None for a caller that only reads
    files: then nobody calls ``allow_reading``."""
    _tokenizer_sha256: str = ""
    """Empty until ``allow_reading``."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def allow_reading(self, file: Path) -> None:
        self._tokenizer_sha256 = hashlib.sha256(file.read_bytes()).hexdigest()

    def run(self, requests: Iterable[ParsingRequest]) -> Generator[bytes | ParsingStoppedError]:
        """As in ``Parsing``. Raises DependencyError."""
        for request in requests:
            # of clients on their event loop, from the thread that this method blocks
            yield asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result()

    async def _answer(self, request: ParsingRequest) -> bytes | ParsingStoppedError:
        """Call the function with this request and return its answer; an error where Lambda ended the
        function. An answer that is missing, too long or no frame is the error ``MALFORMED``."""
        folder = f"{uuid.uuid4().hex}/"
        what, limit = "The store of what is parsed", LONGEST_CONTENT_BYTES
        blobs = S3Blobs(self.s3, bucket=self.bucket, prefix=PARSING_PREFIX, what=what, longest_bytes=limit)
        try:
            await blobs.put(f"{folder}requests", request.frame)
            order = await self._order(f"{PARSING_PREFIX}{folder}")
            if not await self._has_returned(order):
                return ParsingStoppedError(_STOPPED)
            try:
                content = await blobs.get(f"{folder}answers")
            except TooLargeError:
                content = None
        finally:
            await blobs.purge(folder)
        return _read(content or b"")

    async def _order(self, folder: str) -> ParsingOrder:
        length = ["content-length-range", 0, LONGEST_CONTENT_BYTES]
        posted = await self.s3.generate_presigned_post(
            self.bucket, f"{folder}answers", Conditions=[length], ExpiresIn=ADDRESS_LIFE_S
        )
        return ParsingOrder(
            requests=await self._signed(f"s3://{self.bucket}/{folder}requests"),
            answers=posted["url"],
            form=posted["fields"],
            tokenizer=self.tokenizer_s3 and await self._signed(self.tokenizer_s3),
            tokenizer_sha256=self._tokenizer_sha256,
        )

    async def _signed(self, uri: str) -> str:
        place = urlsplit(uri)
        named = {"Bucket": place.netloc, "Key": place.path.lstrip("/")}
        address = await self.s3.generate_presigned_url("get_object", named, ExpiresIn=ADDRESS_LIFE_S)
        return str(address)

    async def _has_returned(self, order: ParsingOrder) -> bool:
        """Invoke the function and wait. Return whether its handler returned; False where Lambda ended it, by
        memory or time. Raises DependencyError where the handler raised, or cannot be invoked."""
        async with aws_call("The parser", limit_s=LIMITS["lambda"].read_timeout_s):
            response = await self.functions.invoke(
                FunctionName=self.name, Payload=order.model_dump_json().encode()
            )
            payload = await response["Payload"].read()
        if "FunctionError" not in response:
            return True
        kind = orjson.loads(payload).get("errorType")
        if kind in _ENDED_BY_LAMBDA:
            return False
        raise DependencyError(f"The parser failed ({kind}). See the log of the function parse_documents.")


def _read(content: bytes) -> bytes | ParsingStoppedError:
    """Return the answer in a frame (``_framed``), or an error for anything else: a parser that was taken over
    may have written it."""
    try:
        ((header, body),) = frames(content)
    except ValueError:
        return ParsingStoppedError(MALFORMED)
    return ParsingStoppedError(str(header["stopped"])) if "stopped" in header else body


class Parser:
    """The handler of ``parse_documents``. It has no settings and uses no credentials.

    The child is kept for the next call, and a new one started for another tokenizer: what a child may read
    is settled when it starts.
    """

    def __init__(self) -> None:
        self._process: ParsingProcess | None = None
        self._readable_sha256 = ""
        """The tokenizer that ``_process`` may read; "" for none."""

    def __call__(self, event: Any, _context: object) -> None:
        """Raises DependencyError where an address does not work, and LocalRuntimeError."""
        configure_logging()
        order = ParsingOrder.model_validate(event)
        process = self._process_for(order)
        # Replaces the caller's path of its tokenizer. Only "document" has a use for one, and its caller names
        # a hash.
        tokenizer = {"tokenizer": str(_path_of(order.tokenizer_sha256))}
        requests = (
            ParsingRequest(header["operation"], header | tokenizer, body)
            for header, body in frames(asyncio.run(_fetched(order.requests)))
        )
        content = b"".join(map(_framed, process.run(requests)))
        if len(content) > LONGEST_CONTENT_BYTES:
            content = b""  # no frame: the caller reads it as malformed answers
        asyncio.run(_posted(order, content))

    def close(self) -> None:
        """End the child, in a process that outlives its events: a test."""
        if self._process is not None:
            self._process.close()

    def _process_for(self, order: ParsingOrder) -> ParsingProcess:
        """Return a process whose child may read the order's tokenizer: the kept one, or a new one.

        Raises DependencyError where the tokenizer cannot be fetched. Then the kept process stays as it is.
        """
        sha256 = order.tokenizer_sha256
        if self._process is not None and sha256 in ("", self._readable_sha256):  # with "", any child will do
            return self._process
        process = ParsingProcess()
        if order.tokenizer is not None:
            content = asyncio.run(_fetched(order.tokenizer))
            if hashlib.sha256(content).hexdigest() != sha256:
                raise DependencyError("The tokenizer is another than the caller's. Start again.")
            _path_of(sha256).write_bytes(content)
            process.allow_reading(_path_of(sha256))
        self.close()
        self._process, self._readable_sha256 = process, sha256
        return process


def _path_of(sha256: str) -> Path:
    return SCRATCH / f"tokenizer-{sha256}.json"


def _framed(answer: bytes | ParsingStoppedError) -> bytes:
    """Return an answer as a frame, which the caller's ``_read`` takes apart."""
    return frame({}, answer) if isinstance(answer, bytes) else frame({"stopped": answer.message}, b"")


async def _fetched(address: str) -> bytes:
    return await _sent("GET", URL(address, encoded=True))


async def _posted(order: ParsingOrder, content: bytes) -> None:
    form = aiohttp.FormData()
    for name, value in order.form.items():
        form.add_field(name, value)
    form.add_field("file", io.BytesIO(content), filename="answers")  # S3 ignores what comes after the file
    await _sent("POST", URL(order.answers), data=form)


async def _sent(method: str, url: URL, *, data: aiohttp.FormData | None = None) -> bytes:
    """Return the body of the response. Raises DependencyError, without the address, which is a secret."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_HTTP_TIMEOUT_S)) as session,
            session.request(method, url, data=data, allow_redirects=False) as response,
        ):
            if response.ok:
                return await response.read()
            reason = f"status {response.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        reason = type(error).__name__
    raise DependencyError(f"S3 did not take a {method} of the parser ({reason}). Retry.")
