"""A question for one thing of a table shows its row, first and alone, or says that no line has it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import pytest

from assistant.answer.rows import rows_about
from assistant.answer.scores import QuestionTerms, UnitScorer
from assistant.answer.section import DIFFERENT, UNKNOWN
from assistant.answer.vocabulary import Vocabulary
from assistant.documents.formats import convert
from assistant.domain.documents import IndexedDocument, StoredDocument
from assistant.text.codes import codes_of_cell, term_of
from assistant.text.language import language
from tests.stage.answering import DIMENSIONS, FakeTenant, document, vector_of
from tests.stage.tenant_stores import TenantStores
from tests.unit.answer.asking_and_reading import Asked, ask

FEES = """
# Fees

The fees of a branch. They are due at the counter.

| Plan | Copay | Deductible |
| --- | --- | --- |
| Silver | $20 | $500 |
| Gold | $10 | $250 |
| Bronze | $35 | $900 |

A child pays half.
"""


def tenant(*documents: StoredDocument) -> FakeTenant:
    return FakeTenant().with_documents(*documents)


def rows(asked: Asked) -> list[str]:
    return [line.removeprefix("- ") for line in asked.text.split("\n") if line.startswith("- ")]


def quoted(asked: Asked) -> list[str]:
    return [asked.text[each.start : each.end] for each in asked.sentences]


async def shown(question: str, content: str = FEES) -> list[str]:
    return quoted(await ask(tenant(document("fees", content, title="Fees")), question))


async def test_a_row_is_shown_with_its_columns_names_and_what_stands_around_the_table() -> None:
    assert await shown("What is the copay of the silver plan?") == [
        "The fees of a branch.",
        "They are due at the counter.",
        "Plan: Silver; Copay: $20; Deductible: $500",
        "A child pays half.",
    ]


@pytest.mark.parametrize(
    ("question", "plans"),
    [
        ("copay of gold and bronze", ["Gold", "Bronze"]),
        ("Which plan has the highest copay?", ["Silver", "Gold", "Bronze"]),
        ("deductible of the platinum plan", ["Silver", "Gold", "Bronze"]),
    ],
)
async def test_all_rows_are_shown_that_a_question_names_and_all_where_it_names_none(
    question: str, plans: list[str]
) -> None:
    units = [unit for unit in await shown(question) if unit.startswith("Plan: ")]
    assert [re.split("[:;] ?", unit)[1] for unit in units] == plans


def named(question: str, content: str) -> list[str]:
    """Return the rows of a document that a question names most."""
    scorer = UnitScorer(language("en"))
    asked = QuestionTerms(Vocabulary(language("en"), glossary={}).terms(question))
    units = scorer.score(asked, document("list", content, title="List"), passage_cosines={})
    return [row.unit.text for row in rows_about(units, asked, stems=scorer.stems) if row.is_most]


ROOMS = "| Place | Opens |\n| --- | --- |\n| Room 1 | 7 |\n| Room 12 | 8 |\n| Room 30 | 9 |"


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("When does room 12 open?", "Place: Room 12; Opens: 8"),
        ("When do you open for 12 visitors?", None),
        ("I have 30 visitors", None),
    ],
)
def test_a_first_cell_names_its_row_by_what_differs_where_the_question_has_all_of_it(
    question: str, row: str | None
) -> None:
    assert named(question, ROOMS) == ([row] if row else [])


DRUGS = "| Drug | Price |\n| --- | --- |\n| Ibuprofen | $5 |\n| Prednisolone | $8 |\n| Tramadol | $9 |"


@pytest.mark.parametrize(
    ("word", "row"),
    [
        ("ibuprofen", "Drug: Ibuprofen; Price: $5"),
        ("ibuprofin", "Drug: Ibuprofen; Price: $5"),
        ("iboprofen", "Drug: Ibuprofen; Price: $5"),
        ("prednisone", None),
        ("ibuprotin", None),
    ],
)
def test_one_wrong_letter_of_a_long_name_still_names_its_row_and_two_do_not(
    word: str, row: str | None
) -> None:
    assert named(f"{word} price", DRUGS) == ([row] if row else [])


@pytest.mark.parametrize(
    ("question", "rows_named"),
    [
        ("Where are gold cards kept in the shop?", ["Gold"]),
        ("Is there a list of what is covered?", []),
        ("Which plan is listed for a member abroad?", []),
    ],
)
def test_a_word_inside_a_long_cell_names_no_row(question: str, rows_named: list[str]) -> None:
    content = "| Plan | Covers |\n| --- | --- |\n| Gold | Care of a member who is abroad for a month |\n"
    content += "| Silver | Listed care only |\n| Bronze | Emergencies |"
    assert [re.split("[:;] ?", text)[1] for text in named(question, content)] == rows_named


NORTH_SHEET = "| Drug | Strength | Price |\n| --- | --- | --- |\n| Gabapentin | 300 mg | $0.09 |\n"
NORTH_SHEET += "| Gabapentin | 100 mg | $0.03 |\n| Naproxen | 500 mg | $0.08 |"
SOUTH_SHEET = NORTH_SHEET.replace("$0.09", "$0.04")


def sheets(north: str = NORTH_SHEET, south: str = SOUTH_SHEET) -> FakeTenant:
    return tenant(
        document("north", north, title="North prices", effective_date=date(2026, 1, 1)),
        document("south", south, title="South prices"),
    )


async def test_other_values_of_one_thing_are_shown_with_their_documents_dates_and_recorded() -> None:
    asked = await ask(sheets(), "price of gabapentin 300 mg")
    assert DIFFERENT in asked.text
    assert "**North prices**, effective 2026-01-01" in asked.text
    assert "**South prices**, updated 2026-03-01" in asked.text
    assert sorted(rows(asked)) == [
        "Drug: Gabapentin; Strength: 300 mg; Price: $0.04",
        "Drug: Gabapentin; Strength: 300 mg; Price: $0.09",
    ]
    assert sorted(asked.record.differing) == ["north", "south"]
    assert {use.document_id for use in asked.record.quoted} == {"north", "south"}


@pytest.mark.parametrize(
    "south",
    [
        NORTH_SHEET,
        SOUTH_SHEET.replace("300 mg", "400 mg"),
        SOUTH_SHEET.replace("Price", "Copay"),
        SOUTH_SHEET.replace("$0.04", ""),
        SOUTH_SHEET.replace("300 mg", "300mg").replace("$0.04", "$0.09"),
    ],
    ids=["the same", "another strength", "another column", "no value", "the same in other spacing"],
)
async def test_nothing_differs(south: str) -> None:
    asked = await ask(sheets(south=south), "price of gabapentin 300 mg")
    assert DIFFERENT not in asked.text
    assert asked.record.differing == ()


async def test_a_document_about_something_else_gives_no_other_value() -> None:
    made = tenant(
        document("north", NORTH_SHEET, title="Delivery"), document("south", SOUTH_SHEET, title="Pick-up")
    )
    asked = await ask(made, "delivery price of gabapentin 300 mg")
    assert asked.record.differing == ()


_TITLES = {
    "hyphen": ("Fee schedule {}", "Procedure", "Fee"),
    "zip": ("Delivery areas {}", "Town", "Delivery day"),
    "letters": ("Billing codes {}", "Item", "Prior approval"),
    "dotted": ("Form revisions {}", "Form", "Valid for"),
    "ndc": ("Covered packages {}", "Package", "Tier"),
    "strength": ("Combination tablets {}", "Tablet", "Copay"),
}
"""Title of a list with the name of its half, and its columns beside the code."""
_QUESTIONS = (
    "What does the list say about {}?",
    "{value} for {}?",
    "Customer asks for {}, what is the {value}?",
    "hi, i have a member on the phone who wants to know about {} please, thanks",
    "[{}] {value}",
    "Is there an entry for code ({})?",
)
_WORDS = ("north", "amber", "sling", "brace", "willow", "cover", "visit", "kit", "plain", "large", "review")


@dataclass(frozen=True, slots=True)
class CodeQuestion:
    """A question for one code."""

    text: str
    written: str
    """The code as the question has it."""
    row: str | None
    """The code as its row has it; None where no row has it."""


_CODES = {
    "hyphen": "QX-1###",
    "zip": "1####",
    "letters": "J3###",
    "dotted": "4.#.1##",
    "ndc": "000#-82##-1#",
    "strength": "1#/4##",
}
SHAPES = tuple(_CODES)


def codes(shape: str, count: int, random: Random) -> list[str]:
    """Return so many codes of a shape, each once."""
    made = dict[str, None]()
    while len(made) < count:
        made["".join(str(random.randrange(10)) if sign == "#" else sign for sign in _CODES[shape])] = None
    return list(made)


def lists(listed: dict[str, list[str]], random: Random) -> Iterator[StoredDocument]:
    """Yield two lists of each shape: the first half of its codes as CSV, the second as Markdown, where some
    codes stand in brackets behind a word."""
    for shape, own in listed.items():
        title, *columns = _TITLES[shape]
        half = len(own) // 2
        rows = [
            (code, f"{random.choice(_WORDS)} {random.choice(_WORDS)}", f"{random.randrange(5, 90)}")
            for code in own
        ]
        csv = "\n".join([",".join(("Code", *columns)), *(",".join(row) for row in rows[:half])])
        page = convert("list.csv", csv.encode()).to_bytes().decode()
        yield document(
            f"{shape}-csv", page, title=title.format("east"), media_type="application/vnd.page+json"
        )
        lines = [
            f"| {name} ({code}) | {value} |" if at % 3 == 0 else f"| {code} | {value} |"
            for at, (code, name, value) in enumerate(rows[half:])
        ]
        head = [f"# {title.format('west')}", "", f"| Entry | {columns[1]} |", "| --- | --- |"]
        text = "\n".join([*head, *lines, "", "Ask the desk where an entry is missing."])
        yield document(f"{shape}-md", text, title=title.format("west"))


def questions(
    listed: dict[str, list[str]], *, known: int, unknown: int, random: Random
) -> Iterator[CodeQuestion]:
    """Yield so many questions of each kind, the shapes in turn: as listed, in lower case, or with blanks for
    hyphens."""
    for at in range(known + unknown):
        shape = SHAPES[at % len(SHAPES)]
        own, is_known = listed[shape], at < known
        if is_known:
            code = random.choice(own)
        else:
            code = next(code for code in codes(shape, len(own) + 50, random) if code not in own)
        written = random.choice((code, code.lower(), code.replace("-", " ").lower()))
        value = random.choice((_TITLES[shape][2], _TITLES[shape][2].lower()))
        text = random.choice(_QUESTIONS).format(written, value=value)
        yield CodeQuestion(text, written, code if is_known else None)


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
