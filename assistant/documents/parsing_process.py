"""Starts and limits the child process that parses untrusted text: the parsing process.

Everything that reads the content of a file runs in it: front matter, JSON lines, bodies, passages, cards
(docs/decisions/0034). The child has no credentials, no environment variable that names some, and no way to
files, network and other processes, as far as the kernel refuses them (docs/decisions/0124). Its answers are
validated as untrusted data.

A frame on the pipe is ``length of header, length of body`` (4 bytes each, big-endian), a JSON header and a
body. The child answers frames in order: when it ends, the oldest frame without an answer was in progress.

    with ParsingProcess() as parsing:
        request = ParsingRequest("page", {"name": "fees.md", "is_markdown": True}, b"# Fees")
        [answer] = parsing.run([request])  # JSON for ``files.read_items``, or a ParsingStoppedError
"""

from __future__ import annotations

import ctypes
import os
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from assistant.domain.errors import LocalRuntimeError, ParsingStoppedError, TooLargeError

_log = structlog.get_logger(__name__)
LENGTHS = struct.Struct(">II")
OUT_OF_MEMORY = 86
"""Exit status of a child that exceeded its memory limit. It exits with no other status of its own."""
_PR_SET_DUMPABLE = 4
"""Number of the option of prctl."""
_READ_BYTES = 1 << 18
_WRITE_BYTES = 1 << 16
"""The capacity of a pipe."""
_START_TIMEOUT_S = 60.0
"""Limit for the child's imports, on a busy machine."""
_EXIT_TIMEOUT_S = 5.0
"""Limit for its exit after it closed its pipe."""
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "TESSDATA_PREFIX")
"""Environment variables that the child inherits. None holds a secret."""
_SCAN_READER = "tesseract"
"""The program that a child may start, if its requests name languages of scans (``header["ocr"]``)."""
_Answer = TypeVar("_Answer")
MALFORMED = "The parsing process answered something else. Look at the document before you add it again."
"""The reason of an answer that is not what its request asks for."""
_SPLIT = "and was stopped. Split the document, or simplify its markup, and add it again."


@dataclass(frozen=True, slots=True)
class ParsingLimits:
    """The limits for one document, or one block of lines of a file."""

    cpu_s: int = 20
    """Three times what the largest accepted file (5 MB of Markdown) needs."""
    wall_s: float = 90.0
    """Longer than ``cpu_s``, for a machine that is busy."""
    memory_mib: int = 1024
    """Address space of the child, some 300 MiB of it for its libraries."""
    idle_s: int = 30
    """The child ends when no request comes for so long: it has 75 MiB of memory, and starts in 0.5 s."""
    in_flight_bytes: int = 1 << 21
    in_flight: int = 32
    """Frames, and bytes of their bodies, without an answer at which no further frame is sent; the last one
    may go over the bytes."""

    def has_room(self, sent: Collection[ParsingRequest]) -> bool:
        """Return whether one more request may be sent beside these."""
        sent_bytes = sum(len(request.body) for request in sent)
        return len(sent) < self.in_flight and sent_bytes < self.in_flight_bytes


@dataclass(frozen=True, slots=True)
class ParsingRequest:
    """A file, lines of one, or a document for the parsing process. ``parsing_child`` reads the header by the
    operation:

    page {name, is_markdown}, file {name, ocr}, lines {name, first, sample} (number of its first line, first
    lines of the file), json {name}, stored {name}, document {tokenizer, max_tokens, language, content_hash,
    received_at}, body {} (its links), text {}. The first five may have ``with_text``.
    """

    operation: str
    """A key of ``parsing_child._OPERATIONS``."""
    header: Mapping[str, object]
    body: bytes
    file: Path | None = None
    """The file whose whole content is the body, if the original is to be kept; None otherwise. It is not
    sent."""
    wall_s: float | None = None
    """Limit for this request; None: ``ParsingLimits.wall_s``."""

    @property
    def frame(self) -> bytes:
        return frame({"operation": self.operation, **self.header}, self.body)


def frame(header: Mapping[str, object], body: bytes) -> bytes:
    """Return a request or an answer as it is on the pipe."""
    head = orjson.dumps(header)
    return LENGTHS.pack(len(head), len(body)) + head + body


