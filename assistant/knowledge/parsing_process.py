"""The process that reads untrusted text: one child over a pipe, under limits, begun anew when it passes one.

Everything that takes a file apart (front matter, JSON lines, bodies, units, cards) runs in it
(docs/decisions/0034). A frame is ``length of header, length of body`` (4 bytes each, big-endian), a JSON
header and a body. The child answers frames in their order, so the oldest one that has no answer is the one
that it worked on when it ended. What it says is read as data and validated; it has no credentials and its
environment names none.
"""

from __future__ import annotations

import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import orjson

from assistant.domain.errors import LocalRuntimeError, ParsingStoppedError

LENGTHS = struct.Struct(">II")
_READ_BYTES = 1 << 18
_SENT_BYTES = 1 << 16
"""At once: what a pipe holds."""
_START_TIMEOUT_S = 60.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "ASSISTANT_SUPERVISED_BY")
"""Variables that the child inherits: none of them holds a secret."""


@dataclass(frozen=True, slots=True)
class ParsingLimits:
    """What one document, or one line of a file, may cost."""

    cpu_s: int = 20
    """The largest file that is taken (5 MB of Markdown) costs a third of it."""
    wall_s: float = 90.0
    """For a machine that is busy with something else."""
    memory_mib: int = 1024
    """Address space of the child: what it has loaded takes up some 300 MiB of it."""
    in_flight_bytes: int = 1 << 21
    in_flight: int = 32
    """Frames sent ahead: the child goes on while its answers are worked on."""


@dataclass(frozen=True, slots=True)
class ParsingRequest:
    """One thing to be taken apart."""

    operation: str
    """By name, of ``assistant.knowledge.parsing.__main__``."""
    header: Mapping[str, object]
    body: bytes


class Parsing(Protocol):
    """Takes things apart. For one thread at a time."""

    def run(self, requests: Iterable[ParsingRequest]) -> Iterator[bytes | ParsingStoppedError]:
        """Yield an answer a request, in order: its body, or why there is none.

        Raises LocalRuntimeError when no child can be started: then it says nothing about the documents.
        """
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)


