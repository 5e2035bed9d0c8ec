"""Parsing on AWS: a Lambda function without permissions parses files of others; functions of documents call
it.

The caller is ``ParsingFunction``. It puts the requests of one file below a random prefix of the documents
bucket, signs an address to read them and one to write the answers, both for a minute, and calls the parser
(``Parser``). Then it reads the answers, which are not trusted, since a file may have taken the parser over,
and deletes every version below the prefix (docs/decisions/0126-the-parser-has-no-rights.md).

Requests and answers are *frames*: a JSON header and bytes (``parsing_process.frame``).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import uuid
from collections.abc import Coroutine, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field
from yarl import URL

from assistant.documents.parsing_process import (
    MALFORMED,
    ParsingLimits,
    ParsingProcess,
    ParsingRequest,
    frame,
    frames,
)
from assistant.domain.errors import DependencyError, ParsingStoppedError, TooLargeError
from assistant.process.aws import LIMITS, aws_call
from assistant.process.settings import PARSING_PREFIX, SCRATCH
from assistant.process.telemetry import configure_logging
from assistant.stores.documents import DOCUMENT_BLOBS
from assistant.stores.s3 import S3Blobs

ADDRESS_LIFE_S = 60
"""Seconds for which a signed address is valid."""
LONGEST_ANSWER_BYTES = DOCUMENT_BLOBS.longest_bytes or 0
"""Of all answers of a call together: the most that the document store takes."""
_LIMITS = ParsingLimits()
_HTTP_TIMEOUT_S = 15.0
_STOPPED = "Parsing ended its function, by memory or time. Split the document, or simplify its markup."
_ENDED = frozenset({None, "Sandbox.Timedout", "Runtime.ExitError", "Runtime.OutOfMemory"})
"""Values of ``errorType`` where Lambda ended the function while it parsed. With any other the parser cannot
work at all."""
_Result = TypeVar("_Result")
_Answers = list[bytes | ParsingStoppedError]


class ParsingOrder(BaseModel):
    """The event that the parser gets: signed addresses, which S3 accepts from anybody for a minute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: str = Field(repr=False)
    """Address to read the requests from, by GET."""
    answers: str = Field(repr=False)
    """Address to send the answers to, by POST with ``form``."""
    form: dict[str, str] = Field(repr=False)
    """Fields that go before the answers, in a POST: a policy of key, size and time, and its signature."""
    tokenizer: str | None = Field(repr=False)
    """Address of the tokenizer's file; None: nothing that is parsed needs one."""
    tokenizer_sha256: str


