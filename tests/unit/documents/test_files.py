"""Files and folders, good and bad, as documents and named failures."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.documents.files import (
    LARGEST_DOCUMENT_BYTES,
    SourceDocument,
    SourceFailure,
    linked_ids,
    page_id,
    read_sources,
    skipped_files,
)
from assistant.documents.parsing import parse_document
from assistant.documents.parsing_process import ParsingLimits, ParsingProcess
from assistant.documents.receive import AddDocuments
from assistant.domain.documents import Document, DocumentState
from assistant.domain.errors import NotFoundError
from assistant.text.editions import read_in_force
from tests.unit.documents.scene import HANDBOOK, OLGA, Knowledge, failure, one, read, read_one, write

PAIR = {"id": "q-1", "question": "What is ALL?", "answer": "A type of cancer."}


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


def test_a_compressed_file_gives_the_same_documents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(json.dumps(PAIR).encode()))
    assert one(path).document_id == "q-1"


def test_each_invalid_line_is_reported_and_stops_no_other(tmp_path: Path) -> None:
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
    items = list(read(write(tmp_path / "a.jsonl", b"\n".join(lines))))
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


def test_a_line_over_the_limit_is_skipped(tmp_path: Path) -> None:
    huge = json.dumps(PAIR | {"answer": "x" * (2 * LARGEST_DOCUMENT_BYTES)})
    path = write(tmp_path / "a.jsonl", f"{huge}\n{json.dumps(PAIR)}\n")
    first, second = read(path)
    assert isinstance(first, SourceFailure)
    assert (first.origin, first.code) == ("a.jsonl:1", "too_large")
    assert isinstance(second, SourceDocument)
    assert second.origin == "a.jsonl:2"


def test_a_truncated_gzip_file_gives_its_documents_and_a_failure(tmp_path: Path) -> None:
    lines = "".join(f"{json.dumps(PAIR | {'id': f'q{number}'})}\n" for number in range(3000))
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(lines.encode())[:-200])
    items = list(read(path))
    assert isinstance(items[0], SourceDocument)
    last = items[-1]
    assert isinstance(last, SourceFailure)
    assert last.reason.startswith("not a whole gzip file")


def test_files_of_other_kinds_are_named_by_their_places_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.doc", "deep/a.xls", "LICENCE", ".hidden.doc", ".git/config", "page.md", "lines.jsonl.gz"):
        write(tmp_path / name, "text")
    assert skipped_files([tmp_path]) == ["LICENCE", "b.doc", "deep/a.xls"]
    assert skipped_files([tmp_path / "b.doc"]) == []  # named itself, it is a failure


def test_a_folder_is_read_in_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    write(tmp_path / "b.md", "# B\n\nText.")
    write(tmp_path / "a" / "deep" / "x.md", "# X\n\nText.")
    write(tmp_path / "pairs.jsonl", json.dumps(PAIR))
    write(tmp_path / "notes.doc", "not read")
    write(tmp_path / ".git" / "c.md", "# C\n\nText.")
    write(tmp_path / ".hidden.md", "# H\n\nText.")
    items = list(read_sources([tmp_path]))
    assert [item.origin for item in items] == ["a/deep/x.md", "b.md", "pairs.jsonl:1"]
    assert [item.document.document_id for item in items if isinstance(item, SourceDocument)] == [
        "a-deep-x",
        "b",
        "q-1",
    ]


def test_a_file_of_another_type_is_a_failure_when_it_is_named(tmp_path: Path) -> None:
    assert failure(write(tmp_path / "notes.doc", "x")).reason.startswith("not one of .jsonl")


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file or folder"):
        list(read(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b/c?d.md", "a-b-c-d"),
        ("../x.html", "x"),
        ("v1.2.md", "v1.2"),
        ("fees.PDF", "fees.PDF"),
        ("é.md", "é"),
        ("???.md", "document"),
    ],
)
def test_an_id_is_derived_from_the_path(name: str, expected: str) -> None:
    assert page_id(name) == expected


@settings(max_examples=150)
@given(
    content=st.binary(max_size=300)
    | st.text(max_size=300).map(str.encode)
    | st.text(alphabet="-#<>/ \n:[]{}&!*'\"title", max_size=120).map(lambda text: f"---\n{text}".encode()),
    name=st.sampled_from(
        ["a.md", "a.html", "a.json", "a.jsonl", "a.csv", "a.eml", "a.txt", "a.pdf", "a.xlsx"]
    ),
)
def test_arbitrary_bytes_break_no_reader(
    content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("fuzz") / name, content)
    for item in read(path):
        if isinstance(item, SourceDocument):
            assert item.document.content_hash()
        else:
            assert item.origin.startswith(name)


def test_a_pair_may_have_further_questions(tmp_path: Path) -> None:
    line = b'{"id": "a", "question": "When?", "answer": "Now.", "questions": ["How soon?", "When?"]}'
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(line + b"\n" + line.replace(b'["How soon?", "When?"]', b"[[]]").replace(b'"a"', b'"b"'))
    first, second = read(path)
    assert isinstance(first, SourceDocument)
    assert first.document.questions == ("How soon?", "When?")
    assert isinstance(second, SourceFailure)
    assert second.reason.startswith("questions: item 1 is [], not a text.")


def test_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("# Secret\n\nText.\n")
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "own.md").write_text("# Own\n\nText.\n")
    (folder / "alias.md").symlink_to(folder / "own.md")
    (folder / "out.md").symlink_to(tmp_path / "secret.md")
    items = {item.origin: item for item in read(folder)}
    assert isinstance(items["out.md"], SourceFailure)
    assert "outside of its folder" in items["out.md"].reason
    assert all(isinstance(items[name], SourceDocument) for name in ("own.md", "alias.md"))


def test_a_special_file_in_a_folder_is_a_failure(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere.md")
    (tmp_path / "circle.md").symlink_to(tmp_path / "circle.md")
    (tmp_path / "own.md").write_text("# Own\n\nText.\n")
    items = {item.origin: item for item in read(tmp_path)}
    assert isinstance(items.pop("own.md"), SourceDocument)
    assert {
        name: item.code for name, item in items.items() if isinstance(item, SourceFailure)
    } == dict.fromkeys(("pipe.md", "gone.md", "circle.md"), "document_invalid")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"answer": "<p>Print it at <a href='https://lab.example'>the portal</a>."},
            "(https://lab.example).",
        ),
        ({"answer": "1. Sign\n2. Send &amp; wait", "title": "Labels"}, "How?\n\n1. Sign\n2. Send & wait"),
        ({"answer": "Sign <b>here</b>\n- and wait", "title": "Labels"}, "How?\n\nSign here\n- and wait"),
        ({"answer": "Press <Enter> if a<b, else <i>wait</i>."}, "Press <Enter> if a<b, else wait."),
        ({"answer": "Write &lt;br&gt; there."}, "Write <br> there."),
        ({"answer": "Where a<b and c>d, stop."}, "Where a<b and c>d, stop."),
    ],
)
def test_an_answer_in_html_is_read_as_html(tmp_path: Path, fields: dict[str, str], text: str) -> None:
    line = {"id": "a", "question": "How?"} | fields
    document = one(write(tmp_path / "a.jsonl", json.dumps(line)))
    assert parse_document(document).text.endswith(text)


@pytest.mark.parametrize(
    ("line", "expected", "unread"),
    [
        (
            {
                "id": 51,
                "name": "Lost badge",
                "html": "<p>A new badge costs <b>$12</b>.",
                "category": "Access",
            },
            ("51", "Lost badge", None, "A new badge costs $12.\n\ncategory: Access"),
            ["category"],
        ),
        (
            {
                "_id": "t-7",
                "Subject": "Towels",
                "bodyHtml": "",
                "Body": "Take two at the door.",
                "vote_sum": 3,
            },
            ("t-7", "Towels", None, "Take two at the door."),
            ["bodyHtml", "vote_sum"],
        ),
        (
            {
                "id": 8,
                "title": {"rendered": "Fees &amp; dues"},
                "content": {"rendered": "<ul><li>Pay $5 at the desk</ul>"},
                "link": "https://site.example/fees",
            },
            ("8", "Fees & dues", "https://site.example/fees", "- Pay $5 at the desk"),
            [],
        ),
        (
            {"article_id": 9, "question": "How big?", "solution": "Two meters.", "url": "/a/9"},
            ("9", "How big?", None, "solution: Two meters.\n\nurl: /a/9"),
            ["solution", "url"],
        ),
        (
            {"id": "x", "title": "Own", "text": "Ours.", "body": "Theirs.", "metadata": {"a": "b"}},
            ("x", "Own", None, "Ours.\n\nbody: Theirs."),
            ["body", "metadata"],
        ),
    ],
)
def test_usual_keys_of_an_export_are_read_and_the_rest_is_kept_apart(
    tmp_path: Path, line: dict[str, object], expected: tuple[str, ...], unread: list[str]
) -> None:
    item = read_one(write(tmp_path / "a.jsonl", json.dumps(line)))
    document = item.document
    shown = (document.document_id, document.title, document.url, parse_document(document).text)
    assert (shown, list(item.metadata)) == (expected, unread)


@pytest.mark.parametrize(
    ("state", "is_in_force"),
    [
        ({"situacion": "archivado"}, False),
        ({"situação": "Rascunho"}, False),
        ({"state": "archived"}, False),
        ({"Status": "Draft"}, False),
        ({"workflow_state": "un-published"}, False),
        ({"draft": True}, False),
        ({"is_archived": "true"}, False),
        ({"published": False}, False),
        ({"isActive": False}, False),
        ({"state": "published"}, True),
        ({"status": "solved", "draft": False, "archived": None, "published": True}, True),
    ],
)
def test_a_line_that_is_not_valid_now_is_not_in_force(
    tmp_path: Path, state: dict[str, object], is_in_force: bool
) -> None:
    item = read_one(write(tmp_path / "a.jsonl", json.dumps(PAIR | state)))
    said = read_in_force(item.metadata, path="a.jsonl", title=item.document.title, content="")
    assert (said is None or not said.never) is is_in_force


def test_the_keys_of_an_export_are_known_by_the_shape_of_their_values(tmp_path: Path) -> None:
    lines = [
        {"ref": "B-1", "head": "Dog tax", "txt": "<p>1st dog 96, 2nd 144.", "stage": "live", "hits": 88},
        {
            "ref": "B-2",
            "head": "Lost badge",
            "txt": {"html": "A new one is <b>12</b>."},
            "stage": "live",
            "hits": 3,
        },
        {"ref": "B-3", "head": "Dog tax old", "txt": "1st dog 76.", "stage": "archived", "hits": 3},
        {
            "ref": "B-4",
            "head": "Post",
            "plans": {"Base": None, "Top": {"days": 9}},
            "stage": "live",
            "see": ["B-1"],
        },
    ]
    items = list(read(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))))
    documents = [item.document for item in items if isinstance(item, SourceDocument)]
    assert [(each.document_id, each.title, parse_document(each).text) for each in documents] == [
        ("B-1", "Dog tax", "1st dog 96, 2nd 144."),
        ("B-2", "Lost badge", "A new one is 12."),
        ("B-3", "Dog tax old", "1st dog 76."),
        ("B-4", "Post", "plans: Base: none\n\nplans > Top: days: 9"),
    ]
    metadata = [item.metadata for item in items if isinstance(item, SourceDocument)]
    said = [read_in_force(each, path="a.jsonl", title="", content="") for each in metadata]
    assert [bool(each and each.never) for each in said] == [False, False, True, False]


def test_lines_without_id_and_title_are_read_with_each_number_beside_its_unit(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"drug": "Amoxin", "dose": {"value": 500, "unit": "mg"}, "price": 12.5, "currency": "EUR"},
        {"drug": "Bexol", "dose": {"value": 20, "unit": "mg"}, "price": 4, "currency": "EUR"},
        {"drug": "Bexol", "dose": {"value": 40, "unit": "mg"}, "price": 6, "currency": "EUR"},
    ]
    items = list(read(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))))
    documents = [item.document for item in items if isinstance(item, SourceDocument)]
    assert [(each.document_id, each.title, parse_document(each).text) for each in documents] == [
        ("a.jsonl-Amoxin", "Amoxin", "drug: Amoxin; dose: 500 mg; price: 12.5; currency: EUR"),
        ("a.jsonl-Bexol-2", "Bexol", "drug: Bexol; dose: 20 mg; price: 4; currency: EUR"),
        ("a.jsonl-Bexol-3", "Bexol", "drug: Bexol; dose: 40 mg; price: 6; currency: EUR"),
    ]


def test_the_first_lines_of_a_file_tell_what_the_keys_of_all_mean(tmp_path: Path) -> None:
    text = "A dog is 96 a year. " * 20
    lines = [json.dumps({"ref": f"B-{at}", "head": "Dog tax", "txt": text}) for at in range(2000)]
    last = json.dumps({"lang": "en", "ref": "last", "head": "Tax", "txt": "A dog is 99."})
    items = list(read(write(tmp_path / "a.jsonl", "\n".join([*lines, "", "{", last]))))
    assert [item.origin for item in items] == [f"a.jsonl:{at}" for at in (*range(1, 2001), 2002, 2003)]
    assert isinstance(items[-1], SourceDocument)
    assert items[-1].document.document_id == "last"


def test_a_line_of_objects_inside_each_other_stops_no_other(tmp_path: Path) -> None:
    deep = '{"id": "b", "question": "Q?", "answer": "A.", "see": ' + "[" * 900 + "]" * 900 + "}"
    items = list(read(write(tmp_path / "a.jsonl", f"{json.dumps(PAIR)}\n{deep}")))
    assert len(items) == 2
    assert isinstance(items[0], SourceDocument)


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        ([{"name": "Lost card", "reply": "A new one costs six euros."}], ["a.json-Lost-card"]),
        ({"unit": "Desk", "macros": [{"slug": "x", "name": "A", "reply": "It is one euro now."}]}, ["x"]),
    ],
)
def test_a_json_file_is_read_as_its_entries(tmp_path: Path, data: object, ids: list[str]) -> None:
    items = list(read(write(tmp_path / "a.json", json.dumps(data))))
    assert [item.document.document_id for item in items if isinstance(item, SourceDocument)] == ids
    assert items[0].origin == "a.json:1"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1, 2]", "it is not one list of entries"),
        (
            json.dumps({"pages": [{"body": "word " * 40}], "tags": [{"a": 1}]}),
            "it is not one list of entries",
        ),
        ('{"rates": {"M": {"labels": ["staff"]}}}', '"labels" is in a part of it'),
        ('{"a":', "not JSON"),
        ("[{}]", "missing: "),
        ('{"labels": ["a"], "articles": [{"id": 1}]}', '"labels" is beside the entries'),
        ('[{"labels": ["a"], "labels": []}]', 'it says "labels" twice'),
    ],
)
def test_a_json_file_without_entries_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    assert failure(write(tmp_path / "a.json", content)).reason.startswith(reason)


def test_a_json_file_of_several_lists_is_one_document_of_tables_and_lines(tmp_path: Path) -> None:
    data = {
        "in_force": {"from": "2026-03-15", "to": None},
        "plans": [{"code": "B", "eur": 5, "cars": ["S", "M"]}, {"code": "T", "eur": None, "note": "van"}],
        "rates": {"B": {"S": {"hour": 4}, "V": None}, "T": "as B"},
        "currency": "EUR",
    }
    item = read_one(write(tmp_path / "a.json", json.dumps(data)))
    assert [(unit.heading, unit.text) for unit in parse_document(item.document).units] == [
        ("", "currency: EUR"),
        ("in force", "in force: from: 2026-03-15; to: none"),
        ("plans", "code: B; eur: 5; cars: S, M"),
        ("plans", "code: T; eur: none; note: van"),
        ("rates", "rates: T: as B"),
        ("rates", "rates > B: V: none"),
        ("rates", "rates > B > S: hour: 4"),
    ]
    said = read_in_force(item.metadata, path="a.json", title="", content="")
    assert (item.origin, said and str(said.since)) == ("a.json", "2026-03-15")


def test_null_and_a_state_of_a_thing_stay_in_the_text(tmp_path: Path) -> None:
    lines = [
        {"sku": "T-1", "name": "Tent", "price": 9, "member": None, "eta": None, "valid_to": None},
        {"sku": "T-2", "name": "Gas", "price": 6, "member": 5, "eta": None, "status": "last pieces"},
        {"sku": "T-3", "name": "Map", "price": 2, "member": 1, "eta": None, "valid_to": "2027-01-31"},
    ]
    items = list(read(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))))
    texts = [parse_document(item.document).text for item in items if isinstance(item, SourceDocument)]
    assert texts == [
        "name: Tent; price: 9; member: none",
        "name: Gas; price: 6; member: 5; status: last pieces",
        "name: Map; price: 2; member: 1; valid to: 2027-01-31",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("# Fees\n\nPrices valid until 31 March 2026. A card is 9.", '"Prices valid until 31 March 2026."'),
        ("# Fees\n\nA card is 9.\n\nGültig ab 01.07.2026", '"Gültig ab 01.07.2026"'),
        ("---\nvalid until: 2026-03-31\n---\n# Fees\n\nPrices valid until 31 March 2026.", ""),
        ("# Fees\n\nSince 4 May 2026 a card is 9.\n\nA pass is valid until you leave.", ""),
    ],
)
def test_days_that_the_text_alone_says_are_told(tmp_path: Path, content: str, told: str) -> None:
    item = read_one(write(tmp_path / "a.md", content))
    assert [*map(str, item.losses)] == ([f"when it is in force ({told}) was not read"] if told else [])


def test_a_line_without_usual_keys_is_refused_with_its_keys(tmp_path: Path) -> None:
    refused = failure(write(tmp_path / "a.jsonl", '{"id": 3, "foo": [], "bar": null}'))
    assert refused.reason.endswith('title and markdown; there are "id", "foo", "bar"')


# --- links ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("origin", "address", "own_id"),
    [
        ("it/vpn.md", "../hr/leave.md#how", "hr-leave"),
        ("it/vpn.md", "../hr/my%20leave.html?x=1", "hr-my-leave"),
        ("it/vpn.md", "../hr/", "hr-README"),
        ("it/vpn.md", "..", "index"),
        ("it/vpn.md", "fees.pdf", "it-fees.pdf"),
        ("it/vpn.md", "setup/", "it-vpn-setup"),  # a page whose address is a folder
        ("site/it/vpn.md", "/hr/leave", "site-hr-leave"),  # the site's root is below the source's
        ("it/vpn.html.md.erb", "leave.html", "it-leave.html.md"),
        ("it/vpn.html.md.erb", "/", "index.html.md"),
    ],
)
def test_a_link_means_a_file_of_its_source(origin: str, address: str, own_id: str) -> None:
    assert f"wiki:{own_id}" in linked_ids(address, document_id="wiki:a", origin=origin)


@pytest.mark.parametrize(
    "address",
    ["../../a.md", "/../a.md/../..", "https://a.example/b", "//a/b", "#a", "mailto:a@b", "http://["],
)
def test_a_link_elsewhere_means_no_file(address: str) -> None:
    assert list(linked_ids(address, document_id="a", origin="a.md")) == []


# --- bad files --------------------------------------------------------------------------------------------
TAGS = 100_000


def test_a_hundred_thousand_nested_tags_take_no_quadratic_time(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a.html": "<div>" * TAGS + "text",
        "b.md": "<div>" * TAGS + "text",
        "d.jsonl": '{"id": "a", "title": "b", "text": "c", "metadata": ' + "[" * TAGS + "]" * TAGS + "}",
        "e.md": ">" * TAGS + "text",
        "e2.md": "[" * TAGS,
    }
    for name, content in files.items():
        write(tmp_path / name, content)
    write(tmp_path / "z.txt", "Wait.")
    with ParsingProcess(ParsingLimits(cpu_s=15)) as parsing:  # each needs less than one
        items = list(read_sources([tmp_path], parsing=parsing))
    assert len(items) == len(files) + 1
    assert not [item for item in items if isinstance(item, SourceFailure) and "CPU time" in item.reason]
    assert isinstance(items[-1], SourceDocument)


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.md", "a.html", "a.json", "a.jsonl"])
def test_a_line_of_a_gigabyte_is_refused_within_bounded_memory(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(1_000_000_000)
    tracemalloc.start()
    (item,) = read(tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(item, SourceFailure)
    assert item.code == "too_large"
    assert peak_bytes < 160_000_000


def test_names_with_tricks_stop_no_load_and_make_plain_ids(tmp_path: Path) -> None:
    names = (b"caf\xe9.txt", b"-rf.txt", b"a\nb.txt", "a\u202efdp.txt".encode(), b"x" * 251 + b".txt")
    for name in names:
        write(tmp_path / os.fsdecode(name), b"Wait.")
    write(tmp_path / os.fsdecode(b"caf\xe9.zip"), b"")
    items = {item.origin: item for item in read(tmp_path)}
    refused = items.pop("caf\\xe9.txt")
    assert isinstance(refused, SourceFailure)
    assert (refused.reason, refused.own_id) == ("its name is not UTF-8. Rename the file.", "caf-xe9.txt")
    ids = [item.document.document_id for item in items.values() if isinstance(item, SourceDocument)]
    assert ids == ["rf.txt", "a-b.txt", "a-fdp.txt", "x" * 251 + ".txt"]
    assert skipped_files([tmp_path]) == ["caf\\xe9.zip"]


async def test_a_file_that_changes_while_it_is_read_is_a_failure(
    tmp_path: Path, knowledge: Knowledge
) -> None:
    path = write(tmp_path / "files" / "fees.txt", b"A call takes 5 minutes.")
    (item,) = read(path)
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    write(path, b"Something else.")
    summary = await add([item], source=HANDBOOK, writer=OLGA)
    assert [failure.reason for failure in summary.failures] == [
        "The file changed while it was read. Add it again."
    ]
    assert await knowledge.stores.documents.get("fees.txt") is None
    write(path, b"A call takes 5 minutes.")
    assert (await add(read(path), source=HANDBOOK, writer=OLGA)).added == 1
    assert await knowledge.state("fees.txt") is DocumentState.RECEIVED