class ParsingProcess:
    """``Parsing`` in a child that is started with the first request and ended by ``close``.

    An answer blocks its thread: never call it on an event loop.
    """

    def __init__(self, limits: ParsingLimits | None = None) -> None:
        self._limits = limits or ParsingLimits()
        self._child: _Child | None = None
        self._running = False
        self._closed = False

    def __enter__(self) -> ParsingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child. In a thread that waits for an answer, ``run`` raises LocalRuntimeError."""
        self._closed = True
        child = self._child
        if child is not None and self._running:  # the pipes are in use there
            child.process.kill()
        else:
            self._end()

    @property
    def pid(self) -> int | None:
        """Of the child, while there is one."""
        return None if self._child is None else self._child.process.pid

    def run(self, requests: Iterable[ParsingRequest]) -> Generator[bytes | ParsingStoppedError]:
        waiting: deque[tuple[ParsingRequest, bool]] = deque()  # sent or to be sent, and whether a second time
        flown = 0
        remaining = iter(requests)
        more = True
        self._running = True
        try:
            while waiting or more:
                while more and len(waiting) < self._limits.in_flight and flown < self._limits.in_flight_bytes:
                    request = next(remaining, None)
                    if request is None:
                        more = False
                        break
                    self._send(request)
                    waiting.append((request, False))
                    flown += len(request.body)
                if not waiting:
                    return
                answer = self._receive()
                request, again = waiting[0]
                if isinstance(answer, _Ended):
                    self._end()
                    rest = [one for one, _ in list(waiting)[1:]]
                    if answer.may_be_others and not again:  # what came before it may have filled the memory
                        waiting[0] = (request, True)
                        rest = [request, *rest]
                    else:
                        waiting.popleft()
                        flown -= len(request.body)
                        yield ParsingStoppedError(answer.reason)
                    for one in rest:
                        self._send(one)
                    continue
                waiting.popleft()
                flown -= len(request.body)
                yield answer
        finally:
            self._running = False
            if waiting or self._closed:  # nobody wants the answers that are still to come
                self._end()

    def _send(self, request: ParsingRequest) -> None:
        child = self._child or self._start()
        header = orjson.dumps({"operation": request.operation, **request.header})
        child.unsent += LENGTHS.pack(len(header), len(request.body)) + header + request.body

    def _receive(self) -> bytes | _Ended:
        """Return the next answer, or how the child ended on it."""
        child = self._child or self._start()
        try:
            body = _exchange(child, timeout_s=self._limits.wall_s)
        except TimeoutError:
            return _Ended(
                f"Parsing took longer than {self._limits.wall_s:.0f} s and was stopped. Split the document, "
                "or simplify its markup, and add it again.",
                may_be_others=False,
            )
        if body is None:
            return self._how_it_ended(child)
        return body

    def _start(self) -> _Child:
        if self._closed:
            raise LocalRuntimeError("The process that parses documents was ended; start the command again.")
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "assistant.knowledge.parsing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(self._limits),
            bufsize=0,
        )
        child = _Child(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None  # noqa: S101 (for the type checker)
            os.set_blocking(pipe.fileno(), False)
        self._child = child
        try:
            greeting = _exchange(child, timeout_s=_START_TIMEOUT_S)
        except TimeoutError:
            greeting = None
        if greeting is None:
            self._end()
            raise LocalRuntimeError(
                f"The process that parses documents did not start (status {process.returncode}); its own "
                "message stands before this one."
            )
        return child

    def _how_it_ended(self, child: _Child) -> _Ended:
        try:
            status = child.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            status = 0
        if status == -signal.SIGXCPU:
            return _Ended(
                f"Parsing took more than {self._limits.cpu_s} s of CPU time and was stopped. Split the "
                "document, or simplify its markup, and add it again.",
                may_be_others=False,
            )
        if status == OUT_OF_MEMORY:
            return _Ended(
                f"Parsing took more than {self._limits.memory_mib} MiB of memory and was stopped. Split the "
                "document, or simplify its markup, and add it again.",
                may_be_others=True,
            )
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return _Ended(
            f"The process that parses documents ended on it ({how}): out of memory, or an error of a parser. "
            "Simplify its markup and add it again.",
            may_be_others=True,
        )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.process.kill()
        child.process.wait()
        for pipe in (child.process.stdin, child.process.stdout):
            if pipe is not None:
                pipe.close()


OUT_OF_MEMORY = 86
"""Status of a child that could not get the memory that it asked for."""


@dataclass(frozen=True, slots=True)
class _Ended:
    reason: str
    may_be_others: bool
    """Whether what the child did before may be the cause: then the request is tried once more."""


def _exchange(child: _Child, *, timeout_s: float) -> bytes | None:
    """Send what is to be sent until an answer is whole; return its body, None when the child ended.

    Raises TimeoutError.
    """
    to_child, from_child = child.process.stdin, child.process.stdout
    assert to_child is not None  # noqa: S101 (for the type checker)
    assert from_child is not None  # noqa: S101
    until_s = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as ready:
        ready.register(from_child, selectors.EVENT_READ)
        if child.unsent:
            ready.register(to_child, selectors.EVENT_WRITE)
        while (body := _whole(child.received)) is None:
            events = ready.select(max(0.0, until_s - time.monotonic()))
            if not events:
                raise TimeoutError
            for key, _ in events:
                if key.fileobj is to_child:
                    try:
                        sent = os.write(to_child.fileno(), child.unsent[:_SENT_BYTES])
                        del child.unsent[:sent]
                    except BrokenPipeError:
                        child.unsent.clear()  # its end is read from the other pipe
                    if not child.unsent:
                        ready.unregister(to_child)
                else:
                    read = os.read(from_child.fileno(), _READ_BYTES)
                    if not read:
                        return None
                    child.received += read
    return body


def _whole(received: bytearray) -> bytes | None:
    """Take the first frame out of what was received and return its body, once it is whole."""
    if len(received) < LENGTHS.size:
        return None
    header_bytes, body_bytes = LENGTHS.unpack_from(received)
    end = LENGTHS.size + header_bytes + body_bytes
    if len(received) < end:
        return None
    body = bytes(received[LENGTHS.size + header_bytes : end])
    del received[:end]
    return body


def _environment(limits: ParsingLimits) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_ARENA_MAX": "2",  # each further arena takes 64 MiB of address space
        "PARSING_CPU_S": str(limits.cpu_s),
        "PARSING_MEMORY_MIB": str(limits.memory_mib),
    }
