"""A parser that was taken over reads no file, reaches no host, signals and traces nobody, starts nothing."""

from __future__ import annotations

import ctypes
import fcntl
import inspect
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant.documents.files import SourceDocument, SourceFailure
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest
from tests.processes.documents.requests import item_of
from tests.stage.programs import require

GOOD = ParsingRequest("page", {"name": "a.md", "is_markdown": True}, b"# A\n\nText.\n")
VICTIM = "import ctypes; ctypes.CDLL(None).prctl(0x59616d61, -1, 0, 0, 0); print('up', flush=True); input()"
"""Allows every process to trace it, as a kernel without Yama does."""
LACKING = """
import ctypes, struct, sys
from pathlib import Path
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest

numbers = [int(number) for number in sys.argv[1].split(",")]
calls = [(0x20, 0, 0, 0)]
for number in numbers:
    calls += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050026)]
calls += [(0x06, 0, 0, 0x7FFF0000)]
filtered = b"".join(struct.pack("=HBBI", *call) for call in calls)
system, kept = ctypes.CDLL(None), ctypes.create_string_buffer(filtered)
system.prctl(38, 1, 0, 0, 0)
assert system.prctl(22, 2, struct.pack("@HP", len(calls), ctypes.addressof(kept))) == 0
requests = [
    ParsingRequest("page", {"name": "a.md", "is_markdown": True}, b"# A\\n\\nText."),
    ParsingRequest("file", {"name": "a.pdf", "ocr": []}, b"%PDF-1.7"),
]
for request in requests:
    with ParsingProcess() as process:
        (answer,) = process.run([request])
    print(answer.decode(), flush=True)
"""
"""Parses where the kernel answers ENOSYS to the given calls, as one that was built without them does."""


_IMPORTS = """
from __future__ import annotations
import ctypes, fcntl, json, os, resource, signal, socket
from collections.abc import Callable
from pathlib import Path
_PTRACE_SEIZE, _IO_URING_SETUP = 0x4206, 425
"""
"""Of what a parser that was taken over would try. A test puts it in the place of a library; it reports what
it reached as the name of an error, which alone comes back from the parsing process."""
_PTRACE_SEIZE, _IO_URING_SETUP = 0x4206, 425


def attacks(victim: int, secret: Path, tcp_port: int, unix_socket: str) -> dict[str, Callable[[], object]]:
    """Return attempts by name, on a process, a file and sockets of this user.

    Each raises OSError when it is refused.
    """
    system = ctypes.CDLL(None, use_errno=True)

    def kernel(answer: int) -> None:
        if answer < 0:
            raise OSError(ctypes.get_errno(), "refused")

    def connect(family: int, address: object) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.connect(address)  # pyright: ignore[reportArgumentType]

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.sendto(b"x", ("127.0.0.1", tcp_port))

    def own_a_pipe() -> None:
        read_end, _ = os.pipe()
        fcntl.fcntl(read_end, fcntl.F_SETOWN, victim)

    def start(program: str) -> None:
        os.waitpid(os.posix_spawn(program, [program], os.environ), 0)

    def fork() -> None:
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)

    def peek() -> None:
        with Path(f"/proc/{victim}/maps").open(encoding="utf-8") as maps:
            start_of_memory = int(maps.readline().split("-")[0], 16)
        with Path(f"/proc/{victim}/mem").open("rb") as memory:
            memory.seek(start_of_memory)
            memory.read(1)

    def vm_attempt() -> None:
        here = ctypes.create_string_buffer(1)
        pair = (ctypes.c_size_t * 2)(ctypes.addressof(here), 1)
        kernel(system.process_vm_readv(victim, pair, 1, (ctypes.c_size_t * 2)(1 << 12, 1), 1, 0))

    def vm_read() -> None:
        try:
            vm_attempt()
        except OSError as error:
            if error.errno != 14:  # EFAULT: the kernel looked at an address that the other process lacks
                raise

    def submit() -> None:
        kernel(system.syscall(_IO_URING_SETUP, 1, ctypes.create_string_buffer(120)))

    return {
        "files: the secret": secret.read_bytes,
        "files: its folder": lambda: list(secret.parent.iterdir()),
        "files: /etc/passwd": Path("/etc/passwd").read_bytes,
        "files: the home": lambda: list(Path.home().iterdir()),
        "files: environment of another": Path(f"/proc/{victim}/environ").read_bytes,
        "files: memory of another": peek,
        "files: its mode": lambda: secret.chmod(0o600),
        "files: its time": lambda: os.utime(secret),
        "files: a new name": lambda: os.link(secret, secret.with_name(f"link{os.getpid()}")),
        "files: a new file": lambda: secret.with_name(f"new{os.getpid()}").touch(),
        "hosts: loopback": lambda: connect(socket.AF_INET, ("127.0.0.1", tcp_port)),
        "hosts: a datagram": send,
        "hosts: a local socket": lambda: connect(socket.AF_UNIX, unix_socket),
        "hosts: an abstract socket": lambda: connect(socket.AF_UNIX, f"\0{unix_socket}"),
        "hosts: a pair": socket.socketpair,
        "hosts: a ring": submit,
        "signals: another": lambda: os.kill(victim, signal.SIGCONT),
        "signals: every process": lambda: os.kill(-1, 0),
        "signals: a thread": lambda: kernel(system.tgkill(victim, victim, 0)),
        "signals: by descriptor": lambda: signal.pidfd_send_signal(os.pidfd_open(victim), 0),
        "signals: by a pipe": own_a_pipe,
        "processes: traced": lambda: kernel(system.ptrace(_PTRACE_SEIZE, victim, None, None)),
        "processes: read": vm_read,
        "processes: limited": lambda: resource.prlimit(victim, resource.RLIMIT_NOFILE),
        "processes: slowed": lambda: os.setpriority(os.PRIO_PROCESS, victim, 1),
        "programs: started": lambda: start("/bin/true"),
        "children": fork,
    }


