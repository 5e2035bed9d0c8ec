"""Our own programs without the CPU of their imports: forked from a process that has imported them already.

Imports are most of the CPU of a start: 0.6 of the 0.7 s of a command, 1.2 of the service's 1.7 s, 0.7 of the
worker's 1.2 s, and the tests start hundreds of them. What is started is a process of its own: arguments,
folder, environment, streams, signals and status are as with ``python -m``, except that variables for the
interpreter itself (PYTHONPATH) come too late. The first use in a pytest process starts the one that forks; it
ends with its socket.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, BinaryIO

_ROOT = Path(__file__).parents[2]
FORKED = (
    "assistant.api",
    "assistant.local.gateway",
    "assistant.local.issuer",
    "assistant.local.knowledge_worker",
)
"""What may be started here, beside the command line."""
_IMPORTED = (
    "aiobotocore.session",
    "aiohttp",
    "numpy",
    "psutil",
    "tantivy",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.h11_impl",
)
"""With all modules of ``assistant.cli``: what our programs import, also where they import it late."""
_REQUEST_BYTES = 262_144
_INT = struct.Struct("i")
_END_LIMIT_S = 60.0
_READY = b"ready"
_starting = threading.Lock()


class ForkedProcess:
    """As an ``asyncio.subprocess.Process``."""

    def __init__(self, pid: int, *, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._status = status
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(status, self._note_end)

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
        asyncio.get_running_loop().remove_reader(self._status)
        self.returncode = _read_int(self._status)
        os.close(self._status)
        self._ended.set()


async def start_forked(
    module: str, *arguments: str, environment: Mapping[str, str], log: IO[bytes] | None = None
) -> ForkedProcess:
    """Start ``python -m module``; stdout is a pipe, and so is stderr unless it goes to ``log``."""
    await asyncio.to_thread(_forker)
    out, write_out = os.pipe()
    errors, write_errors = os.pipe() if log is None else (None, None)
    try:
        pid, status = _fork(
            module,
            arguments,
            folder=Path.cwd(),
            environment=environment,
            out=write_out,
            errors=log.fileno() if log is not None else write_errors,
        )
    finally:
        os.close(write_out)
        if write_errors is not None:
            os.close(write_errors)
    started = ForkedProcess(pid, status=status)
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
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        pid, status = _fork(
            module,
            arguments,
            folder=folder,
            environment=os.environ if environment is None else environment,
            out=out.fileno(),
            errors=errors.fileno(),
        )
        try:
            ended, _, _ = select.select([status], [], [], timeout_s)
            if not ended:
                os.kill(pid, signal.SIGKILL)
            returncode = _read_int(status)
        finally:
            os.close(status)
        said, complained = _text(out), _text(errors)
        if not ended:
            raise subprocess.TimeoutExpired([module, *arguments], timeout_s, said, complained)
    return subprocess.CompletedProcess([module, *arguments], returncode, said, complained)


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
    *,
    folder: Path,
    environment: Mapping[str, str],
    out: int,
    errors: int | None,
) -> tuple[int, int]:
    """Return the pid, and the file that gets its status when it ends."""
    request = {
        "module": module,
        "arguments": arguments,
        "folder": str(folder),
        "environment": dict(environment),
    }
    status, write_status = os.pipe()
    try:
        streams = [out, out if errors is None else errors, write_status]
        socket.send_fds(_forker(), [json.dumps(request).encode()], streams)
    finally:
        os.close(write_status)
    return _read_int(status), status


def _forker() -> socket.socket:
    """Return the socket of the process that forks, which has imported everything."""
    with _starting:
        return _started_forker()


@cache
def _started_forker() -> socket.socket:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in (ours, its):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.forked", str(its.fileno())],
            cwd=_ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # nothing but one thread survives a fork
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )
    atexit.register(_end, ours, process)
    assert ours.recv(len(_READY)) == _READY, "the process that forks did not start"
    return ours


def _end(requests: socket.socket, process: subprocess.Popen[bytes]) -> None:
    requests.close()
    process.wait()


def _read_int(file: int) -> int:
    read = os.read(file, _INT.size)
    assert read, "the process that forks has ended"
    return _INT.unpack(read)[0]


# --- in the process that forks ---


def _import_all() -> None:
    import assistant.cli

    programs = ["assistant.cli.main", "assistant.api.__main__", *FORKED[1:]]
    commands = [f"assistant.cli.{found.name}" for found in pkgutil.iter_modules(assistant.cli.__path__)]
    for name in (*programs, *commands, *_IMPORTED):
        importlib.import_module(name)
    for name in programs:
        del sys.modules[name]  # each is run anew, as __main__
    gc.freeze()


def _serve(requests: socket.socket) -> str:
    """Fork for each request; return the module to run in the forked process only."""
    running: dict[int, int] = {}
    wakes, wake = socket.socketpair()
    for each in (wakes, wake):
        each.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, _only_wake)
    while True:
        ready, _, _ = select.select([requests, wakes], [], [])
        if wakes in ready:
            wakes.recv(4096)
            _tell_ends(running)
        if requests not in ready:
            continue
        body, files, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 3)
        if not body:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for status in running.values():
                os.close(status)
            for each in (requests, wakes, wake):
                each.close()
            return _become(json.loads(body), files)
        running[pid] = files[2]
        os.close(files[0])
        os.close(files[1])
        os.write(files[2], _INT.pack(pid))


def _only_wake(_number: int, _frame: Any) -> None:
    """Its number in the socket is what wakes the loop."""


def _tell_ends(running: dict[int, int]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            file = running.pop(pid)
            with suppress(BrokenPipeError):  # nobody asks any more
                os.write(file, _INT.pack(os.waitstatus_to_exitcode(status)))
            os.close(file)


def _become(request: Mapping[str, Any], files: list[int]) -> str:
    out, errors, status = files
    os.dup2(out, 1)
    os.dup2(errors, 2)
    for file in (out, errors, status):
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [request["module"], *request["arguments"]]
    return request["module"]


if __name__ == "__main__":
    _requests = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    _requests.send(_READY)
    _module = _serve(_requests)
    runpy.run_module(_module, run_name="__main__", alter_sys=True)
