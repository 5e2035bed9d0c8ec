"""The parsing process: ``python -m assistant.documents.parsing_child``, started only by ``ParsingProcess``.

It gives up its own rights (``confine``, docs/decisions/0124), sends one frame with what the kernel could not
refuse, for example ["files"], then answers a frame for each request until its standard input closes: it
outlives its parent by the current document at most. ``parsing_process`` describes the frames and sets the
PARSING_… variables.
"""

from __future__ import annotations

import ctypes
import gc
import math
import mimetypes
import os
import resource
import signal
import struct
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import orjson
import pydantic

import assistant
from assistant.documents.exports import entries_of
from assistant.documents.files import SourceDocument, SourceFailure, SourceItem, invalid, write_items
from assistant.documents.items import converted_item, line_item, object_item, page_item, with_losses
from assistant.documents.parsing import parse_document
from assistant.documents.parsing_process import LENGTHS, OUT_OF_MEMORY
from assistant.documents.passages import InProcessParser, Received
from assistant.domain.documents import Document
from assistant.domain.errors import AssistantError, DocumentInvalidError
from assistant.domain.public import PublicModel

_Read = TypeVar("_Read")
_parsers: dict[tuple[str, int, str], InProcessParser] = {}
"""A parser for each tokenizer file, limit of tokens and language, made by the first document that needs
it."""
_NEW_OBJECTS = 50_000
"""New objects after which the garbage collector runs. At Python's 700 it takes a third of the time of a
workbook."""


def main() -> None:
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends us
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a library prints must not mix with the answers
    cpu_s = int(os.environ["PARSING_CPU_S"])
    idle_s = int(os.environ["PARSING_IDLE_S"])
    memory_bytes = int(os.environ["PARSING_MEMORY_MIB"]) << 20
    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for limit, most in limits.items():
        resource.setrlimit(limit, (most, most))
    readable = filter(None, os.environ["PARSING_READABLE"].split(os.pathsep))
    _send(answers, orjson.dumps(confine(readable=readable, program=os.environ["PARSING_PROGRAM"] or None)))
    while True:
        signal.alarm(idle_s)  # its signal ends the process
        head = requests.read(LENGTHS.size)
        signal.alarm(0)
        if len(head) != LENGTHS.size:
            return
        header_bytes, body_bytes = LENGTHS.unpack(head)
        header, body = orjson.loads(requests.read(header_bytes)), requests.read(body_bytes)
        _limit_cpu(cpu_s)
        try:
            answer = _OPERATIONS[header["operation"]](header, body)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        _send(answers, answer)


def _send(answers: BinaryIO, body: bytes) -> None:
    """Write one frame, without a header."""
    answers.write(LENGTHS.pack(0, len(body)) + body)
    answers.flush()


def _limit_cpu(seconds: int) -> None:
    """Have the kernel end this process (SIGXCPU) after this much more CPU time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    end_s = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    soft = end_s if hard == resource.RLIM_INFINITY else min(end_s, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _items(header: Mapping[str, Any], body: bytes) -> bytes:
    """Return the items of a page, a file, a block of its lines, or a stored document, as JSON
    (``files.write_items``); the item of what cannot be read is a failure with the reason."""
    name = header["name"]
    items: list[SourceItem]
    match header["operation"]:
        case "json" | "lines":
            entries = _or_failure(name, partial(entries_of, body, sample=header.get("sample")))
            if isinstance(entries, SourceFailure):
                items = [entries]
            elif not entries:
                items = [_or_failure(name, partial(object_item, name, body))]
            else:
                numbered = enumerate(entries, start=header.get("first", 1))
                origins = ((f"{name}:{number}", *entry) for number, entry in numbered)
                items = [
                    _or_failure(each[0], partial(line_item, *each)) for each in origins if each[1].strip()
                ]
        case "file":
            items = [_or_failure(name, partial(converted_item, name, body, ocr=header["ocr"]))]
        case "stored":
            items = [_or_failure(name, lambda: with_losses(SourceDocument(_stored(body), name)))]
        case _:  # "page", the last operation of ``_OPERATIONS`` that this function serves
            items = [_or_failure(name, partial(page_item, name, body, is_markdown=header["is_markdown"]))]
    if not header.get("with_text"):
        items = [replace(item, text="") if isinstance(item, SourceDocument) else item for item in items]
    return write_items(items)


def _document(header: Mapping[str, Any], body: bytes) -> bytes:
    """Return the document's ParsedParts as JSON, or a JSON text with the reason why it is invalid."""
    key = (header["tokenizer"], header["max_tokens"], header["language"])
    if key not in _parsers:
        _parsers[key] = InProcessParser.load(Path(key[0]), max_tokens=key[1], language_code=key[2])
    parse_one, received_at = _parsers[key].parse_one, datetime.fromisoformat(header["received_at"])
    return _answer_of(lambda: parse_one(Received(_stored(body), header["content_hash"], received_at)))


