"""Facts that stand away from the rows that they change: read beside these, or told to the owner."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from pptx import Presentation

from assistant.documents.parsing import render_document
from assistant.documents.parsing.html import read_html
from tests.unit.documents.scene import read_one

ROOMS = (("Room", "Half day", "Full day"), ("Larch", 40, 70), ("Elm", 55, 95), ("Oak", 60, 110))
NAMED = "| Room | Price |\n| --- | --- |\n| Larch | $40 |\n| Elm | $55 |\n"


def workbook(**sheets: tuple[tuple[object, ...], ...]) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return buffer.getvalue()


def cover(subtitle: str) -> bytes:
    file: Any = Presentation()
    buffer = io.BytesIO()
    for title, text in (("Rooms", subtitle), ("Keys", "A key is 20 a day.")):
        slide = file.slides.add_slide(file.slide_layouts[0])
        slide.shapes.title.text, slide.placeholders[1].text = title, text
    file.save(buffer)
    return buffer.getvalue()


def read(folder: Path, name: str, raw: bytes | str) -> tuple[str, str, list[str]]:
    """Return the text, the banner and the notes of a load."""
    path = folder / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    item = read_one(path)
    parsed = render_document(item.document).parsed
    return parsed.text, parsed.banner, [*map(str, item.losses)]


BESIDE: dict[str, tuple[str, bytes | str, str]] = {
    "a sheet of sentences": (
        "a.xlsx",
        workbook(Notes=(("Guests pay 10 more.",), ("Keys at desk 4.",)), Rooms=ROOMS),
        "Guests pay 10 more.; Keys at desk 4.",
    ),
    "a mark and a currency above the first table": (
        "a.xlsx",
        workbook(Rooms=(("DRAFT",), ("Prices in CHF",), (), *ROOMS), Halls=ROOMS),
        "DRAFT; Prices in CHF",
    ),
    "lines of a sheet without names": (
        "a.xlsx",
        workbook(About=(("Contact", "desk 4"), ("Currency", "CHF")), Rooms=ROOMS),
        "Currency: CHF",
    ),
    "a mark above sections": (
        "a.md",
        "# Rooms\n\n**DRAFT** - ask Ann\n\n## Keys\n\nDesk 4.\n",
        "DRAFT - ask Ann",
    ),
    "an amendment below the last line": (
        "a.md",
        f"# Rooms\n\n{NAMED}\n## Keys\n\nDesk 4.\n\n---\n\nAmended 3 May: Elm is shut.\n",
        "Amended 3 May: Elm is shut.",
    ),
    "an amendment of a text": (
        "a.txt",
        "Rooms\n\nLarch is 40.\n\n---\nAmended 3 May: Elm is shut.\n",
        "Amended 3 May: Elm is shut.",
    ),
    "a currency in the head of JSON": (
        "a.json",
        '{"meta": {"currency": "CHF"}, "rooms": [{"name": "Elm", "price": 4}, {"name": "Oak", "price": 5}]}',
        "meta: currency: CHF",
    ),
    "a currency that the rows have": ("a.md", f"# Rooms\n\nCards in USD only.\n\n## Prices\n\n{NAMED}", ""),
    "a line between sections": ("a.md", f"# Rooms\n\n{NAMED}\n---\n\n## Keys\n\nDesk 4.\n", ""),
    "a sentence above sections": ("a.md", f"# Rooms\n\nAsk at desk 4.\n\n## Prices\n\n{NAMED}", ""),
}


@pytest.mark.parametrize(("name", "raw", "banner"), BESIDE.values(), ids=BESIDE)
def test_what_holds_for_all_is_beside_each_quote_and_once_in_the_text(
    tmp_path: Path, name: str, raw: bytes | str, banner: str
) -> None:
    text, shown, _ = read(tmp_path, name, raw)
    assert shown == banner
    assert text.startswith(banner)
    assert not banner or text.count(banner.partition(";")[0]) == 1


TOLD: dict[str, tuple[str, bytes | str, str]] = {
    "a sheet of many sentences": (
        "a.xlsx",
        workbook(
            Notes=tuple((f"Rule {n}: keys come back to desk 4 by noon.",) for n in range(9)), Rooms=ROOMS
        ),
        "what may hold for all of it (",
    ),
    "days on a cover": (
        "a.pptx",
        cover("until 31 March 2027"),
        'when it is in force ("until 31 March 2027")',
    ),
    "days in a title": (
        "a.md",
        "# Rooms (until 31 March)\n\nLarch is 40.\n",
        'when it is in force ("Rooms (until',
    ),
    "a mark": ("a.md", "DRAFT\n\n# Rooms\n\nLarch is 40.\n", 'when it is in force ("DRAFT")'),
    "a last column with gaps": (
        "a.csv",
        "Room,Price,Contact\nLarch,40,Ann\nElm,55,\nOak,60,Bob\nFir,61,\n",
        'empty cells that may mean "as above" stay empty: Contact.',
    ),
    "two rows of an item": (
        "a.csv",
        "Room,Price\nLarch,40\nElm,55\nLarch,45\n",
        '"Room: Larch; Price: 40" and "Room: Larch; Price: 45" may contradict each other.',
    ),
    "a copy of a table": ("a.xlsx", workbook(New=ROOMS, Old=(*ROOMS[:3], ("Oak", 60, 99))), "may contradict"),
    "a sentence beside a row": (
        "a.md",
        f"# Rooms\n\n{NAMED}\n## News\n\nLarch is now $45 a day.\n",
        '"Room: Larch; Price: $40" and "Larch is now $45 a day." may contradict each other.',
    ),
}


@pytest.mark.parametrize(("name", "raw", "told"), TOLD.values(), ids=TOLD)
def test_what_only_the_owner_can_judge_is_told(
    tmp_path: Path, name: str, raw: bytes | str, told: str
) -> None:
    *_, losses = read(tmp_path, name, raw)
    assert any(told in loss for loss in losses), losses


SILENT: dict[str, tuple[str, str]] = {
    "sizes of several items": ("a.csv", "Room,Size\nLarch,4\nLarch,5\nElm,4\nElm,6\n"),
    "rows below other titles": (
        "a.csv",
        "Room,Price,Key\nIndoor:,,\nLarch,4,1\nElm,5,2\nOutdoor:,,\nLarch,6,1\n",
    ),
    "another kind of amount": ("a.md", f"# Rooms\n\n{NAMED}\n## News\n\nLarch has 45 m2 for 8 people.\n"),
    "rows without a first cell": ("a.csv", "Room,Price\nLarch,4\n,5\nElm,5\n,7\n"),
}


@pytest.mark.parametrize(("name", "raw"), SILENT.values(), ids=SILENT)
def test_rows_that_may_all_be_right_are_not_told(tmp_path: Path, name: str, raw: str) -> None:
    *_, losses = read(tmp_path, name, raw)
    assert not any("contradict" in loss for loss in losses)


TEXTS: dict[str, tuple[str, str, str]] = {
    "a numbered list of notes": (
        "a.md",
        "# Fees\n\nA card is 9 [1].\n\n## Keys\n\nA key is 20 [2].\n\n## Notes\n\n"
        "1. On weekdays.\n2. From June.\n",
        "A key is 20 [2].\n\n[2] From June.",
    ),
    "the name of a file": (
        "a.md",
        "See [the form](../forms/LP-3.pdf#top) and [keys](keys.md).",
        "the form (LP-3.pdf) and keys.",
    ),
    "a table of HTML in a cell": (
        "a.csv",
        'Room,Price\nElm,"<table><tr><th rowspan=2>Day</th><th colspan=2>Price</th></tr><tr><th>Half</th>'
        '<th>Full</th></tr><tr><td>Mon</td><td>4</td><td>7</td></tr></table>"\nOak,none\n',
        "Room: Elm; Price: Day: Mon; Price Half: 4; Price Full: 7\n",
    ),
    "a table of lines in a cell": (
        "a.csv",
        'Room,Price\nElm,"Day | Price | Price\n | half | full\nMon | 4 | 7"\nOak,none\n',
        "Room: Elm; Price: Day: Mon; Price half: 4; Price full: 7\n",
    ),
}


@pytest.mark.parametrize(("name", "raw", "expected"), TEXTS.values(), ids=TEXTS)
def test_what_stands_apart_is_read_where_it_belongs(
    tmp_path: Path, name: str, raw: str, expected: str
) -> None:
    text, *_ = read(tmp_path, name, raw)
    assert expected in text


def test_sentences_beside_the_main_text_are_content() -> None:
    aside = "<aside><p>Children under 12 only with an adult.</p></aside>"
    page = "<body><h1>Visits</h1><p>From 14:00.</p>{}</body>"
    assert "Children under 12" in str(read_html(page.format(aside)).blocks)
    menu = "<aside><ul><li><a href='/a'>Go to the page on all fees.</a></li></ul></aside>"
    assert "all fees" not in str(read_html(page.format(menu)).blocks)
    notice = "<div>No delivery to the Islands 12/20 to 01/03.</div>"
    read_page = read_html(f"<body>{notice}<main><h1>Zones</h1><p>Next day.</p></main></body>")
    assert read_page.banner == "No delivery to the Islands 12/20 to 01/03."
