"""Files and folders, good and bad, as documents and named failures."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.domain.documents import Document
from assistant.domain.errors import NotFoundError
from assistant.ingesting.sources.items import LARGEST_DOCUMENT_BYTES, SourceDocument, SourceFailure
from assistant.ingesting.sources.pages import page_id, read_page
from assistant.ingesting.sources.reader import read_sources

PAIR = {"id": "q-1", "question": "What is ALL?", "answer": "A type of cancer."}


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


def test_a_pair_is_a_document(tmp_path: Path) -> None:
    line = PAIR | {
        "url": "https://example.org/all",
        "source": "CancerGov",
        "type": "information",
        "owner": "oncology",
        "effective_date": "2026-01-31",
        "labels": ["staff", "clinic", "staff"],
        "focus": "Leukemia",
        "source_id": "not ours",
    }
    assert one(write(tmp_path / "a.jsonl", json.dumps(line))) == Document(
        document_id="q-1",
        title="What is ALL?",
        content="A type of cancer.",
        media_type="text/plain",
        question="What is ALL?",
        source="CancerGov",
        type="information",
        url="https://example.org/all",
        owner="oncology",
        effective_date=date(2026, 1, 31),
        labels=("clinic", "staff"),
    )


def test_a_pair_s_own_title_comes_before_its_question(tmp_path: Path) -> None:
    document = one(write(tmp_path / "a.jsonl", json.dumps(PAIR | {"title": "Leukemia"})))
    assert (document.title, document.question) == ("Leukemia", "What is ALL?")


@pytest.mark.parametrize(("focus", "title"), [({"focus": "Leukemia"}, "Leukemia"), ({}, "What " * 200)])
def test_a_question_too_long_for_a_title_gives_way_to_the_focus(
    tmp_path: Path, focus: dict[str, str], title: str
) -> None:
    question = "What " * 400
    document = one(write(tmp_path / "a.jsonl", json.dumps(PAIR | {"question": question} | focus)))
    assert document.title.rstrip("…") == title[:999]
    assert document.question == question.strip()


def test_a_compressed_file_is_read_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(json.dumps(PAIR).encode()))
    assert one(path).document_id == "q-1"


def test_each_bad_line_is_named_and_stops_nothing(tmp_path: Path) -> None:
    lines = [
        json.dumps(PAIR).encode(),
        b"{broken",
        b"",
        b'["a list"]',
        b'{"id": "x", "question": "  ", "answer": "A."}',
        b'{"question": "Q?"}',
        b'{"id": "caf\xe9", "question": "Q?", "answer": "A."}',
        b'{"id": "two words", "question": "Q?", "answer": "A."}',
        b'{"id": "x", "question": "Q?", "answer": "A.", "effective_date": "soon"}',
        json.dumps(PAIR | {"id": "last"}).encode(),
    ]
    items = list(read_sources([write(tmp_path / "a.jsonl", b"\n".join(lines))]))
    good = [item.document.document_id for item in items if isinstance(item, SourceDocument)]
    bad = {item.origin: item.reason for item in items if isinstance(item, SourceFailure)}
    assert good == ["q-1", "last"]
    assert list(bad) == [f"a.jsonl:{number}" for number in (2, 4, 5, 6, 7, 8, 9)]
    assert bad["a.jsonl:2"].startswith("not JSON")
    assert bad["a.jsonl:4"] == "not a JSON object"
    assert bad["a.jsonl:5"] == "missing or empty: question"
    assert bad["a.jsonl:6"] == "missing or empty: id, answer"
    assert bad["a.jsonl:7"] == "not UTF-8 at byte 11"
    assert bad["a.jsonl:8"].startswith("document_id: ")
    assert bad["a.jsonl:9"].startswith("effective_date: ")


def test_a_line_over_the_limit_is_passed_over(tmp_path: Path) -> None:
    huge = json.dumps(PAIR | {"answer": "x" * (2 * LARGEST_DOCUMENT_BYTES)})
    path = write(tmp_path / "a.jsonl", f"{huge}\n{json.dumps(PAIR)}\n")
    first, second = read_sources([path])
    assert isinstance(first, SourceFailure)
    assert (first.origin, first.code) == ("a.jsonl:1", "too_large")
    assert isinstance(second, SourceDocument)
    assert second.origin == "a.jsonl:2"


def test_a_cut_gzip_file_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    lines = "".join(f"{json.dumps(PAIR | {'id': f'q{number}'})}\n" for number in range(3000))
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(lines.encode())[:-200])
    items = list(read_sources([path]))
    assert isinstance(items[0], SourceDocument)
    last = items[-1]
    assert isinstance(last, SourceFailure)
    assert last.reason.startswith("not a whole gzip file")


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


def test_a_folder_is_read_in_order_and_hidden_or_other_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "b.md", "# B\n\nText.")
    write(tmp_path / "a" / "deep" / "x.md", "# X\n\nText.")
    write(tmp_path / "pairs.jsonl", json.dumps(PAIR))
    write(tmp_path / "notes.txt", "not read")
    write(tmp_path / ".git" / "c.md", "# C\n\nText.")
    write(tmp_path / ".hidden.md", "# H\n\nText.")
    items = list(read_sources([tmp_path]))
    assert [item.origin for item in items] == ["a/deep/x.md", "b.md", "pairs.jsonl:1"]
    assert [item.document.document_id for item in items if isinstance(item, SourceDocument)] == [
        "a-deep-x",
        "b",
        "q-1",
    ]


def test_a_file_of_another_kind_is_answered_for_when_it_is_named(tmp_path: Path) -> None:
    assert failure(write(tmp_path / "notes.txt", "x")).reason.startswith("not one of .jsonl")


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file or folder"):
        list(read_sources([tmp_path / "nothing"]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b/c?d.md", "a-b-c-d"),
        ("../x.html", "x"),
        ("v1.2.md", "v1.2"),
        ("é.md", "é"),
        ("???.md", "document"),
    ],
)
def test_an_id_is_made_of_the_path(name: str, expected: str) -> None:
    assert page_id(name) == expected


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=300)
    | st.text(max_size=300).map(str.encode)
    | st.text(alphabet="-#<>/ \n:[]{}&!*'\"title", max_size=120).map(lambda text: f"---\n{text}".encode()),
    name=st.sampled_from(["a.md", "a.html", "a.jsonl"]),
)
def test_no_bytes_whatsoever_break_the_readers(
    content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("fuzz") / name, content)
    for item in read_sources([path]) if name.endswith("l") else [read_page(path, name=name)]:
        if isinstance(item, SourceDocument):
            assert item.document.content_hash()
        else:
            assert item.origin.startswith(name)
