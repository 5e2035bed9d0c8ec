"""Markdown and HTML files, good and bad, as documents and named failures."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from assistant.domain.documents import Document
from assistant.ingesting.sources.items import LARGEST_DOCUMENT_BYTES, SourceDocument, SourceFailure
from assistant.ingesting.sources.reader import read_sources


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def one(path: Path) -> Document:
    (item,) = read_sources([path])
    assert isinstance(item, SourceDocument), item
    return item.document


def failure(path: Path) -> SourceFailure:
    (item,) = read_sources([path])
    assert isinstance(item, SourceFailure), item
    return item


TWO_QUESTIONS = ("May it be early?", "What if it is lost?")
MARKDOWN = """---
title: Refill too soon
owner: claims team
effective_date: 2026-03-01
source: procedures
type: claims
url: https://example.org/79
labels: [claims, staff]
reviewed_by: nobody we know
---
# Code 79

Wait until day 24.
"""


def test_markdown_has_its_fields_in_the_front_matter(tmp_path: Path) -> None:
    assert one(write(tmp_path / "refill-too-soon.md", MARKDOWN)) == Document(
        document_id="refill-too-soon",
        title="Refill too soon",
        content="# Code 79\n\nWait until day 24.\n",
        media_type="text/markdown",
        source="procedures",
        type="claims",
        url="https://example.org/79",
        owner="claims team",
        effective_date=date(2026, 3, 1),
        labels=("claims", "staff"),
    )


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("# Refill *too* soon #\n\nWait.", "Refill too soon"),
        ("## Second\n\nWait.\n\n# First\n\nWait.", "First"),
        ("```\n# no heading\n```\n\nOnly\n====\n\nWait.", "Only"),
        ("---\nowner: me\n---\n### Deep\n\nWait.", "Deep"),
    ],
)
def test_markdown_without_a_title_is_named_by_its_first_heading(
    tmp_path: Path, content: str, title: str
) -> None:
    assert one(write(tmp_path / "a.md", content)).title == title


@pytest.mark.parametrize(
    ("content", "origin", "reason"),
    [
        ("---\ntitle: a\n\nNo end.", "a.md:1", "the front matter has no closing line of ---"),
        ("---\ntitle: [a\nx: 1\n---\nText.", "a.md:3", "the front matter is not YAML: "),
        ("---\ntitle: 'a\n---\nText.", "a.md:3", "the front matter is not YAML: "),
        ("---\n- a list\n---\nText.", "a.md:1", "the front matter cannot be read: it is not a mapping"),
        ("---\neffective_date: 2026-02-31\n---\n# T\n\nText.", "a.md:1", "the front matter cannot be read: "),
        ("---\ntitle: T\neffective_date: soon\n---\nText.", "a.md", "effective_date: "),
        ("---\ntitle: T\nurl: 'javascript:alert(1)'\n---\nText.", "a.md", "url: "),
        ("Text without a name.", "a.md", "there is no title"),
        ("---\ntitle: T\n---\n<!-- nothing -->", "a.md", "there is no text in it"),
        ("", "a.md", "there is no text in it"),
    ],
)
def test_broken_markdown_is_named_with_the_reason(
    tmp_path: Path, content: str, origin: str, reason: str
) -> None:
    found = failure(write(tmp_path / "a.md", content))
    assert (found.origin, found.code) == (origin, "document_invalid")
    assert found.reason.startswith(reason)


def test_text_that_is_not_utf_8_is_named_by_line(tmp_path: Path) -> None:
    found = failure(write(tmp_path / "a.md", b"# Title\n\nCaf\xe9.\n"))
    assert (found.origin, found.reason) == ("a.md:3", "not UTF-8 at byte 12")


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.html", b"")
    with path.open("r+b") as file:
        file.truncate(LARGEST_DOCUMENT_BYTES + 1)
    assert failure(path).code == "too_large"


HTML = """<!doctype html><html><head><title>Refill
 too soon</title>
<meta name="owner" content="claims team"><meta name="effective_date" content="2026-03-01">
<meta name="Source" content="help"><meta name="type" content="claims">
<meta name="labels" content="staff, claims">
<link rel="canonical" href="https://example.org/79"></head>
<body><nav>Home</nav><main><h1>Code 79</h1><p>Wait until day 24.</p></main></body></html>"""


def test_html_has_its_fields_in_its_head(tmp_path: Path) -> None:
    assert one(write(tmp_path / "help.html", HTML)) == Document(
        document_id="help",
        title="Refill too soon",
        content=HTML,
        media_type="text/html",
        source="help",
        type="claims",
        url="https://example.org/79",
        owner="claims team",
        effective_date=date(2026, 3, 1),
        labels=("claims", "staff"),
    )


def test_html_without_a_title_is_named_by_its_heading(tmp_path: Path) -> None:
    assert one(write(tmp_path / "a.htm", "<h1>Code <b>79</b></h1><p>Wait.")).title == "Code 79"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<title>T</title><nav>Home</nav><script>x</script>", "there is no text in it"),
        ("<p>Nameless.", "there is no title"),
        ("<h1>T</h1>" + "<div>" * 500 + "x", "HTML elements are nested deeper than"),
    ],
)
def test_broken_html_is_named_with_the_reason(tmp_path: Path, content: str, reason: str) -> None:
    assert failure(write(tmp_path / "a.html", content)).reason.startswith(reason)


@pytest.mark.parametrize(
    ("written", "questions"),
    [
        ("\n- May it be early?\n- What  if\n  it is lost?\n- May it be early?", TWO_QUESTIONS),
        ("May it be early?", ("May it be early?",)),
        ("[]", ()),
        ("", ()),
    ],
)
def test_questions_stand_in_the_front_matter(
    tmp_path: Path, written: str, questions: tuple[str, ...]
) -> None:
    page = f"---\ntitle: Refill\nquestions: {written}\n---\nText.\n"
    assert one(write(tmp_path / "refill.md", page)).questions == questions


def test_questions_of_html_stand_in_its_head(tmp_path: Path) -> None:
    head = '<title>Refill</title><meta name="Questions" content="May it be early? | |What if it is lost?">'
    page = write(tmp_path / "refill.html", f"<html><head>{head}</head><body><p>Text.</body></html>")
    assert one(page).questions == TWO_QUESTIONS


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("7", "questions: 7 is neither a text nor a list of texts"),
        ("{a: b}", "is neither a text nor a list of texts"),
        ("[May it be early?, ]\n  - b", "the front matter is not YAML"),
        ("[a, '']", "questions: item 2 is '', not a text"),
        ("[a, null]", "questions: item 2 is None, not a text"),
        ("[3]", "questions: item 1 is 3, not a text"),
        (f"[{'x' * 501}]", "questions.0: String should have at most 500 characters"),
        (f"[{', '.join(f'q{number}' for number in range(51))}]", "questions: Tuple should have at most 50"),
    ],
)
def test_questions_that_are_none_are_refused(tmp_path: Path, written: str, said: str) -> None:
    page = f"---\ntitle: Refill\nquestions: {written}\n---\nText.\n"
    assert said in failure(write(tmp_path / "refill.md", page)).reason
