"""Hostile files among good ones, through the real worker process into the real stores.

``make check-full`` brings all of them with 600 good ones, ``make test`` a sample.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant.documents.files import read_sources
from assistant.documents.receive import AddDocuments
from assistant.domain.documents import DocumentState
from tests.processes.knowledge_worker.conftest import Site
from tests.unit.documents.scene import HANDBOOK, OLGA, Knowledge, document, until


# --- files ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class HostileFile:
    name: str
    """Of its kind."""
    file: str
    content: bytes
    restricted: bool = False


_RUNS = {
    "spaces": " ",
    "tabs": "\t",
    "newlines": "\n",
    "carriage-returns": "\r",
    "no-break-spaces": "\u00a0",
    "line-separators": "\u2028",
    "ellipses": "\u2026",
    "full-stops": ".",
    "stars": "*",
    "stars-and-letters": "a*",
    "low-lines": "_a",
    "brackets": "[",
    "images": "![",
    "links": "[a](",
    "definitions": "[a]: b\n",
    "backticks": "`a",
    "tildes": "~",
    "angles": "<",
    "tags": "<a ",
    "pipes": "|a",
    "hashes": "\n#",
    "quotes": "\n>",
    "items": "\n- a",
    "numbers": "1,",
    "digits": "9",
    "digits-and-hyphens": "1-",
    "letters-and-hyphens": "a1-",
    "abbreviations": " (AB),",
    "entities": "&#",
    "combining-marks": "a\u0301",
    "emoji": "\U0001f469\u200d",
    "apostrophes": "a'",
}
_DEEP = {
    "div": 100_000,
    "ul><li": 5_000,
    "table><tr><td": 3_000,
    "b": 20_000,
    "blockquote": 10_000,
    "span": 20_000,
}
_META = {
    "hex": "title: 0xFFFFFFFFFFFFFFFFFFFFFFFF",
    "octal": "title: 0o777",
    "sexagesimal": "title: 190:20:30",
    "date": "title: 2026-13-99",
    "binary": "title: !!binary aaaa",
    "python": "title: !!python/object/apply:os.system [id]",
    "set": "labels: !!set {hr: }",
    "mapping": "labels: {hr: true}",
    "nested-list": "labels: [[hr]]",
    "no": "labels: [NO, ]",
    "capital-key": "Labels: [hr]",
    "singular": "label: hr",
    "trailing-colon": "labels: hr:",
    "anchor": "labels: &a [hr]",
    "merge": "<<: {labels: [hr]}",
    "tab-indent": "labels:\n\t- hr",
    "duplicate": "labels: [hr]\nlabels: []",
    "unicode-escape": 'title: "\\ud800"',
    "no-end": "labels: [hr",
    "quote-open": 'labels: "hr',
    "long-key": f"{'k' * 5000}: v\nlabels: [hr]",
    "long-value": f"labels: [hr]\ntitle: {'t' * 5000}",
    "many-keys": "labels: [hr]\n" + "\n".join(f"k{n}: v" for n in range(2000)),
    "deep-flow": "labels: " + "[" * 3000 + "]" * 3000,
    "deep-block": "labels:\n" + "".join(f"{' ' * n}-\n" for n in range(300)),
    "directive": "%YAML 9.9\n---\nlabels: [hr]",
    "control": "labels: [h\x07r]",
    "next-line": "labels: [hr]\u0085title: t",
    "comment-bomb": "labels: [hr]\n" + "# c\n" * 10_000,
    "over-the-bound": "labels: [hr]\ntitle: " + "t" * 70_000,
    "merge-levels": "\n".join(
        ["a0: &a0 {k: v}"]
        + [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 9)]
        + ["labels: [hr]"]
    ),
    "aliases": "\n".join(
        ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)] + ["labels: [hr]"]
    ),
}
_JSON = {
    "deep-list": "[" * 5000 + "]" * 5000,
    "deep-object": '{"a":' * 5000 + "1" + "}" * 5000,
    "not-a-number": '{"id": "n", "question": "q", "answer": NaN, "labels": ["hr"]}',
    "infinity": '{"id": "i", "question": "q", "answer": Infinity, "labels": ["hr"]}',
    "long-integer": '{"id": "l", "question": "q", "answer": ' + "9" * 5000 + ', "labels": ["hr"]}',
    "integer-id": '{"id": ' + "7" * 300 + ', "question": "q", "answer": "a", "labels": ["hr"]}',
    "double-key": '{"id": "d", "question": "q", "answer": "a", "labels": ["hr"], "labels": []}',
    "null-labels": '{"id": "nl", "question": "q", "answer": "a", "labels": null}',
    "label-object": '{"id": "lo", "question": "q", "answer": "a", "labels": {"hr": true}}',
    "label-number": '{"id": "ln", "question": "q", "answer": "a", "labels": [7]}',
    "surrogate": '{"id": "s", "question": "q", "answer": "\\ud800", "labels": ["hr"]}',
    "cut": '{"id": "c", "question": "q", "answer": "a", "labels": ["hr"',
    "two-objects": '{"id": "t", "question": "q", "answer": "a"} {"labels": ["hr"]}',
    "nothing": "null",
    "spaces-in-answer": json.dumps({"id": "sp", "question": "q", "answer": "x" + " " * 45_000 + "y"}),
    "id-of-path": '{"id": "../../etc/passwd", "question": "q", "answer": "a"}',
    "id-of-nul": '{"id": "a\\u0000b", "question": "q", "answer": "a"}',
    "many-questions": json.dumps({"id": "mq", "question": "q", "answer": "a", "questions": ["q?"] * 5000}),
    "long-label": json.dumps({"id": "ll", "question": "q", "answer": "a", "labels": ["h" * 5000]}),
}


def _of_runs() -> Iterator[HostileFile]:
    for name, unit in _RUNS.items():
        run = unit * (45_000 // len(unit))
        yield HostileFile(f"{name}.md", f"run-{name}.md", f"# Run\n\nx{run}y\n".encode())
        yield HostileFile(f"{name}.html", f"run-{name}-page.html", f"<h1>Run</h1><p>x{run}y</p>".encode())


def _of_nesting() -> Iterator[HostileFile]:
    for tag, depth in _DEEP.items():
        opened = f"<{tag}>" * depth
        name = tag.split(">", 1)[0]
        yield HostileFile(f"deep-{name}.html", f"deep-{name}.html", f"<h1>Deep</h1>{opened}x".encode())
        yield HostileFile(f"deep-{name}.md", f"deep-{name}-raw.md", f"# Deep\n\n{opened}x\n".encode())
    lists = "".join(f"{'  ' * depth}- a\n" for depth in range(400))
    yield HostileFile("deep-lists.md", "deep-lists.md", f"# Deep\n\n{lists}".encode())
    yield HostileFile("deep-quotes.md", "deep-quotes.md", b"# Deep\n\n" + b"> " * 20_000 + b"x\n")


def _of_front_matter() -> Iterator[HostileFile]:
    for name, meta in _META.items():
        restricted = "hr" in meta or "label" in meta.casefold() or "NO" in meta
        content = f"---\n{meta}\n---\n\n# Meta\n\nText.\n".encode()
        yield HostileFile(f"front-matter-{name}", f"meta-{name}.md", content, restricted=restricted)


def _of_lines() -> Iterator[HostileFile]:
    for name, line in _JSON.items():
        yield HostileFile(f"line-{name}", f"line-{name}.jsonl", line.encode(), restricted="label" in line)


def _of_bytes() -> Iterator[HostileFile]:
    bomb = gzip.compress(b"\0" * (64 << 20))
    yield HostileFile("zeros.jsonl.gz", "bomb-zeros.jsonl.gz", bomb)
    yield HostileFile("spaces.jsonl.gz", "bomb-spaces.jsonl.gz", gzip.compress(b" " * (32 << 20)))
    yield HostileFile("cut.jsonl.gz", "cut.jsonl.gz", bomb[: len(bomb) // 2])
    yield HostileFile("no-gzip.jsonl.gz", "no-gzip.jsonl.gz", b"plain text")
    yield HostileFile("utf-16.md", "utf-16.md", "# Sixteen\n\nText.\n".encode("utf-16"))
    yield HostileFile("latin-1.md", "latin-1.md", "# Caf\u00e9\n".encode("latin-1"))
    yield HostileFile("nul.md", "nul.md", b"# Nul\n\n\0\0\0 text\n")
    yield HostileFile("empty.md", "empty.md", b"")
    yield HostileFile("empty.html", "empty-page.html", b"")
    yield HostileFile("binary.html", "binary.html", bytes(range(256)) * 400)
    yield HostileFile(
        "over-the-limit.md", "over-the-limit.md", b"---\nlabels: [hr]\n---\n# L\n" + b"a " * 2_600_000
    )
    yield HostileFile("escape.md", "escape.md", b"# \x1b[2J\x1b]0;owned\x07\n\n\x1b[31mText.\n")
    yield HostileFile("script.html", "script.html", b"<h1>S</h1><script>alert(1)</script><p onclick=x>T.</p>")
    yield HostileFile("open-comment.html", "open-comment.html", b"<h1>C</h1><!-- " + b"-" * 40_000)
    yield HostileFile(
        "many-attributes.html", "many-attributes.html", b"<h1>A</h1><p " + b"a=b " * 20_000 + b">T."
    )
    yield HostileFile(
        "wide-table.md", "wide-table.md", b"# W\n\n" + b"|a" * 3_000 + b"|\n" + b"|-" * 3_000 + b"|\n"
    )
    yield HostileFile("minutes-of-work.md", "minutes.md", b"# M\n\n" + b"![" * 1_000_000)


def hostile_files() -> list[HostileFile]:
    """Return all of them, each kind once."""
    return [*_of_runs(), *_of_nesting(), *_of_front_matter(), *_of_lines(), *_of_bytes()]


# --- tests ------------------------------------------------------------------------------------------------
_log = logging.getLogger(__name__)
FULL = os.environ.get("EXAMPLES") == "new"
GOOD = 600 if FULL else 100
CHOSEN = hostile_files() if FULL else hostile_files()[::7]
WITHIN_S = 1800.0 if FULL else 110.0
ENDED = frozenset([DocumentState.LIVE, DocumentState.FAILED, DocumentState.STALE, DocumentState.WITHDRAWN])


def write(folder: Path, hostile: list[HostileFile]) -> None:
    """Good ones between the others, in the order of their names."""
    folder.mkdir()
    for number in range(GOOD):
        (folder / f"{number:03}-good.md").write_text(
            f"# Good {number}\n\nWait {number} days.\n", encoding="utf-8"
        )
    for place, one in enumerate(hostile):
        (folder / f"{place * GOOD // len(hostile):03}-hostile-{one.file}").write_bytes(one.content)


def test_there_are_enough_kinds() -> None:
    files = hostile_files()
    assert len({one.name for one in files}) == len(files) >= 120
    assert sum(one.restricted for one in files) >= 30


@pytest.mark.timeout(2000)
async def test_hostile_files_delay_neither_good_files_nor_a_withdrawal(site: Site) -> None:
    folder = site.root / "files"
    write(folder, CHOSEN)
    knowledge = site.knowledge()
    await knowledge.add(document("leaving"))
    async with site.worker():
        await until(lambda: _is_live(knowledge, "leaving"), within_s=WITHIN_S)
        add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
        summary = await add(read_sources([folder]), source=HANDBOOK, writer=OLGA)
        asked_s = time.monotonic()
        await knowledge.withdraw("leaving")

        async def is_out() -> bool:
            return (await knowledge.status("leaving")).live_content_hash is None

        await until(is_out, within_s=WITHIN_S)
        withdrawn_s = time.monotonic() - asked_s
        states = await knowledge.stores.states.count_by_state()
        assert sum(count for state, count in states.items() if state not in ENDED) > 0  # before the backlog
        _log.info("withdrawn among hostile files in %.2f s", withdrawn_s)

        async def settled() -> bool:
            found = await knowledge.stores.states.count_by_state()
            return all(state in ENDED for state in found)

        await until(settled, within_s=WITHIN_S)
    statuses = await knowledge.stores.states.list(limit=10_000)
    good = [one for one in statuses if one.title.startswith("Good ")]
    assert Counter(one.state for one in good) == {DocumentState.LIVE: GOOD}
    assert all(failure.reason for failure in summary.failures)
    assert all(one.failure_reason for one in statuses if one.state == DocumentState.FAILED)
    restricted = {one.file.split(".", 1)[0] for one in CHOSEN if one.restricted}
    public = [one.document_id for one in statuses if one.state == DocumentState.LIVE and not one.labels]
    assert [name for name in public if any(mark in name for mark in restricted)] == []
    await knowledge.stores.close()


async def _is_live(knowledge: Knowledge, document_id: str) -> bool:
    return await knowledge.state(document_id) == DocumentState.LIVE
