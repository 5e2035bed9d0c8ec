"""Tags of live elements in a text, and their labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.answer.excerpts import labelled_unit, shown_unit
from assistant.domain.live import MOST_ELEMENTS
from assistant.text.marks import ELEMENTS
from assistant.text.markup import Tag, label_of, tags_in, with_labels, with_marks, without_marks
from assistant.text.safe_markdown import inert
from tests.attacks.active_content import hidden_content

KNOWN = frozenset({"orders.status", "stores.in_stock", "table stores.in_stock"})
PIECES = ["{", "{{", "}}", " ", "orders", ".", "status", "table ", "orders.status", "{{orders.status}}", "x"]


def known(tag: Tag) -> bool:
    return tag.key in KNOWN


def joined(found: list[str | Tag]) -> list[str | Tag]:
    """Return texts and tags with adjacent texts as one: where a text was cut says nothing."""
    whole: list[str | Tag] = []
    for one in found:
        if isinstance(one, str) and whole and isinstance(whole[-1], str):
            whole[-1] += one
        else:
            whole.append(one)
    return whole


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_texts_and_tags_are_the_whole_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = tags_in(text, known)
    assert "".join(one if isinstance(one, str) else one.written for one in whole) == text


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("{{orders.status}}", "orders.status"),
        ("{{    orders.status    }}", "orders.status"),
        ("{{table  stores.in_stock}}", "table stores.in_stock"),
    ],
)
def test_a_tag_is_read(written: str, key: str) -> None:
    [tag] = tags_in(written, lambda _: True)
    assert isinstance(tag, Tag)
    assert (tag.key, tag.written) == (key, written)


@pytest.mark.parametrize(
    "text",
    [
        "{{orders}}",
        "{{orders.Status}}",
        "{{orders.status.more}}",
        "{{orders..status}}",
        "{{.status}}",
        "{{1orders.status}}",
        "{{orders.status",
        "{{orders.status}",
        "{orders.status}}",
        "{{     orders.status}}",
        "{{orders\n.status}}",
        "{{chart orders.status}}",
        "{{orders.status|block}}",
        "{{orders.statu\u0455}}",
        "{{\u200borders.status}}",
        "\uff5b\uff5borders.status\uff5d\uff5d",
        "&#123;&#123;orders.status}}",
        "{{orders." + "s" * 42 + "}}",
        "{{" + "o" * 200 + ".status}}",
    ],
)
def test_what_is_no_tag_is_text(text: str) -> None:
    assert joined(list(tags_in(text, lambda _: True))) == [text]


def test_tags_are_bounded_in_number() -> None:
    found = list(tags_in("{{orders.status}} " * 10_000, known))
    assert sum(isinstance(one, Tag) for one in found) == MOST_ELEMENTS
    assert (
        "".join(one if isinstance(one, str) else one.written for one in found)
        == "{{orders.status}} " * 10_000
    )


# Labels


@pytest.mark.parametrize(
    ("title", "label"),
    [
        ("Order status", "[order status]"),
        ("  Next  fill\n date ", "[next fill date]"),
        ("A [link](https://evil.example)", "[a link https evil example]"),
        ("<b>Stock</b>", "[b Stock b]"),
        ("***", "[live data]"),
        ("x" * 200, f"[{'x' * 60}]"),
    ],
)
def test_a_label_is_plain_words(title: str, label: str) -> None:
    assert label_of(title) == label


LABELS = {"orders.status": "[order status]"}


@pytest.mark.parametrize(
    "text",
    [
        "See {{orders.status}}(https://evil.example/a).",
        "[x {{orders.status}}](https://evil.example/a)",
        "![{{orders.status}}](https://evil.example/i.png)",
        "{{orders.status}}: https://evil.example/a",
        "{{orders.status}}[1]",
        "<a href='https://evil.example/{{orders.status}}'>x</a>",
        "java{{orders.status}}script:alert(1)",
        "ht{{orders.status}}tps://evil.example",
        "`{{orders.status}}`",
    ],
)
def test_a_label_makes_no_link_of_the_text_around_it_where_it_is_drawn_as_markdown(text: str) -> None:
    assert hidden_content(inert(shown_unit(text, labels=LABELS))) == []


def test_the_places_of_labels_are_those_of_the_shown_text() -> None:
    labelled, tags = labelled_unit("<b>A</b> {{orders.status}}: {{orders.status}}.", labels=LABELS)
    assert [labelled.text[start:end] for _, start, end in labelled.places] == ["[order status]"] * 2
    assert len(tags) == 2


def test_a_text_cannot_hold_a_mark_of_its_own() -> None:
    marked, tags = with_marks(f"{ELEMENTS.mark(0)}{{{{orders.status}}}}{ELEMENTS.mark(1)}", LABELS)
    assert (marked, len(tags)) == (ELEMENTS.mark(0), 1)
    assert with_labels(marked, {0: "[order status]"}).text == "[order status]"
    assert without_marks(f"a{ELEMENTS.mark(3)}b", instead=" ") == "a b"
