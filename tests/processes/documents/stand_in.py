"""What a parser that was taken over would try. The test puts it in the place of a library; it reports what it
reached as the name of an error, which alone comes back from the parsing process."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

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
