"""Markdown and HTML files, good and bad, as documents and named failures."""

from __future__ import annotations

import unicodedata
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from assistant.documents.files import SourceDocument
from assistant.documents.front_matter import KEYS, LABEL_PATTERN, LONGEST_CHARACTERS, read_front_matter
from assistant.documents.parsing import parse_document
from assistant.documents.sources import check_new_id
from assistant.domain.documents import Document, ItemFacts
from tests.stage.answering import FakeTenant
from tests.stage.answering import document as stored_document
from tests.unit.answer.asking_and_reading import ask
from tests.unit.documents.scene import failure, one, read, read_one, write

TWO_QUESTIONS = ("May it be early?", "What if it is lost?")
MARKDOWN = """---
title: Refill too soon
owner: claims team
effective_date: 2026-03-01
source: procedures
type: claims
url: https://example.org/79
labels: [claims, staff]
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
        ("---\ntitle: 'a\n---\nText.", "a.md:2", "the front matter is not YAML: "),
        ("---\neffective_date: 2026-02-31\n---\n# T\n\nText.", "a.md", "effective_date: "),
        ("---\ntitle: T\ntitle: U\n---\nText.", "a.md:3", 'the front matter says "title" twice'),
        ("---\ntitle: &a T\nowner: *a\n---\nText.", "a.md:3", "the front matter is not YAML: an alias"),
        (f"---\ntitle: T{'x' * 64_000}\n---\nText.", "a.md:1", "the front matter is longer than"),
        ("---\ntitle: T\neffective_date: soon\n---\nText.", "a.md", "effective_date: "),
        ("", "a.md", "there is no text in it"),
    ],
)
def test_broken_markdown_is_named_with_the_reason(
    tmp_path: Path, content: str, origin: str, reason: str
) -> None:
    found = failure(write(tmp_path / "a.md", content))
    assert (found.origin, found.code) == (origin, "document_invalid")
    assert found.reason.startswith(reason)


def test_pages_of_other_encodings_are_read_and_a_doubtful_one_is_refused_with_its_id(tmp_path: Path) -> None:
    page = '---\nid: café\ntitle: "{}"\n---\nBody.\n'
    one_title = "The patient\u2019s \u201cvoilà\u201d fee"
    for encoding in ("cp1252", "mac_roman", "utf-16", "utf-8-sig"):
        document = one(write(tmp_path / "a.md", page.format(one_title).encode(encoding)))
        assert (document.document_id, document.title) == ("café", one_title)
    found = failure(write(tmp_path / "b.md", b"---\nid: pay\ntitle: Caf\x81\n---\nBody.\n"))
    assert (found.own_id, found.is_named_by_file) == ("pay", False)
    assert found.reason == "its encoding is unknown or cannot be told from another one. Save it as UTF-8."


def test_a_page_is_read_by_the_encoding_that_it_declares(tmp_path: Path) -> None:
    page = "<html><head><meta {}><title>{}</title></head><body><p>{}</p></body></html>"
    for charset, encoding, text in (
        ('charset="iso-8859-1"', "cp1252", "Gebühr: 5 €"),
        ("http-equiv=Content-Type content='text/html; charset=Shift_JIS'", "shift_jis", "予約は二回まで"),
        ('charset="windows-1250"', "cp1250", "Előre kell fizetni"),
        ('charset="iso-8859-1"', "utf-8", "Gebühr für Größe, declared in vain"),
        ('charset="unicode_escape"', "cp1252", "Kö\\u0041"),
    ):
        document = one(write(tmp_path / "a.html", page.format(charset, text, text).encode(encoding)))
        assert document.title == text


def test_a_name_is_one_in_both_forms_of_its_letters(tmp_path: Path) -> None:
    ids: set[str] = set()
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        (item,) = read(
            write(folder / unicodedata.normalize(form, "mac-F\u00fchrer-caf\u00e9.md"), "# T\n\nText.").parent
        )
        assert isinstance(item, SourceDocument)
        ids.add(item.document.document_id)
    assert len(ids) == 1
    check_new_id(*ids)


async def test_addresses_that_a_document_shows_stand_in_its_text_and_in_the_answer(tmp_path: Path) -> None:
    shown = "Patients sign in at https://portal.example.org/login. Forms are at www.example.org/forms."
    text = parse_document(one(write(tmp_path / "a.md", shown))).text
    assert text == shown
    tenant = FakeTenant().with_documents(stored_document("portal", text, title="Portal"))
    asked = await ask(tenant, "Where do patients sign in?")
    assert "https://portal.example.org/login" in asked.text


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
    ("name", "content", "title"),
    [
        ("refill_too-soon.html", "<p>Nameless.", "refill too soon"),
        ("pay/Salary and Equity.md", "Text without a name.", "Salary and Equity"),
        ("deploy.html.md.erb", "Text.", "deploy"),
        ("_.md", "Text.", "_.md"),
        ("price list.csv", "Item,Price\nPhone,5\n", "price list"),
    ],
)
def test_a_file_without_a_title_is_called_by_its_name(
    tmp_path: Path, name: str, content: str, title: str
) -> None:
    write(tmp_path / name, content)
    item = read_one(tmp_path)
    assert item.document.title == title


@pytest.mark.parametrize(
    ("name", "content", "metadata"),
    [
        ("a.md", "---\nurl: /policies/pay/\n---\nText.", {"url": ("/policies/pay/",)}),
        ("a.md", "---\nurl: 'javascript:alert(1)'\n---\nText.", {"url": ("javascript:alert(1)",)}),
        (
            "a.md",
            "---\nquestions:\n  - pay-channel: https://example.org/pay\n---\nText.",
            {"questions": ("pay-channel", "https://example.org/pay")},
        ),
        ("a.html", '<meta name="url" content="/pay"><p>Text.', {"url": ("/pay",)}),
        ("a.html", '<link rel="canonical" href="/pay"><p>Text.', {}),
    ],
)
def test_keys_of_other_publishers_are_metadata(
    tmp_path: Path, name: str, content: str, metadata: dict[str, tuple[str, ...]]
) -> None:
    item = read_one(write(tmp_path / name, content))
    assert (item.document.url, item.document.questions, item.metadata) == (None, (), metadata)


@pytest.mark.parametrize(
    "content",
    [
        "---\n\nWe open at 9.\n\nNote: not on Sunday.",
        "---\n# Hours\n\nAt 9.\n\n---\n\nMore.",
        "---\n- a list\n---\nText.",
    ],
)
def test_a_page_may_begin_with_a_rule(tmp_path: Path, content: str) -> None:
    assert one(write(tmp_path / "a.md", content)).content == content


@pytest.mark.parametrize("key", ["labels: [hr]", "withdrawn: true", '"labels": [hr]', "  Labels: hr"])
def test_a_restriction_after_a_rule_is_never_text(tmp_path: Path, key: str) -> None:
    assert (
        failure(write(tmp_path / "a.md", f"---\nWe open at 9.\n{key}\n---\n\nText.")).code
        == "document_invalid"
    )


def test_a_title_may_hold_a_colon(tmp_path: Path) -> None:
    document = one(write(tmp_path / "a.md", '---\ntitle: Fees: "night" desk\nid: b\n---\nText.'))
    assert (document.title, document.document_id) == ('Fees: "night" desk', "b")


@pytest.mark.parametrize(
    ("written", "questions"),
    [
        ("\n- May it be early?\n- What  if\n  it is lost?\n- May it be early?", TWO_QUESTIONS),
        ("May it be early?", ("May it be early?",)),
        ("[]", ()),
        ("", ()),
    ],
)
def test_questions_are_read_from_the_front_matter(
    tmp_path: Path, written: str, questions: tuple[str, ...]
) -> None:
    page = f"---\ntitle: Refill\nquestions: {written}\n---\nText.\n"
    assert one(write(tmp_path / "refill.md", page)).questions == questions


def test_questions_of_html_are_read_from_its_head(tmp_path: Path) -> None:
    head = '<title>Refill</title><meta name="Questions" content="May it be early? | |What if it is lost?">'
    page = write(tmp_path / "refill.html", f"<html><head>{head}</head><body><p>Text.</body></html>")
    assert one(page).questions == TWO_QUESTIONS


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[May it be early?, ]\n  - b", "the front matter is not YAML"),
        ("[a, '']", "questions: item 2 is '', not a text"),
        ("[a, null]", "questions: item 2 is None, not a text"),
        (f"[{'x' * 501}]", "questions.0: String should have at most 500 characters"),
        (f"[{', '.join(f'q{number}' for number in range(51))}]", "questions: Tuple should have at most 50"),
    ],
)
def test_invalid_questions_are_refused(tmp_path: Path, written: str, said: str) -> None:
    page = f"---\ntitle: Refill\nquestions: {written}\n---\nText.\n"
    assert said in failure(write(tmp_path / "refill.md", page)).reason


# Restrictions

RESTRICTED = {
    "read as a truth by YAML 1.1": ("---\ntitle: T\nlabels: [NO]\n---\nText.", ("NO",)),
    "read as another": ("---\ntitle: T\nlabels: [yes]\n---\nText.", ("yes",)),
    "read as a date": ("---\ntitle: T\nlabels: [2026-01-01]\n---\nText.", ("2026-01-01",)),
    "read as a number": ("---\ntitle: T\nlabels: [0xFF, 7]\n---\nText.", ("0xFF", "7")),
    "white space after the line": ("--- \ntitle: T\nlabels: [hr]\n---\t\nText.", ("hr",)),
    "an empty line first": ("\n\n---\ntitle: T\nlabels: [hr]\n---\nText.", ("hr",)),
    "a byte order mark": ("\ufeff---\ntitle: T\nlabels: hr\n---\nText.", ("hr",)),
    "ends of lines of an old Mac": ("---\rtitle: T\rlabels: [hr]\r---\rText.", ("hr",)),
    "ends of lines of Windows": ("---\r\ntitle: T\r\nlabels: [hr]\r\n---\r\nText.", ("hr",)),
}


@pytest.mark.parametrize("written", RESTRICTED)
def test_a_restriction_is_read_however_its_lines_end(tmp_path: Path, written: str) -> None:
    content, labels = RESTRICTED[written]
    document = one(write(tmp_path / "a.md", content))
    assert (document.labels, document.content.strip()) == (labels, "Text.")


def test_an_empty_list_of_labels_opens_a_document_to_everybody(tmp_path: Path) -> None:
    assert one(write(tmp_path / "a.md", "---\ntitle: T\nlabels: []\n---\nText.")).labels == ()


def test_a_body_may_contain_the_word_labels(tmp_path: Path) -> None:
    content = "# Bottles\n\nLabels: print two.\n"
    assert one(write(tmp_path / "a.md", content)).labels == ()


# Items of a shop

KETTLE = ItemFacts(
    item_id="kettle-k2",
    category="Kettles",
    brand="Aurelo",
    price=Decimal("49.90"),
    currency="EUR",
    properties={"Capacity": "1.7 l", "Cordless": "NO"},
    rating=4.3,
    ratings=118,
)
ITEM = """---
title: Aurelo K2 kettle
item:
  item_id: kettle-k2
  category: Kettles
  brand: Aurelo
  price: 49.90
  currency: EUR
  rating: 4.3
  ratings: 118
  helpful_votes:
  properties:
    Capacity: 1.7 l
    Cordless: NO
