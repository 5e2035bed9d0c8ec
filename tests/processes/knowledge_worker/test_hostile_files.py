"""Hostile files among good ones, through the real worker process into the real stores.

``make check-full`` brings all of them with 600 good ones, ``make test`` a sample.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from assistant.documents.files import read_sources
from assistant.documents.receive import AddDocuments
from assistant.domain.documents import DocumentState
from tests.hostile.files import HostileFile, hostile_files
from tests.processes.knowledge_worker.site import Site
from tests.unit.documents.knowledge import HANDBOOK, OLGA, Knowledge, document, until

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