def _links(_header: Mapping[str, Any], body: bytes) -> bytes:
    """Return a JSON list of the addresses that a document links to, or a JSON text with the reason why
    not."""
    return _answer_of(lambda: [address for *_, address in parse_document(_stored(body)).links])


def _text(_header: Mapping[str, Any], body: bytes) -> bytes:
    """Return a JSON list with the text of a document, or a JSON text with the reason why not."""
    return _answer_of(lambda: [parse_document(_stored(body)).text])


def _or_failure(origin: str, read: Callable[[], _Read]) -> _Read | SourceFailure:
    """Return what ``read`` returns, or a failure with the reason why it cannot be read."""
    try:
        return read()
    except DocumentInvalidError as error:
        return invalid(origin, error.message)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (the edge of one file or line: it must not fail the others)
        return invalid(origin, _unreadable(error))


def _stored(body: bytes) -> Document:
    return Document.model_validate_json(body)


def _answer_of(parse: Callable[[], object]) -> bytes:
    """Return as JSON what ``parse`` returns, which is never a text; a JSON text is the reason of a
    failure."""
    try:
        return orjson.dumps(parse(), default=_as_json_fields)
    except AssistantError as error:
        return orjson.dumps(error.message)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (the edge of one document)
        return orjson.dumps(_unreadable(error))


def _as_json_fields(item: PublicModel) -> dict[str, Any]:
    """Return the fields of a pydantic model in a document (its item or original), which orjson cannot
    write."""
    return item.model_dump(mode="json")


def _unreadable(error: Exception) -> str:
    """Return a reason without the parser's message, which may quote the text."""
    return f"It cannot be read ({type(error).__name__}). Simplify its markup and add it again."


# By ``ParsingRequest.operation``, which describes the headers: header and body of a request → body of its
# answer
_OPERATIONS = {
    "page": _items,
    "lines": _items,
    "json": _items,
    "file": _items,
    "stored": _items,
    "document": _document,
    "body": _links,  # the links in a document's body
    "text": _text,
}


# Confinement: two walls of Linux, which a process sets up without a privilege, and which its children get
# too. Landlock allows files below named paths and no others. seccomp refuses system calls. If the kernel
# lacks one of them, the other one still stands. Numbers are those of the kernel's headers: linux/landlock.h,
# seccomp.h, filter.h.

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store")
_SYSTEM_DATA = (
    *("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/usr/share/fonts"),
    *map(str, mimetypes.knownfiles),
)
"""Files of the system that parsers read. For a PDF file without fonts pdfium measures letters in one of the
system's. The reader of workbooks asks Python for types of files, which reads the system's list of them."""
# LANDLOCK_ACCESS_FS_…: EXECUTE, WRITE_FILE, READ_FILE, READ_DIR
_EXECUTE, _WRITE, _READ, _LIST = 1, 1 << 1, 1 << 2, 1 << 3
_FILE_RIGHTS = _EXECUTE | _WRITE | _READ
"""Access rights of Landlock that a rule for a single file may have: a rule with another one is refused."""
# System calls landlock_create_ruleset, landlock_add_rule, landlock_restrict_self, on both machines
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_SIGNALS_SCOPED = 6
"""The version of Landlock that bounds signals to the process and what it started."""
_FILE_RIGHTS_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of rights to files, a bit each, by the version of Landlock; later versions as the last."""
_PR_SET_NO_NEW_PRIVS = 38

_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}
"""By ``uname -m``: column of system_calls.toml, AUDIT_ARCH_…, number of the system call seccomp."""
# Flags of clone: CLONE_THREAD; all CLONE_NEW… (namespaces)
_CLONE_THREAD, _CLONE_NAMESPACES = 0x10000, 0x7E020000
_SIGNAL_COMMANDS = (8, 10, 15)
"""fcntl's F_SETOWN, F_SETSIG, F_SETOWN_EX, by which the kernel signals another process for this one."""
_TERMINAL_COMMANDS = (0x5412, 0x541C, 0x8901, 0x8902)
"""ioctl's TIOCSTI and TIOCLINUX, which type into the terminal that is standard error, and FIOSETOWN and
SIOCSPGRP, which signal another process."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Operations of a BPF program: load a word, jump if equal, if at least, if any bit is set; return."""
_X32 = 0x40000000
"""Numbers from here on are x86_64's calls with short pointers. Other machines have no such call."""
_ALLOW, _END, _DENY, _ABSENT = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
"""SECCOMP_RET_…: allow, end the process, fail with EPERM, fail with ENOSYS (glibc then calls clone for
clone3)."""