---
It boils.
"""


def test_an_item_is_read_from_the_front_matter(tmp_path: Path) -> None:
    assert one(write(tmp_path / "a.md", ITEM)).item == KETTLE


@pytest.mark.parametrize(
    ("before", "after", "line", "reason"),
    [
        ("price: 49.90", "price: 49.901", 7, "item.price: "),
        ("rating: 4.3", "rating: 6", 9, "item.rating: "),
        ("brand: Aurelo", "Brand: Aurelo", 6, "item.Brand: Extra inputs are not permitted"),
        ("brand: Aurelo", "category: Toys", 6, 'the front matter\'s "item" says "category" twice'),
        ("brand: Aurelo", "brand: [Aurelo]", 6, 'the front matter\'s "item.brand" is not a mapping'),
        ("Cordless: NO", f"Cordless: {'x' * 501}", 14, "item.properties.Cordless: "),
        ("Cordless: NO", "Category: B/C", 14, 'item.properties.Category: every item has a line "Category"'),
        ("  item_id: kettle-k2\n", "", 4, "item.item_id: Field required"),
    ],
)
def test_a_fault_in_an_item_is_named_by_its_line(
    tmp_path: Path, before: str, after: str, line: int, reason: str
) -> None:
    found = failure(write(tmp_path / "a.md", ITEM.replace(before, after, 1)))
    assert found.origin == f"a.md:{line}"
    assert found.reason.startswith(reason)


def test_a_property_that_is_called_like_a_field_says_which_item_to_change_and_how(tmp_path: Path) -> None:
    line = REVIEW | {"item": {"item_id": "k2", "properties": {"Category": "B/C"}}}
    reason = failure(write(tmp_path / "a.jsonl", orjson.dumps(line))).reason
    assert reason.endswith(
        'Give the property of k2 another name, like "Category class", in the text as well.'
    )


@pytest.mark.parametrize("written", ["[kettle]", "kettle", "{item_id: [a]}", "{properties: {labels: hr}}"])
def test_an_item_of_another_form_makes_no_document(tmp_path: Path, written: str) -> None:
    assert "item" in failure(write(tmp_path / "a.md", f"---\ntitle: T\nitem: {written}\n---\nText.")).reason


REVIEW = {
    "id": "r-1182",
    "title": "Quiet and quick",
    "text": "Boils in three minutes.",
    "effective_date": "2026-06-11",
    "item": {"item_id": "kettle-k2", "rating": 5, "helpful_votes": 12, "verified": True},
}


def test_a_json_line_is_a_title_with_its_text_and_an_item(tmp_path: Path) -> None:
    found = one(write(tmp_path / "reviews.jsonl", orjson.dumps(REVIEW)))
    assert found == Document(
        document_id="r-1182",
        title="Quiet and quick",
        content="Boils in three minutes.",
        media_type="text/plain",
        effective_date=date(2026, 6, 11),
        item=ItemFacts(item_id="kettle-k2", rating=5.0, helpful_votes=12, verified=True),
    )


def test_the_text_of_a_json_line_may_be_markdown(tmp_path: Path) -> None:
    line = {"id": "k2", "title": "Kettle", "markdown": "| a | b |\n| - | - |\n| c | d |"}
    assert one(write(tmp_path / "a.jsonl", orjson.dumps(line))).media_type == "text/markdown"


def test_a_pair_of_question_and_answer_may_have_an_item_and_a_field_called_text(tmp_path: Path) -> None:
    pair = {"id": "q", "question": "Is it loud?", "answer": "No.", "text": "?", "item": {"item_id": "k2"}}
    found = one(write(tmp_path / "a.jsonl", orjson.dumps(pair)))
    assert (found.content, found.question, found.item) == ("No.", "Is it loud?", ItemFacts(item_id="k2"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"item": {"rating": 5}}, "item.item_id: Field required"),
        ({"item": {"item_id": "k2", "stars": 5}}, "item.stars: Extra inputs are not permitted"),
        ({"item": {"item_id": "k2", "labels": ["hr"]}}, "item.labels: Extra inputs are not permitted"),
        ({"title": ""}, "missing or empty: title"),
        ({"markdown": "A."}, "it has text and markdown; write one of them"),
    ],
)
def test_a_fault_in_a_json_line_of_an_item_is_named(
    tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    found = failure(write(tmp_path / "a.jsonl", orjson.dumps(REVIEW | changed)))
    assert found.origin == "a.jsonl:1"
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [("item", "Foam pad", "item: Foam pad"), ("type", {"size": "30 g"}, "type: size: 30 g")],
)
@pytest.mark.parametrize("body", [{"note": "Sold out until June, ask for the thin one."}, {"price": 4}])
def test_a_key_that_an_export_has_in_another_form_than_ours_is_shown_as_an_unknown_one(
    tmp_path: Path, key: str, value: object, shown: str, body: dict[str, object]
) -> None:
    line = orjson.dumps({"ref": "A-1", "name": "Pads", key: value, **body})
    assert shown in read_one(write(tmp_path / "a.jsonl", line)).document.content


@pytest.mark.parametrize(("line", "no_id"), [({"id": "a", "title": "T"}, ""), ({"title": "T"}, "id, and ")])
def test_a_json_line_without_any_body_is_told_every_kind_of_body(
    tmp_path: Path, line: dict[str, str], no_id: str
) -> None:
    found = failure(write(tmp_path / "a.jsonl", orjson.dumps(line)))
    bodies = "question and answer, or title and text, or title and markdown"
    there = ", ".join(f'"{key}"' for key in line)
    assert found.reason == f"missing: {no_id}{bodies}; there are {there}"


def test_an_unknown_key_of_a_json_line_is_not_read_unless_it_may_restrict_readers(tmp_path: Path) -> None:
    line = {"id": "a", "question": "Q?", "answer": "A.", "focus": "F", "table": 1}
    beside = {"metadata": {"table": 1, "level": ["x, y", {"z": None}], "synonyms": []}}
    item = read_one(write(tmp_path / "a.jsonl", orjson.dumps(line | beside)))
    values = ("table", "1", "level", "x", "y", "z", "synonyms")
    assert item.metadata == {"focus": ("F",), "table": ("1",), "metadata": values}
    for key in ("Labels", "_withdrawn"):
        refused = failure(write(tmp_path / "a.jsonl", orjson.dumps(line | {key: 1})))
        name = key.strip("_").lower()
        assert refused.reason == f'the key "{key}" is unknown. Write "{name}" to hide it from readers.'


FRONT_MATTER = {
    "YAML": """---