def report(argument: str) -> None:
    """Raise an error whose name is a JSON list of the attempts that succeeded."""
    victim, secret, tcp_port, unix_socket = json.loads(argument)
    succeeded: list[str] = []
    for name, attack in attacks(victim, Path(secret), tcp_port, unix_socket).items():
        try:
            attack()
        except OSError:
            continue
        succeeded.append(name)
    raise type(json.dumps(succeeded), (Exception,), {})


@dataclass(frozen=True, slots=True)
class Target:
    """A process, a file and listening sockets of this user."""

    argument: str
    attempts: frozenset[str]

    def in_place_of_pdfium(self, folder: Path) -> Path:
        """Return a folder of packages with one that attacks as soon as it is imported."""
        package = folder / "site-packages" / "pypdfium2"
        package.mkdir(parents=True)
        source = "\n".join([_IMPORTS, inspect.getsource(attacks), inspect.getsource(report)])
        (package / "__init__.py").write_text(f"{source}\nreport({self.argument!r})\n", encoding="utf-8")
        return package.parent


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    secret = tmp_path / "state" / "signing-key.json"
    secret.parent.mkdir()
    secret.write_text("the key")
    name = str(tmp_path / "listening")
    families = (socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX)
    tcp, local, abstract = (socket.socket(family, socket.SOCK_STREAM) for family in families)
    with (
        tcp,
        local,
        abstract,
        subprocess.Popen([sys.executable, "-c", VICTIM], stdin=-1, stdout=-1) as victim,
    ):
        assert victim.stdout is not None
        victim.stdout.readline()
        for listening, address in ((tcp, ("127.0.0.1", 0)), (local, name), (abstract, f"\0{name}")):
            listening.bind(address)
            listening.listen()
        given = (victim.pid, str(secret), tcp.getsockname()[1], name)
        attempts = attacks(given[0], secret, *given[2:])
        yield Target(json.dumps(given), frozenset(attempts))
        victim.kill()


def reached(process: ParsingProcess, *, ocr: Sequence[str] = ()) -> set[str]:
    """Return what succeeded of the attempts of a library that reads PDF files."""
    (answer,) = process.run([ParsingRequest("file", {"name": "a.pdf", "ocr": list(ocr)}, b"%PDF-1.7")])
    assert isinstance(answer, bytes)
    return named(answer)


