"""A database as a source, end to end: rows are loaded, changed, restricted and withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from assistant.domain.clock import Deadline
from assistant.domain.documents import DocumentState
from assistant.domain.errors import DependencyError, OverloadedError
from assistant.options.sources.connector import ChangePage, Connector, FetchedItem
from assistant.options.sources.run import SourceRun
from tests.options.sources.conftest import Pages, sync_of
from tests.unit.documents.scene import Knowledge

pytestmark = pytest.mark.parametrize("knowledge", ["here", "service"], indirect=True)
LATER = "2026-11-02 08:00:00"


async def states_of(knowledge: Knowledge) -> dict[str, DocumentState]:
    return {status.document_id: status.state for status in await knowledge.stores.states.list()}


async def test_rows_come_change_and_go(pages: Pages, knowledge: Knowledge) -> None:
    for number in range(1, 6):  # pages of two rows, all with the same time
        pages.put(number, f"Body {number}.")
    sync = sync_of(knowledge, pages.settings())
    first = await sync()
    assert (first.changed, first.errors) == (5, ())
    assert first.succeeded_at
    await knowledge.work()
    assert set((await states_of(knowledge)).values()) == {DocumentState.LIVE}

    pages.put(3, "Another body.")  # the same time again: the last run may have read just before
    pages.put(4, "Newer.", at=LATER)
    pages.run("DELETE FROM pages WHERE id = 2")
    second = await sync()
    assert (second.changed, second.deleted, second.refused) == (2, 1, 0)
    document = await knowledge.stores.documents.get("wiki:3")
    assert document
    assert document.content == "Another body."
    assert await knowledge.stores.documents.get("wiki:2") is None
    third = await sync()
    assert (third.changed, third.deleted) == (0, 0)


async def test_groups_become_labels_or_the_row_is_withheld(pages: Pages, knowledge: Knowledge) -> None:
    for number, readers in enumerate(("", "personnel", "strangers", None, "strangers, personnel"), start=1):
        pages.put(number, "A text.", readers=readers)
    sync = sync_of(knowledge, pages.settings())
    run = await sync()
    assert (run.changed, run.refused) == (3, 2)
    labels = {status.document_id: status.labels for status in await knowledge.stores.states.list()}
    assert labels == {"wiki:1": (), "wiki:2": ("hr",), "wiki:5": ("hr",)}
    pages.put(1, "A text.", at=LATER, readers="strangers")
    assert (await sync()).refused
    assert (await knowledge.status("wiki:1")).state is DocumentState.WITHHELD


async def test_most_documents_are_withdrawn_only_when_confirmed(pages: Pages, knowledge: Knowledge) -> None:
    for number in range(1, 5):
        pages.put(number, "A text.")
    sync = sync_of(knowledge, pages.settings())
    await sync()
    pages.run("DELETE FROM pages")
    stopped = await sync()
    assert (stopped.deleted, stopped.succeeded_at is not None) == (0, True)  # that of the first run
    assert "--yes" in stopped.errors[0]
    assert (await sync(confirmed=True)).deleted == 4


class Faulty:
    """A connector that dies at its nth call, or asks to wait there."""

    def __init__(self, connector: Connector, *, at: int, error: Exception) -> None:
        self._connector = connector
        self._left = at
        self._error = error

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error

    async def changes(self, cursor: str | None, *, deadline: Deadline) -> ChangePage:
        self._step()
        return await self._connector.changes(cursor, deadline=deadline)

    async def fetch(self, item_id: str, *, deadline: Deadline) -> FetchedItem | None:
        self._step()
        return await self._connector.fetch(item_id, deadline=deadline)

    async def all_ids(self, after: str | None, *, deadline: Deadline) -> tuple[Sequence[str], str | None]:
        self._step()
        return await self._connector.all_ids(after, deadline=deadline)

    async def close(self) -> None:
        """The wrapped connector is closed by whoever opened it."""


async def test_a_system_that_dies_at_any_step_loses_and_doubles_nothing(
    pages: Pages, knowledge: Knowledge
) -> None:
    for number in range(1, 6):
        pages.put(number, f"Body {number}.")
    whole = sync_of(knowledge, pages.settings())
    died: list[SourceRun] = []
    for step in range(1, 12):
        faulty = partial(Faulty, at=step, error=DependencyError("The database died."))
        run = await sync_of(knowledge, pages.settings(), faulty)()
        died.append(run)
        pages.put(step % 5 + 1, f"Body after {step}.", at=f"2026-11-02 08:00:{step:02}")
    assert died[0].errors
    assert all(run.deleted == 0 for run in died)
    await whole()
    await knowledge.work()
    assert await states_of(knowledge) == {f"wiki:{n}": DocumentState.LIVE for n in range(1, 6)}
    for number in range(1, 6):
        document = await knowledge.stores.documents.get(f"wiki:{number}")
        assert document
        assert document.content == f"Body after {max(s for s in range(1, 12) if s % 5 + 1 == number)}."


async def test_a_system_that_asks_to_wait_is_asked_again(pages: Pages, knowledge: Knowledge) -> None:
    pages.put(1, "A text.")
    busy = partial(Faulty, at=2, error=OverloadedError("Wait.", retry_after_s=0.01))
    run = await sync_of(knowledge, pages.settings(), busy)()
    assert (run.changed, run.errors) == (1, ())
