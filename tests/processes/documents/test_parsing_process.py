"""The parsing process: its limits, and that they stop only the document that exceeds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from assistant.documents.files import SourceDocument
from assistant.documents.parsing_process import ParsingLimits, ParsingProcess
from assistant.documents.passages import InProcessParser, ParsedParts, Received, SeparateParser
from assistant.domain.errors import AssistantError, LocalRuntimeError, ParsingStoppedError
from tests.processes.documents.requests import GOOD, item_of, line, page, titles_of
from tests.unit.documents.scene import document

SLOW = "# Slow\n\n" + "![" * 300_000
"""Half a minute of work for the Markdown parser, and linear."""
LARGE = "# Large\n\n" + "a\n\n" * 1_500_000
"""Some gigabytes of tokens."""
SLOW_TO_READ = b"# **a**\n" * 600_000
"""Ten seconds of work for a search of the title, because each line may be a heading."""
LARGE_TO_READ = b"# Large\n\n" + b"ab\n" * 1_600_000
"""A hundred megabytes of lines."""
LONG_LINE = b'{"id":"a","question":"q","answer":"a","more":[' + b'{"a":1},' * 1_200_000 + b"1]}"
"""Some hundreds of megabytes of objects."""


def answers(process: ParsingProcess, *bodies: bytes) -> list[str]:
    return titles_of(process.run(page(body) for body in bodies))


@pytest.fixture
def make() -> Iterator[Callable[[ParsingLimits], ParsingProcess]]:
    made: list[ParsingProcess] = []

    def start(limits: ParsingLimits) -> ParsingProcess:
        made.append(ParsingProcess(limits))
        return made[-1]

    yield start
    for process in made:
        process.close()


Make = Callable[[ParsingLimits], ParsingProcess]


def test_many_requests_are_answered_in_their_order_by_one_child(make: Make) -> None:
    process = make(ParsingLimits())
    bodies = [f"# Page {number}\n\n{'Text. ' * number}".encode() for number in range(1, 300)]
    assert answers(process, *bodies) == [f"Page {number}" for number in range(1, 300)]
    first = process.pid
    assert answers(process, GOOD) == ["Refill"]
    assert process.pid == first


READING = {
    "cpu": (ParsingLimits(cpu_s=1), page(SLOW_TO_READ), "more than 1 s of CPU time"),
    "memory": (ParsingLimits(memory_mib=128), page(LARGE_TO_READ), "more than 128 MiB of memory"),
    "memory of a JSON line": (ParsingLimits(memory_mib=350), line(LONG_LINE), "out of memory"),
}
"""Content that is read before a document is added: the head of a page and its title, or a line of a file."""


@pytest.mark.parametrize("case", READING)
def test_a_file_that_passes_a_limit_while_it_is_read_fails_alone(make: Make, case: str) -> None:
    limits, request, says = READING[case]
    before, stopped, *after = titles_of(make(limits).run([page(), request, page(), page()]))
    assert (before, after) == ("Refill", ["Refill", "Refill"])
    assert says in stopped
    assert "add it again" in stopped


@pytest.mark.parametrize(
    ("limits", "content", "says"),
    [
        (ParsingLimits(wall_s=4.0), SLOW, "longer than 4 s"),
        (ParsingLimits(memory_mib=350), LARGE, "more than 350 MiB of memory"),
    ],
)
def test_a_document_that_passes_a_limit_while_it_is_parsed_fails_alone(
    make: Make, tokenizer_json: Path, limits: ParsingLimits, content: str, says: str
) -> None:
    apart = SeparateParser(make(limits), tokenizer_json=tokenizer_json, max_tokens=64, language_code="en")
    good = GOOD.decode()
    before, stopped, *after = apart.parse(documents(good, content, good, good))
    assert [type(parts) for parts in (before, *after)] == [ParsedParts] * 3
    assert isinstance(stopped, ParsingStoppedError)
    assert says in stopped.message
    assert "add it again" in stopped.message


def test_cpu_time_is_counted_for_each_document(make: Make, tokenizer_json: Path) -> None:
    process = make(ParsingLimits(cpu_s=2))
    apart = SeparateParser(process, tokenizer_json=tokenizer_json, max_tokens=64, language_code="en")
    parsed = list(apart.parse(documents(*["# Work\n\n" + "![" * 6_000] * 16)))
    assert [type(parts) for parts in parsed] == [ParsedParts] * 16
    assert process.pid is not None
    assert sum(psutil.Process(process.pid).cpu_times()[:2]) > 2


def test_a_killed_child_is_restarted_and_loses_no_request(make: Make) -> None:
    process = make(ParsingLimits(in_flight=4))
    titles: list[str] = []
    for answer in process.run(page(f"# Page {number}\n\nText.\n".encode()) for number in range(20)):
        assert isinstance(answer, bytes)
        item = item_of(answer)
        assert isinstance(item, SourceDocument)
        titles.append(item.document.title)
        if len(titles) in (5, 12):
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
    assert titles == [f"Page {number}" for number in range(20)]


def test_a_child_without_requests_ends_itself_and_another_answers_the_next(make: Make) -> None:
    process = make(ParsingLimits(idle_s=1))
    assert answers(process, GOOD) == ["Refill"]
    assert (first := process.pid) is not None
    assert psutil.Process(first).wait(timeout=30) is not None
    assert answers(process, GOOD) == ["Refill"]
    assert process.pid != first


def test_no_secret_and_no_credential_reaches_the_child(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.setenv(name, "secret-of-the-parent")
    process = make(ParsingLimits())
    assert answers(process, GOOD) == ["Refill"]
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"secret-of-the-parent" not in environment
    assert b"PYTHONPATH=" in environment


def test_a_child_that_cannot_start_fails_no_document(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LocalRuntimeError, match="did not start"):
        answers(make(ParsingLimits()), GOOD)


PARENT = """
import sys, time
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest
process = ParsingProcess()
page = ParsingRequest(operation="page", header={"name": "a", "is_markdown": True}, body=b"# A\\n\\nText.")
list(process.run([page]))
print(process.pid, flush=True)
time.sleep(600)
"""


def test_the_child_ends_with_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    with suppress(psutil.NoSuchProcess):  # a container's first process may leave it as a zombie
        while child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)


def documents(*contents: str) -> Sequence[Received]:
    made = [document(f"d{number}", content) for number, content in enumerate(contents)]
    return [Received(one, one.content_hash(), datetime(2026, 11, 20, tzinfo=UTC)) for one in made]


def test_a_document_has_the_same_parts_in_either_process(make: Make, tokenizer_json: Path) -> None:
    given = documents(
        "# A\n\n- one\n- two\n\nThe prior authorization (PA) is 10 mg.", "<!-- nothing -->", "|a|b|"
    )
    here = InProcessParser.load(tokenizer_json, max_tokens=64, language_code="en")
    apart = SeparateParser(
        make(ParsingLimits()), tokenizer_json=tokenizer_json, max_tokens=64, language_code="en"
    )

    def comparable(parts: ParsedParts | AssistantError) -> object:
        return (parts.code, parts.message) if isinstance(parts, AssistantError) else parts

    assert [*map(comparable, apart.parse(given))] == [*map(comparable, here.parse(given))]