def frames(content: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield header and body of each frame. Raises ValueError for anything else."""
    rest = memoryview(content)
    while rest:
        begin, end = _body_in(rest)
        header = orjson.loads(rest[LENGTHS.size : begin]) if end <= len(rest) else None
        if not isinstance(header, dict):
            raise ValueError("A frame is incomplete, or its header is no object.")  # noqa: TRY004
        yield cast("dict[str, Any]", header), bytes(rest[begin:end])
        rest = rest[end:]


def _body_in(content: bytearray | memoryview) -> tuple[int, int]:
    """Return where the body of the first frame begins and ends. An incomplete frame ends behind the
    content."""
    if len(content) < LENGTHS.size:
        return LENGTHS.size, LENGTHS.size
    header_bytes, body_bytes = LENGTHS.unpack_from(content)
    begin = LENGTHS.size + header_bytes
    return begin, begin + body_bytes


class Parsing(Protocol):
    """Parses what others wrote, where it can do no harm: ``ParsingProcess``, or on AWS ``ParsingFunction``, a
    function without rights.

    ``SeparateParser`` calls ``allow_reading`` once, when it is made and before any ``run``; ``run`` may be
    called again when its generator is finished or closed.
    """

    def allow_reading(self, file: Path) -> None:
        """Let the parser read this file: the tokenizer, by its resolved path."""
        ...

    def run(self, requests: Iterable[ParsingRequest]) -> Generator[bytes | ParsingStoppedError]:
        """Yield one answer per request, in order: its body, or the error of a request that ended the parser.

        The body is untrusted: ``read_answer`` validates it. It blocks its thread: never call it on an event
        loop, and call it in one thread at a time. Raises LocalRuntimeError or DependencyError if no document
        can be parsed.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Child:
    """A running child, its two pipes, which do not block, and the bytes that are on their way.

    ``send`` only adds to ``_unsent``; ``receive`` moves bytes in both directions.
    """

    process: subprocess.Popen[bytes]
    to_child: IO[bytes]
    from_child: IO[bytes]
    _unsent: bytearray = field(default_factory=bytearray)
    """Frames, or the rest of one, that the child's pipe had no room for yet."""
    _received: bytearray = field(default_factory=bytearray)
    """Bytes from the child that are no complete frame yet."""

    @classmethod
    def start(cls, environment: Mapping[str, str]) -> _Child:
        """Start a child. Its first frame is a greeting, which answers no request."""
        command = [sys.executable, "-P", "-m", "assistant.documents.parsing_child"]
        new = subprocess.PIPE
        process = subprocess.Popen(command, stdin=new, stdout=new, env=environment, bufsize=0)
        child = cls(process, cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout))
        for pipe in (child.to_child, child.from_child):
            os.set_blocking(pipe.fileno(), False)
        return child

    def send(self, request: ParsingRequest) -> None:
        """Add the request to what ``receive`` writes to the pipe."""
        self._unsent.extend(request.frame)

    def receive(self, *, timeout_s: float, most_bytes: int) -> bytes | None:
        """Send and receive until one answer is complete. Return its body; None if the child closed its pipe.

        Raises TimeoutError, and TooLargeError for an answer that the child's own memory could not have held.
        """
        end_s = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.from_child, selectors.EVENT_READ)
            if self._unsent:
                selector.register(self.to_child, selectors.EVENT_WRITE)
            while (body := self._take_answer(most_bytes)) is None:
                events = selector.select(max(0.0, end_s - time.monotonic()))
                if not events:
                    raise TimeoutError
                for key, _ in events:
                    if key.fileobj is self.to_child:
                        self._write_some()
                        if not self._unsent:
                            selector.unregister(self.to_child)
                    elif read := os.read(key.fd, _READ_BYTES):
                        self._received.extend(read)
                    else:
                        return None
        return body

    def _write_some(self) -> None:
        """Write as much of ``_unsent`` as the pipe takes now."""
        try:
            del self._unsent[: os.write(self.to_child.fileno(), self._unsent[:_WRITE_BYTES])]
        except BrokenPipeError:
            self._unsent.clear()  # the child ended: reading from the other pipe shows it

    def _take_answer(self, most_bytes: int) -> bytes | None:
        """Remove the first frame of ``_received`` and return its body; None while it is incomplete. Raises
        TooLargeError."""
        begin, end = _body_in(self._received)
        if end > most_bytes:
            raise TooLargeError(f"An answer of {end:,} bytes.")
        if len(self._received) < end:
            return None
        body = bytes(self._received[begin:end])
        del self._received[:end]
        return body

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.to_child.close()
        self.from_child.close()