# What each wall refuses, for the greeting: Landlock, seccomp
_FILES, _CALLS = ["files"], ["sockets", "signals", "tracing", "programs"]
_Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if true and if false, operand: (_EQUAL, 0, 3, 41) skips three unless the
word that was loaded is 41; (_LOAD, 0, 0, 16) loads the word at byte 16."""


def confine(*, readable: Iterable[str] = (), program: str | None = None) -> list[str]:
    """Confine this process for good; it must have one thread. Return what the kernel cannot refuse: [] or,
    for example, ["files"].

    The process may read its own code, libraries, fonts and the paths ``readable``; it writes nothing. With
    ``program`` it may start this program, which gets the same walls.
    """
    if sys.platform != "linux":
        return _FILES + _CALLS
    # In this order: both walls need NO_NEW_PRIVS, and what the second refuses depends on the first.
    system = ctypes.CDLL(None)
    # capset, header: version 3 of capget and no process id, then three empty sets of two words: root's
    # privileges
    system.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24))
    system.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = system.syscall(_LANDLOCK_CREATE, None, 0, 1)  # flag 1: the version; below 1: no Landlock
    rights = dict.fromkeys((*_code_folders(), *_LIBRARIES, *_SYSTEM_DATA, *readable), _READ | _LIST)
    has_files = version > 0 and _allow_files(system, version, rights | _rights_to_start(program))
    bounds_signals = has_files and version >= _SIGNALS_SCOPED
    has_calls = _refuse_calls(system, starts=program is not None, signals=bounds_signals)
    return ([] if has_files else _FILES) + ([] if has_calls else _CALLS)


def _code_folders() -> set[str]:
    """Return the folders of Python, of installed packages and of this program. Other folders of ``sys.path``
    are left out: they may be a home or a checkout."""
    packages = (path for path in sys.path if path.endswith("-packages"))
    ours = (*assistant.__path__, str(Path(pydantic.__file__).parents[1]))  # in Lambda one folder has both
    python = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), f"{sys.base_prefix}/lib")
    return {*packages, *ours, *python}


def _rights_to_start(program: str | None) -> dict[str, int]:
    """Return the rights by path that tesseract needs to start and to read its data; none without a
    program."""
    if program is None:
        return {}
    data = [f"{Path(program).parent.parent}/share/{name}" for name in ("tesseract-ocr", "tessdata")]
    data += filter(None, [os.environ.get("TESSDATA_PREFIX")])
    started = dict.fromkeys((program, *_LIBRARIES), _EXECUTE | _READ | _LIST)  # the loader is a library
    return dict.fromkeys(data, _READ | _LIST) | started | {"/dev/null": _READ | _WRITE}


def _allow_files(system: ctypes.CDLL, version: int, rights: Mapping[str, int]) -> bool:
    """Enter a Landlock domain that allows these rights below these paths; return whether the kernel did it.

    ``version`` is the kernel's version of Landlock, from 1. Paths that do not exist are skipped.
    """
    # Every right of the version: what no rule below allows is refused
    handled = (1 << _FILE_RIGHTS_KNOWN[min(version, max(_FILE_RIGHTS_KNOWN))]) - 1
    # Two bits each: to bind and connect, from version 4 on; abstract sockets and signals
    net, scoped = (3 if version >= 4 else 0), (3 if version >= _SIGNALS_SCOPED else 0)
    # Bytes of struct landlock_ruleset_attr: it grew with the network, and with signals
    size = 8 if version < 4 else 16 if version < _SIGNALS_SCOPED else 24
    rules = system.syscall(_LANDLOCK_CREATE, struct.pack("=QQQ", handled, net, scoped), size, 0)
    if rules < 0:
        return False
    for path, access in rights.items():
        with suppress(OSError):
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = access if Path(path).is_dir() else access & _FILE_RIGHTS
            # 1 is LANDLOCK_RULE_PATH_BENEATH; the structure has the rights and the open path
            system.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", allowed, folder), 0)
            os.close(folder)
    is_entered = system.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0
    os.close(rules)
    return is_entered


def _refuse_calls(system: ctypes.CDLL, *, starts: bool, signals: bool) -> bool:
    """Set the filter of system calls; return whether the kernel did it.

    ``starts``: this process may start a program. ``signals``: Landlock bounds its signals already.
    """
    if (machine := _MACHINES.get(os.uname().machine)) is None:
        return False
    column, architecture, seccomp = machine
    table = tomllib.loads(Path(__file__).with_name("system_calls.toml").read_text(encoding="utf-8"))
    calls = {name: [row[column] for row in group.values()] for name, group in table.items()}
    instructions = _filter(calls, architecture, starts=starts, signals=signals)
    filter_bytes = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(filter_bytes)
    program = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    # flag 4: older kernels slow a filtered process down, against leaks between its own parts
    return any(system.syscall(seccomp, 1, flags, program) == 0 for flags in (4, 0))


def _filter(
    calls: Mapping[str, Sequence[int]], architecture: int, *, starts: bool, signals: bool
) -> list[_Instruction]:
    """Return the BPF program that decides on each system call. ``calls``: numbers by the groups of
    system_calls.toml.

    It reads ``struct seccomp_data``: number (byte 0), architecture (4), pointer, six arguments (from 16, 8
    each). A call of another architecture ends the process; a call that no rule names is allowed.
    """
    return [
        # Skip the end of the process if the architecture is equal; skip the denial if the number is not x32's
        *((_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _END)),
        *((_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _DENY)),
        *_rule(calls["refused"], otherwise=_DENY),
        *_rule(calls["clone3"], otherwise=_ABSENT),
        *_rules_to_start(calls, starts=starts),
        *_rules_to_signal(calls, by_landlock=starts and signals),
        *_rule(calls["prlimit"], 0, os.getpid(), then=_ALLOW, otherwise=_DENY),
        *_rule(calls["fcntl"], *_SIGNAL_COMMANDS, at=1, then=_DENY, otherwise=_ALLOW),
        *_rule(calls["ioctl"], *_TERMINAL_COMMANDS, at=1, then=_DENY, otherwise=_ALLOW),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _rules_to_start(calls: Mapping[str, Sequence[int]], *, starts: bool) -> list[_Instruction]:
    """Return the rules for calls that start threads and processes: a program, but in no namespace of its own,
    or (``starts`` false) only threads."""
    if starts:
        return _rule(calls["clone"], _CLONE_NAMESPACES, test=_ANY_BIT, then=_DENY, otherwise=_ALLOW)
    only_threads = _rule(calls["clone"], _CLONE_THREAD, test=_ANY_BIT, then=_ALLOW, otherwise=_DENY)
    return only_threads + _rule(calls["starts"], otherwise=_DENY)


def _rules_to_signal(calls: Mapping[str, Sequence[int]], *, by_landlock: bool) -> list[_Instruction]:
    """Return the rules for kill and tgkill: only to this process, or (``by_landlock``) to one process at a
    time, where Landlock decides to which."""
    if by_landlock:  # ids from 1 << 31 on, read without a sign, are negative: a group, or every process
        return _rule(calls["kill"], 1 << 31, test=_AT_LEAST, then=_DENY, otherwise=_ALLOW)
    return _rule([*calls["kill"], *calls["tgkill"]], os.getpid(), then=_ALLOW, otherwise=_DENY)


def _rule(
    calls: Iterable[int], *values: int, otherwise: int, then: int = _ALLOW, at: int = 0, test: int = _EQUAL
) -> list[_Instruction]:
    """Return the instructions for some calls, by their numbers: each gets the answer ``then`` if its argument
    ``at`` (the low 32 bits) passes the test with one of the values, and else ``otherwise``.

    | rule | answer |
    | --- | --- |
    | ``_rule(refused, otherwise=_DENY)`` | denied, whatever its arguments are |
    | ``_rule(clone, _CLONE_THREAD, test=_ANY_BIT, then=_ALLOW, otherwise=_DENY)`` | only threads |
    | ``_rule(fcntl, 8, 10, at=1, then=_DENY, otherwise=_ALLOW)`` | all but the commands 8 and 10 |

    The instructions for one call of the last rule; a jump counts the instructions that it skips::

        equal 72 (fcntl)?  if not, skip the five below
        load argument 1
        equal 8?           if so, skip 2: the test of 10, and the return of ``otherwise``
        equal 10?          if so, skip 1: the return of ``otherwise``
        return _ALLOW      (``otherwise``)
        return _DENY       (``then``)
    """
    tests = [(test, len(values) - number, 0, value) for number, value in enumerate(values)]
    body = [(_LOAD, 0, 0, 16 + 8 * at), *tests, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, then)]
    return [step for number in calls if number >= 0 for step in ((_EQUAL, 0, len(body), number), *body)]


if __name__ == "__main__":
    main()
