"""A question for a code of a list of hundreds shows its row first and alone, or says that no line has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from random import Random

import pytest

from assistant.answer.section import UNKNOWN
from assistant.domain.documents import IndexedDocument, StoredDocument
from assistant.text.codes import codes_of_cell, term_of
from tests.fakes.answering import DIMENSIONS, FakeTenant, document, vector_of
from tests.fakes.tenant_stores import TenantStores
from tests.unit.answer.asking_and_reading import ask
from tests.unit.answer.code_tables import SHAPES, CodeQuestion, codes, lists, questions


def _indexed(stored: StoredDocument) -> IndexedDocument:
    """Return a document with its vectors."""
    card = stored.card
    titles = [vector_of(text) for text in (card.title, *card.questions)]
    passages = [(passage, vector_of(passage.embedding_input)) for passage in stored.passages]
    return IndexedDocument(card, titles, passages)


class Lists:
    """Two lists of each shape in the embedded index, beside a procedure."""

    def __init__(self, stores: TenantStores, *, rows: int) -> None:
        self._stores, self.random = stores, Random(54)  # noqa: S311 (made-up lists)
        self.listed = {shape: codes(shape, rows // len(SHAPES), self.random) for shape in SHAPES}
        self.tenant = FakeTenant()

    async def load(self) -> None:
        made = [document(), *lists(self.listed, self.random)]
        self.tenant = FakeTenant().with_documents(*made)
        await self._stores.index.replace_documents([_indexed(each) for each in made])
        self.tenant.search.search = self._stores.search.search  # type: ignore[method-assign]

    async def wrong(self, asked: Sequence[CodeQuestion]) -> list[tuple[CodeQuestion, str]]:
        """Return the questions whose answer is wrong, with the answer."""
        answers = [(each, (await ask(self.tenant, each.text)).text) for each in asked]
        return [(each, text) for each, text in answers if not _is_right(each, text)]


def _is_right(asked: CodeQuestion, text: str) -> bool:
    """Return whether the first row is that of the code, and the only one; or the first line says that there
    is none."""
    if asked.row is None:
        return text.startswith(f"{UNKNOWN} {asked.written}.")
    rows = [line for line in text.split("\n") if line.startswith("- ")]
    cells = [cell.partition(": ")[2] for line in rows for cell in line.removeprefix("- ").split("; ")]
    held = frozenset[str]().union(*map(codes_of_cell, cells))
    return len(rows) == 1 and term_of(asked.row) in held and UNKNOWN not in text


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncGenerator[TenantStores]:
    opened = TenantStores(tmp_path, dimensions=DIMENSIONS)
    yield opened
    await opened.close()


async def test_the_row_of_a_code_comes_first_and_alone_and_an_unknown_code_is_said(
    stores: TenantStores,
) -> None:
    made = Lists(stores, rows=480)
    await made.load()
    asked = [*questions(made.listed, known=24, unknown=12, random=made.random)]
    assert await made.wrong(asked) == []


@pytest.mark.night
async def test_of_two_thousand_rows_the_right_one_is_first_for_99_of_100_codes(stores: TenantStores) -> None:
    made = Lists(stores, rows=2_000)
    await made.load()
    known = [*questions(made.listed, known=200, unknown=0, random=made.random)]
    unknown = [*questions(made.listed, known=0, unknown=60, random=made.random)]
    assert len(await made.wrong(known)) <= len(known) // 100
    assert await made.wrong(unknown) == []