def named(answer: bytes) -> set[str]:
    item = item_of(answer)
    assert isinstance(item, SourceFailure)
    listed = re.search(r"\((\[.*\])\)", item.reason)
    assert listed is not None, item.reason
    return set(json.loads(listed[1]))


def test_every_attempt_succeeds_without_the_walls(target: Target, tmp_path: Path) -> None:
    """Else a test below would pass for another reason than a wall."""
    packages = target.in_place_of_pdfium(tmp_path)
    code = [sys.executable, "-c", "import pypdfium2"]
    ended = subprocess.run(
        code, env=os.environ | {"PYTHONPATH": str(packages)}, stderr=subprocess.PIPE, check=False
    )
    last = ended.stderr.decode().splitlines()[-1]
    assert set(json.loads(last[last.index("[") :])) | {"hosts: a ring"} == target.attempts


def test_a_parser_that_was_taken_over_reaches_nothing(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(target.in_place_of_pdfium(tmp_path))
    with ParsingProcess() as process:
        (good,) = process.run([GOOD])
        assert isinstance(good, bytes)
        assert reached(process) == set()


def test_a_process_that_reads_scans_starts_children_and_no_other_program(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("tesseract")
    monkeypatch.syspath_prepend(target.in_place_of_pdfium(tmp_path))
    with ParsingProcess() as process:
        assert reached(process, ocr=["eng"]) == {"children"}
        assert reached(process) == set()


SECCOMP, LANDLOCK = {"x86_64": 317, "aarch64": 277}[os.uname().machine], 444
SECRET, LOOPBACK, ENVIRONMENT = "files: the secret", "hosts: loopback", "files: environment of another"
CALLS = "('sockets', 'signals', 'tracing', 'programs')"


@pytest.mark.parametrize(
    ("absent", "lacks", "refused", "left_open"),
    [
        ([LANDLOCK], "('files',)", {"hosts", "signals", "processes", "programs", "children"}, {SECRET}),
        ([SECCOMP], CALLS, {SECRET, ENVIRONMENT}, {"hosts: a pair", "children"}),
        ([LANDLOCK, SECCOMP], CALLS.replace("(", "('files', "), set[str](), {SECRET, LOOPBACK, "children"}),
    ],
)
def test_a_wall_that_the_kernel_lacks_is_named_once_and_leaves_the_other(
    target: Target, tmp_path: Path, absent: Sequence[int], lacks: str, refused: set[str], left_open: set[str]
) -> None:
    path = os.pathsep.join([str(target.in_place_of_pdfium(tmp_path)), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", LACKING, ",".join(map(str, absent))]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, check=True)
    warning, good, answer = ended.stdout.splitlines()
    assert isinstance(item_of(good), SourceDocument)
    assert f"lacks={lacks}" in warning.decode()
    succeeded = named(answer)
    assert left_open <= succeeded
    assert refused.isdisjoint(succeeded | {name.split(":")[0] for name in succeeded})


PARENT = """
import ctypes, struct
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest
ctypes.CDLL(None).capset(struct.pack("=Ii", 0x20080522, 0), bytes(24))
print("started", flush=True)
input()
with ParsingProcess() as process:
    list(process.run([ParsingRequest("page", {"name": "a.md", "is_markdown": True}, b"# A")]))
    print("parsed", flush=True)
    input()
"""
READER = """
import ctypes, struct, sys
ctypes.CDLL(None).capset(struct.pack("=Ii", 0x20080522, 0), bytes(24))
open(f"/proc/{sys.argv[1]}/environ", "rb").read()
"""
"""Both give root's privileges back, where a test runs as root."""


def test_no_process_of_the_same_user_reads_what_the_parent_of_a_parser_holds() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=-1, stdout=-1) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        command = [sys.executable, "-c", READER, str(parent.pid)]
        ended: dict[bytes, bytes] = {}
        for _ in range(2):
            step = parent.stdout.readline().strip()
            ended[step] = subprocess.run(command, stderr=subprocess.PIPE, check=False).stderr
            parent.stdin.write(b"\n")
            parent.stdin.flush()
    assert ended[b"started"] == b""
    assert b"PermissionError" in ended[b"parsed"]