@dataclass(slots=True)
class ParsingFunction:
    """A ``Parsing`` that calls the Lambda function ``name``. Make it on the event loop of its clients, S3's
    and Lambda's; call ``run`` from another thread."""

    s3: Any
    functions: Any
    name: str
    bucket: str
    tokenizer_s3: str | None = None
    """``s3://bucket/key`` of the tokenizer that ``allow_reading`` names."""
    _tokenizer_sha256: str = ""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def allow_reading(self, file: Path) -> None:
        """As in ``Parsing``: name the tokenizer, before the first ``run``."""
        self._tokenizer_sha256 = hashlib.sha256(file.read_bytes()).hexdigest()

    def run(self, requests: Iterable[ParsingRequest]) -> Generator[bytes | ParsingStoppedError]:
        """As in ``Parsing``. Raises DependencyError."""
        for call in _calls(requests):
            answers = self._here(self._answers(call))
            if answers is None and len(call) > 1:  # again one by one: only the line that ends it fails
                for request in call:
                    yield from self._here(self._answers([request])) or [ParsingStoppedError(_STOPPED)]
            else:
                yield from answers or [ParsingStoppedError(_STOPPED)]

    def _here(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """Return the result of a coroutine that runs on the clients' loop."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    async def _answers(self, requests: list[ParsingRequest]) -> _Answers | None:
        """Return one answer a request; None where Lambda ended the function while it parsed them. Raises
        DependencyError."""
        folder = f"{uuid.uuid4().hex}/"
        what, limit = "The store of what is parsed", LONGEST_ANSWER_BYTES
        blobs = S3Blobs(self.s3, bucket=self.bucket, prefix=PARSING_PREFIX, what=what, longest_bytes=limit)
        try:
            await blobs.put(f"{folder}requests", b"".join(request.frame for request in requests))
            order = await self._order(f"{PARSING_PREFIX}{folder}")
            if not await self._called(order):
                return None
            try:
                content = await blobs.get(f"{folder}answers")
            except TooLargeError:
                content = None
        finally:
            await blobs.purge(folder)
        return _read(content or b"", number=len(requests))

    async def _order(self, folder: str) -> ParsingOrder:
        """Return the event for the requests in a folder of the bucket."""
        length = ["content-length-range", 0, LONGEST_ANSWER_BYTES]
        post = await self.s3.generate_presigned_post(
            self.bucket, f"{folder}answers", Conditions=[length], ExpiresIn=ADDRESS_LIFE_S
        )
        return ParsingOrder(
            requests=await self._signed(f"s3://{self.bucket}/{folder}requests"),
            answers=post["url"],
            form=post["fields"],
            tokenizer=self.tokenizer_s3 and await self._signed(self.tokenizer_s3),
            tokenizer_sha256=self._tokenizer_sha256,
        )

    async def _signed(self, uri: str) -> str:
        """Return an address that reads ``s3://bucket/key`` for a minute."""
        place = urlsplit(uri)
        location = {"Bucket": place.netloc, "Key": place.path.lstrip("/")}
        address = await self.s3.generate_presigned_url("get_object", location, ExpiresIn=ADDRESS_LIFE_S)
        return str(address)

    async def _called(self, order: ParsingOrder) -> bool:
        """Call the function; return whether it ended by itself, and not by Lambda. Raises DependencyError
        where it cannot work."""
        async with aws_call("The parser", limit_s=LIMITS["lambda"].read_timeout_s):
            response = await self.functions.invoke(
                FunctionName=self.name, Payload=order.model_dump_json().encode()
            )
            payload = await response["Payload"].read()
        if "FunctionError" not in response:
            return True
        kind = orjson.loads(payload).get("errorType")
        if kind in _ENDED:
            return False
        raise DependencyError(f"The parser failed ({kind}). See the log of the function parse_documents.")


def _calls(requests: Iterable[ParsingRequest]) -> Iterator[list[ParsingRequest]]:
    """Yield the requests of one call: a single file or document, or as many lines of a file as ``_LIMITS``
    have room for."""
    call: list[ParsingRequest] = []
    for request in requests:
        are_lines = bool(call) and call[-1].operation == request.operation == "line"
        if call and not (are_lines and _LIMITS.has_room(call)):
            yield call
            call = []
        call.append(request)
    if call:
        yield call


def _read(content: bytes, *, number: int) -> _Answers:
    """Return one answer a request from the answers' file, or failures for all where the file does not fit the
    requests: the parser may have been taken over."""
    try:
        found = list(frames(content))
    except ValueError:
        found = []
    if len(found) != number:
        return [ParsingStoppedError(MALFORMED) for _ in range(number)]
    return [
        ParsingStoppedError(str(header["stopped"])) if "stopped" in header else body for header, body in found
    ]


class Parser:
    """The handler of ``parse_documents``. It has no settings and uses no credentials.

    It parses in a child process, which is kept for the next call. For another tokenizer a new child is
    started, since the files that a child may read are fixed when it starts.
    """

    def __init__(self) -> None:
        self._process: ParsingProcess | None = None
        self._tokenizer = ""

    def __call__(self, event: Any, _context: object) -> None:
        """Raises DependencyError where an address does not work, and LocalRuntimeError."""
        configure_logging()
        order = ParsingOrder.model_validate(event)
        process = self._started(order)
        tokenizer = {"tokenizer": str(_path_of(order.tokenizer_sha256))}
        requests = (
            ParsingRequest(header["operation"], header | tokenizer, body)
            for header, body in frames(asyncio.run(_fetched(order.requests)))
        )
        content = b"".join(map(_framed, process.run(requests)))
        if len(content) > LONGEST_ANSWER_BYTES:
            content = b""  # the caller takes it as a failure of each request
        asyncio.run(_posted(order, content))

    def close(self) -> None:
        """End the child. Only tests call it: their process outlives the events."""
        if self._process is not None:
            self._process.close()

    def _started(self, order: ParsingOrder) -> ParsingProcess:
        """Return the child that has the order's tokenizer."""
        wanted = order.tokenizer_sha256
        if self._process is None or wanted not in ("", self._tokenizer):
            self.close()
            self._process, self._tokenizer = ParsingProcess(), wanted
            if order.tokenizer is not None:
                content = asyncio.run(_fetched(order.tokenizer))
                if hashlib.sha256(content).hexdigest() != wanted:
                    raise DependencyError("The tokenizer is another than the caller's. Start again.")
                _path_of(wanted).write_bytes(content)
                self._process.allow_reading(_path_of(wanted))
        return self._process


def _path_of(sha256: str) -> Path:
    return SCRATCH / f"tokenizer-{sha256}.json"


def _framed(answer: bytes | ParsingStoppedError) -> bytes:
    """Return an answer as a frame: its bytes, or the reason in the header ``stopped``."""
    return frame({}, answer) if isinstance(answer, bytes) else frame({"stopped": answer.message}, b"")


async def _fetched(address: str) -> bytes:
    return await _sent("GET", URL(address, encoded=True))


async def _posted(order: ParsingOrder, content: bytes) -> None:
    """Send the answers to the order's address. Raises DependencyError."""
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