@dataclass(frozen=True, slots=True)
class _Ended:
    """Why a child gave no answer; it is ended."""

    reason: str
    """For the owner of the document."""
    retry: bool
    """Whether earlier requests may be the cause, as with memory: then the request is sent once more to a new
    child."""


class ParsingProcess:
    """Runs requests in a child that starts with the first request and ends with ``close``, or when idle.

    A request that ends the child, by a limit or a crash, gets an error; a new child answers the requests
    after it. A child that may start the program for scans ends with its ``run``.

    ``run`` blocks its thread: never call it on an event loop, and call it in one thread at a time. ``close``
    may be called in any thread. ``run`` alone sets ``_running``, ``close`` alone ``_closed``:

    | _running | _closed | ``_child`` |
    | --- | --- | --- |
    | False | False | None, or a child that has answered everything, for the next ``run``; it may have ended |
    | True | False | the child whose pipes ``run`` uses; None while ``run`` has to start one |
    | True | True | as above, but killed: ``run`` ends it, and raises LocalRuntimeError for lack of one |
    | False | True | None; no other child is started |
    """

    def __init__(self, limits: ParsingLimits | None = None) -> None:
        self._limits = limits or ParsingLimits()
        self._child: _Child | None = None
        self._readable: set[str] = set()
        self._running = False
        self._closed = False

    def __enter__(self) -> ParsingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child. A ``run`` that waits in another thread raises LocalRuntimeError."""
        self._closed = True
        if not self._running:
            self._end()
        elif (child := self._child) is not None:
            child.process.kill()  # ``run`` sees it, and closes the pipes, which it may be using now

    @property
    def pid(self) -> int | None:
        """The child's process id; None without a child."""
        return None if self._child is None else self._child.process.pid

    def allow_reading(self, file: Path) -> None:
        """Let each child that starts from now on read this file, by its resolved path."""
        self._readable.add(str(file))

    def run(self, requests: Iterable[ParsingRequest]) -> Generator[bytes | ParsingStoppedError]:
        """As in ``Parsing``. Raises LocalRuntimeError when no child can be started.

        The requests before the first one with scans are answered by a child that cannot start a program, the
        others by a child that can.
        """
        remaining = iter(requests)
        first_with_scans: list[ParsingRequest] = []

        def without_scans() -> Iterator[ParsingRequest]:
            for request in remaining:
                if request.header.get("ocr"):
                    first_with_scans.append(request)
                    return
                yield request

        self._running = True
        if self._child is not None and self._child.process.poll() is not None:  # it was idle
            self._end()
        try:
            yield from self._answers(without_scans(), reads_scans=False)
            if first_with_scans:
                self._end()
                yield from self._answers(chain(first_with_scans, remaining), reads_scans=True)
        finally:
            self._running = False
            if self._closed:
                self._end()

    def _answers(
        self, requests: Iterator[ParsingRequest], *, reads_scans: bool
    ) -> Generator[bytes | ParsingStoppedError]:
        """Yield an answer for each request, in order. ``reads_scans``: children that start here may start the
        program for scans."""
        waiting: deque[ParsingRequest] = deque()  # without an answer; the oldest is first
        try:
            while True:
                while self._limits.has_room(waiting) and (request := next(requests, None)) is not None:
                    waiting.append(request)
                    if self._child is not None:  # else ``_start`` sends the new child all that waits
                        self._child.send(request)
                if not waiting:
                    return
                answer = self._receive(waiting, reads_scans)
                if isinstance(answer, _Ended) and answer.retry:  # one more try, in a new child
                    answer = self._receive(waiting, reads_scans)
                waiting.popleft()
                yield ParsingStoppedError(answer.reason) if isinstance(answer, _Ended) else answer
        finally:
            if waiting or reads_scans:  # late answers must not reach the next run
                self._end()

    def _receive(self, waiting: Sequence[ParsingRequest], reads_scans: bool) -> bytes | _Ended:
        """Return the answer to the oldest request. If the child gives none, end it and return why: the next
        call starts another one."""
        child = self._child or self._start(waiting, reads_scans)
        wall_s = waiting[0].wall_s or self._limits.wall_s
        try:
            body = child.receive(timeout_s=wall_s, most_bytes=self._limits.memory_mib << 20)
            if body is not None:
                return body
            ended = self._exit_reason(child)
        except TimeoutError:
            ended = _Ended(f"Parsing took longer than {wall_s:.0f} s {_SPLIT}", retry=False)
        except TooLargeError:
            ended = _Ended(MALFORMED, retry=False)
        self._end()
        return ended

    def _start(self, waiting: Iterable[ParsingRequest], reads_scans: bool) -> _Child:
        """Start a child, read its greeting, a list of what the kernel cannot refuse it, and send it all that
        waits. Raises LocalRuntimeError."""
        if self._closed:
            raise LocalRuntimeError("The process that parses documents was ended; start the command again.")
        environment = _environment(self._limits)
        environment["PARSING_READABLE"] = os.pathsep.join(sorted(self._readable))
        environment["PARSING_PROGRAM"] = (reads_scans and shutil.which(_SCAN_READER)) or ""
        _hide_process()
        self._child = child = _Child.start(environment)
        try:
            greeting = child.receive(timeout_s=_START_TIMEOUT_S, most_bytes=_READ_BYTES)
        except (TimeoutError, TooLargeError):
            greeting = None
        if greeting is None:
            self._end()
            problem = f"did not start (status {child.process.returncode}). See its own message above."
            raise LocalRuntimeError(f"The process that parses documents {problem}")
        _warn_once(tuple(orjson.loads(greeting)))
        for request in waiting:
            child.send(request)
        return child

    def _exit_reason(self, child: _Child) -> _Ended:
        """Return why a child ended that closed its pipe."""
        try:
            status = child.process.wait(timeout=_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            status = 0
        if status == -signal.SIGXCPU:
            return _Ended(f"Parsing took more than {self._limits.cpu_s} s of CPU time {_SPLIT}", retry=False)
        if status == OUT_OF_MEMORY:
            most_mib = self._limits.memory_mib
            return _Ended(f"Parsing took more than {most_mib} MiB of memory {_SPLIT}", retry=True)
        status_text = signal.Signals(-status).name if status < 0 else f"status {status}"
        problem = f"ended on it ({status_text}): out of memory, or an error of a parser"
        advice = "Simplify its markup and add it again."
        return _Ended(f"The process that parses documents {problem}. {advice}", retry=True)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


def _hide_process() -> None:
    """Refuse other processes of the same user, the child among them, the memory and environment of this one.
    Debuggers and core dumps are refused too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@cache
def _warn_once(lacks: tuple[str, ...]) -> None:
    """Log what the kernel cannot refuse to a child, once for each such list."""
    if lacks:
        _log.warning("parsing_not_confined", lacks=lacks, system=sys.platform, release=os.uname().release)


def read_answer(
    kind: TypeAdapter[_Answer], answer: bytes | ParsingStoppedError
) -> _Answer | ParsingStoppedError:
    """Return an answer of ``Parsing.run`` as this type. Return an error for an answer that is invalid,
    without quoting it, or that is an error itself."""
    if isinstance(answer, ParsingStoppedError):
        return answer
    try:
        return kind.validate_json(answer)
    except ValidationError:
        return ParsingStoppedError(MALFORMED)


def _environment(limits: ParsingLimits) -> dict[str, str]:
    """Return the child's environment: ``_INHERITED``, where its modules are, and its limits."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_ARENA_MAX": "2",  # each arena reserves 64 MiB of address space
        "PARSING_CPU_S": str(limits.cpu_s),
        "PARSING_MEMORY_MIB": str(limits.memory_mib),
        "PARSING_IDLE_S": str(limits.idle_s),
    }