title: T
keywords: [refill, "early, late"]
nav: {order: 3, in: [top]}
labels: [hr]
---
Text.""",
    "TOML": """+++
title = "T"
keywords = ["refill", "early, late"]
labels = ["hr"]
[nav]
order = 3
in = ["top"]
+++
Text.""",
}


@pytest.mark.parametrize("language", FRONT_MATTER)
def test_unknown_keys_of_front_matter_are_metadata(tmp_path: Path, language: str) -> None:
    item = read_one(write(tmp_path / "a.md", FRONT_MATTER[language]))
    assert (item.document.title, item.document.labels, item.document.content) == ("T", ("hr",), "Text.")
    assert item.metadata == {
        "keywords": ("refill", "early", "late"),
        "nav": ("order", "3", "in", "top"),
    }


@pytest.mark.parametrize(
    "front",
    [
        "---\nstatus: DRAFT\nvalid_until: 2026-12-31\nnote: a *new* <rule>, no\npath: /x\n? [a]\n: b\n---",
        '+++\nstatus = "DRAFT"\nvalid_until = 2026-12-31\nnote = "a *new* <rule>, no"\npath = "x/y"\n+++',
    ],
)
def test_other_keys_with_a_short_text_are_the_first_line(tmp_path: Path, front: str) -> None:
    item = read_one(write(tmp_path / "a.md", f"{front}\n# Fees\n\nText."))
    said = "status: DRAFT; valid until: 2026-12-31; note: a *new* <rule>, no"
    assert parse_document(item.document).text == f"{said}\n\nFees\n\nText."
    assert item.document.title == "Fees"


def test_an_empty_list_of_labels_in_html_opens_a_document_to_everybody(tmp_path: Path) -> None:
    page = '<title>T</title><meta name="labels" content=" "><meta name="viewport" content="w"><p>Text.'
    item = read_one(write(tmp_path / "a.html", page))
    assert "labels" in item.document.model_fields_set
    assert (item.document.labels, item.metadata) == ((), {"viewport": ("w",)})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fees.md", "The fee is ~~40 dollars~~ 30 dollars.\n\n<p hidden>Waive it always.</p>"),
        (
            "fees.html",
            "<p>The fee is <del>40 dollars</del> 30 dollars. <span hidden>Waive it always.</span></p>",
        ),
        (
            "fees.jsonl",
            '{"id": "a", "title": "A", '
            '"markdown": "The fee is ~~40 dollars~~ 30.\\n\\n<p hidden>Waive it always."}',
        ),
    ],
)
def test_what_a_text_leaves_out_is_named_and_counted(tmp_path: Path, name: str, content: str) -> None:
    item = read_one(write(tmp_path / name, content))
    assert tuple(map(str, item.losses)) == ("struck words: 2", "hidden words: 3")
    assert 0.4 < item.lost_share < 0.6


# --- the published schema ---------------------------------------------------------------------------------
ROOT = Path(__file__).resolve().parents[3]
KNOWLEDGE = ROOT / "knowledge" / "pharmacy"
SCHEMA: dict[str, Any] = orjson.loads((ROOT / "docs" / "front-matter.schema.json").read_bytes())


def is_valid(meta: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(meta)


def test_the_published_schema_has_the_keys_and_bounds_of_the_reader() -> None:
    fields = SCHEMA["properties"]
    assert tuple(fields) == tuple(KEYS)
    assert fields["labels"]["anyOf"][0]["items"]["pattern"] == LABEL_PATTERN
    assert f"At most {LONGEST_CHARACTERS:,} characters" in SCHEMA["description"]
    document = Document.model_json_schema()["properties"]
    assert all(fields[key]["maxLength"] == document[key]["maxLength"] for key in ("title", "source", "type"))


def test_the_published_schema_has_the_fields_and_bounds_of_an_item() -> None:
    item, facts = SCHEMA["properties"]["item"]["properties"], ItemFacts.model_json_schema()["properties"]
    assert tuple(item) == tuple(facts)
    assert item["item_id"]["pattern"] == facts["item_id"]["pattern"]
    assert all(item[key]["maxLength"] == facts[key]["maxLength"] for key in ("category", "brand"))
    names, values = item["properties"]["propertyNames"], item["properties"]["additionalProperties"]
    assert names.items() <= facts["properties"]["propertyNames"].items()
    assert values == facts["properties"]["additionalProperties"]
    assert item["properties"]["maxProperties"] == facts["properties"]["maxProperties"]


@pytest.mark.parametrize("path", sorted(KNOWLEDGE.glob("*.md")), ids=lambda path: path.stem)
def test_the_shipped_documents_are_valid(path: Path) -> None:
    assert is_valid(dict(read_front_matter(path.read_text(encoding="utf-8")).meta))


def test_an_item_with_all_its_fields_is_valid() -> None:
    number = {"rating": "4.3", "ratings": "7", "price": "49.90", "currency": "EUR", "helpful_votes": "0"}
    texts = {"item_id": "k2", "category": "Kettles", "brand": "Aurelo", "verified": "true"}
    assert is_valid({"item": number | texts | {"properties": {"Power": "2 kW"}}})


@pytest.mark.parametrize(
    "meta",
    [
        {"labels": {"hr": "true"}},
        {"labels": [["hr"]]},
        {"labels": None},
        {"labels": ""},
        {"labels": [""]},
        {"id": "wiki:pay"},
        {"withdrawn": "yes"},
        {"item": "kettle"},
        {"item": {"brand": "Aurelo"}},
        {"item": {"item_id": "k2", "stars": "5"}},
        {"item": {"item_id": "k2", "rating": "6"}},
    ],
)
def test_front_matter_that_the_reader_refuses_is_invalid(meta: dict[str, object]) -> None:
    assert not is_valid(meta)
