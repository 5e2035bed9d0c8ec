"""Ports of the local processes, chosen before they start so that each knows the others' addresses."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import psutil

from assistant.domain.errors import LocalRuntimeError

HOST = "127.0.0.1"
_OWN_RANGE = range(20_000, 32_000)
"""Below what Linux (from 32768) and macOS (from 49152) give to outgoing connections: a port chosen
here is not taken by one while its process is not started yet."""
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


@dataclass(frozen=True, slots=True)
class PortWishes:
    """Which process wants which port; 0 is any free one."""

    by_name: Mapping[str, int]
    asked_for: bool = False
    """Whether a person asked for them in this command: then they stand over what runs already."""

    def choose(self, recorded: Mapping[str, int]) -> dict[str, int]:
        """Return a port for every name: as recorded (something runs), else as wished.

        Raises LocalRuntimeError if there is no free one.
        """
        chosen = dict(recorded)
        for name, wish in self.by_name.items():
            if name not in chosen or (self.asked_for and wish != 0):
                chosen[name] = wish or choose_free(taken=set(chosen.values()))
        return chosen


def choose_free(*, taken: Collection[int] = ()) -> int:
    """Return a port that nobody listens on. Raises LocalRuntimeError if there is none."""
    for _ in range(_ATTEMPTS):
        port = random.choice(_OWN_RANGE)  # noqa: S311 - nothing secret about a port
        if port not in taken and is_free(port):
            return port
    raise LocalRuntimeError(f"No free port found from {_OWN_RANGE.start} to {_OWN_RANGE.stop}.")


def refuse_taken(port: int, *, name: str, chosen: bool) -> None:
    """Raise LocalRuntimeError if another program listens on the port; the message says what to do.

    ``chosen`` says whether a person may choose the port.
    """
    if is_free(port):
        return
    advice = "choose other ports with --port" if chosen else "try again after assistant local down"
    raise LocalRuntimeError(
        f"Port {port}, which the {name} needs, is in use{_by_whom(port)}; end that program or {advice}."
    )


def _by_whom(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp4")
    except psutil.AccessDenied:  # macOS shows other programs' sockets only to root
        return ""
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                return ""
    return ""
