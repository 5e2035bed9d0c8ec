"""Our own processes as the supervisor starts them, by their settings. Those that start often are forked from
a process that has imported them already.

Imports are most of the CPU of a start: 0.6 of the 0.7 s of a command, 1.2 of the service's 1.7 s, 0.7 of the
worker's 1.2 s, and the tests start hundreds of them. What is started is a process of its own: arguments,
folder, environment, streams, signals and status are as with ``python -m``, except that variables for the
interpreter itself (PYTHONPATH) come too late. The first use in a pytest process starts the one that forks.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, chdir
from dataclasses import dataclass
from functools import cache
from itertools import count
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import IO, Any, BinaryIO

import orjson

from assistant.process.settings import inherited_environment

# --- forked -----------------------------------------------------------------------------------------------
_ROOT = Path(__file__).parents[2]
FORKED = (
    "assistant.service",
    "assistant.laptop.worker",
)
"""What may be started here, beside the command line."""
_END_LIMIT_S = 60.0
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.stage.forked_imports"])
_starting = threading.Lock()


class ForkedProcess:
    """As an ``asyncio.subprocess.Process``."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._process = process
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._note_end)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Return what is left in both streams when it has ended."""
        out, errors, _ = await asyncio.gather(_rest(self.stdout), _rest(self.stderr), self.wait())
        return out, errors

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self.returncode = self._process.exitcode
        self._process.close()
        self._ended.set()


async def start_forked(
    module: str, *arguments: str, environment: Mapping[str, str], log: IO[bytes] | None = None
) -> ForkedProcess:
    """Start ``python -m module``; stdout is a pipe, and so is stderr unless it goes to ``log``."""
    out, write_out = os.pipe()
    errors, write_errors = os.pipe() if log is None else (None, os.dup(log.fileno()))
    process = await asyncio.to_thread(
        _fork, module, arguments, Path.cwd(), environment, out=write_out, errors=write_errors
    )
    started = ForkedProcess(process)
    started.stdout = await _reader(out)
    started.stderr = None if errors is None else await _reader(errors)
    return started


def run_forked(
    module: str,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = _END_LIMIT_S,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module`` to its end, as ``subprocess.run`` does."""
    command, environment = [module, *arguments], os.environ if environment is None else environment
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        streams = {"out": os.dup(out.fileno()), "errors": os.dup(errors.fileno())}
        process = _fork(module, arguments, folder, environment, **streams)
        process.join(timeout_s)
        status = process.exitcode
        if status is None:
            process.kill()
            process.join()
        process.close()
        said, complained = _text(out), _text(errors)
        if status is None:
            raise subprocess.TimeoutExpired(command, timeout_s, said, complained)
    return subprocess.CompletedProcess(command, status, said, complained)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


async def _rest(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def _reader(pipe: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
    )
    return reader


def _fork(
    module: str,
    arguments: tuple[str, ...],
    folder: Path,
    environment: Mapping[str, str],
    *,
    out: int,
    errors: int,
) -> ForkServerProcess:
    """Start the process; its streams are closed here."""
    with _starting:
        _start_forker()
    with Connection(out, readable=False) as to_out, Connection(errors, readable=False) as to_errors:
        given = (module, arguments, str(folder), dict(environment), to_out, to_errors)
        process = _CONTEXT.Process(target=_become, args=given)
        process.start()
    return process


@cache
def _start_forker() -> None:
    with chdir(_ROOT):  # from where it imports
        forkserver.ensure_running()


def _become(
    module: str,
    arguments: tuple[str, ...],
    folder: str,
    environment: Mapping[str, str],
    out: Connection,
    errors: Connection,
) -> None:
    """Be ``python -m module`` in the process that was forked."""
    for stream, place in ((out, 1), (errors, 2)):
        os.dup2(stream.fileno(), place)
        stream.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # what the interpreter does at its end, and a forked process does not


# --- by their settings ------------------------------------------------------------------------------------
_READY_WITHIN_S = 90
"""A busy machine needs long for what takes a second alone; a test has its own limit."""


@dataclass
class RunningProcess:
    child: asyncio.subprocess.Process | ForkedProcess
    ready: dict[str, Any]

    @property
    def url(self) -> str:
        scheme = self.ready.get("scheme", "http")
        return f"{scheme}://{self.ready['host']}:{self.ready['port']}"

    @property
    def operations_url(self) -> str:
        """Of the operators' listener, where one was asked for."""
        scheme = self.ready.get("scheme", "http")
        return f"{scheme}://{self.ready['operations_host']}:{self.ready['operations_port']}"

    async def ended(self) -> tuple[int, str]:
        """Return status and what it said on stderr, once it has ended by itself."""
        _, said = await asyncio.wait_for(self.child.communicate(), _END_LIMIT_S)
        return self.child.returncode or 0, said.decode()


async def start(room: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start a room of ``assistant`` by ``python -m``."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"assistant.{room}",
        env=inherited_environment() | dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def process(room: str, environment: Mapping[str, str]) -> AsyncGenerator[RunningProcess]:
    """Start a process, wait for its ready line, and stop it in the end."""
    if f"assistant.{room}" in FORKED:
        whole = inherited_environment() | dict(environment)
        child = await start_forked(f"assistant.{room}", environment=whole)
    else:
        child = await start(room, environment)
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), _READY_WITHIN_S)
        assert line, (await child.communicate())[1].decode()
        yield RunningProcess(child, orjson.loads(line))
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


# --- killed -----------------------------------------------------------------------------------------------
_COUNTED = ("call", "c_call", "c_return", "return")


def forked(work: Callable[[], Coroutine[Any, Any, object]], *, kill_after: int | None) -> tuple[bool, int]:
    """Run ``work`` in a process of its own; return whether it was killed, and the calls that it made. Raises
    AssertionError where it fails by itself."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        calls = _count_calls(kill_after)
        asyncio.run(work())
        sys.setprofile(None)
        os.write(writing, str(next(calls)).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(process, 0)
    said = os.read(reading, 100)
    os.close(reading)
    if status and not os.WIFSIGNALED(status):
        raise AssertionError("the work failed by itself")
    return os.WIFSIGNALED(status), int(said or 0)


def _count_calls(kill_after: int | None) -> count[int]:
    """Count the calls in our own code, in every thread, and kill this process after so many."""
    calls = count()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event in _COUNTED and "/assistant/" in frame.f_code.co_filename and next(calls) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(profile)
    sys.setprofile(profile)
    return calls
