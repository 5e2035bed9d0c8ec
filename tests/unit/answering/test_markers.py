"""Taking ``[n]`` markers out of a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.answering.stream import MarkerFilter
from tests.unit.answering.cutting import cuts

PIECES = st.lists(
    st.sampled_from(
        [
            "<passage>",
            "</passage",
            "<pass",
            ">",
            "[1]",
            "[2]",
            "[9]",
            "[12",
            "]",
            "[",
            " ",
            "  ",
            "\t",
            "\n",
            "[1, 2]",
            "[3-9]",
            "[1;",
            "2",
            ",",
            "-",
            "day 23",
            ".",
            "[PR-2]",
            "[a]",
            "dose [mg]",
            "word",
            "1234",
            "[1234]",
            "[ 1 ]",
        ]
    ),
    max_size=20,
).map("".join)


def filtered(*parts: str, sources: int = 3) -> tuple[str, list[str]]:
    marker_filter = MarkerFilter(sources=sources)
    text = "".join([*map(marker_filter.push, parts), marker_filter.flush()])
    return text, marker_filter.removed


@pytest.mark.parametrize(
    ("text", "left", "unknown"),
    [
        ("Payable on day 23 [1].", "Payable on day 23.", []),
        ("Payable on day 23 [7].", "Payable on day 23.", ["[7]"]),
        ("Payable [1][2], not yet.", "Payable, not yet.", []),
        ("Payable [1, 9] now.", "Payable now.", ["[1, 9]"]),
        ("Payable [1-2] now.", "Payable now.", []),
        ("Payable [0] now.", "Payable now.", ["[0]"]),
        ("[1] Payable.", "Payable.", []),
        ("  Payable [2]", "Payable", []),
        ("Payable. ", "Payable.", []),
        ("Steps:\n[1] Ask.", "Steps:\n Ask.", []),
        ("Form [PR-2] and [a] and [1234] stay.", "Form [PR-2] and [a] and [1234] stay.", []),
        ("<passage>\nPayable.</passage>", "Payable.", []),
        ("Below <5 or </p> or <passages>", "Below <5 or </p> or <passages>", []),
        ("An open [ bracket", "An open [ bracket", []),
        ("An open end [1", "An open end [1", []),
    ],
)
def test_markers_go_and_all_else_stays(text: str, left: str, unknown: list[str]) -> None:
    assert filtered(text) == (left, unknown)


@given(text=PIECES, data=st.data())
def test_the_result_does_not_depend_on_the_cuts(text: str, data: st.DataObject) -> None:
    assert filtered(*cuts(text, data)) == filtered(text)


@given(words=st.lists(st.sampled_from(["day", "23", "[1]", "[8]", "[2, 3]", "\n", "."])), data=st.data())
def test_no_marker_is_left(words: list[str], data: st.DataObject) -> None:
    left, _ = filtered(*cuts(" ".join(words), data))
    assert not any(marker in left for marker in ("[1]", "[8]", "[2, 3]"))


@given(text=PIECES, data=st.data())
def test_little_is_held_back(text: str, data: st.DataObject) -> None:
    marker_filter = MarkerFilter(sources=3)
    given_out = taken = 0
    for part in cuts(text, data):
        given_out += len(marker_filter.push(part))
        taken += len(part)
    lost = len(text) - len(filtered(text)[0])
    assert taken - given_out - lost <= 46


def test_text_without_brackets_goes_out_at_once() -> None:
    marker_filter = MarkerFilter(sources=3)
    assert [marker_filter.push(part) for part in ("Payable", " on", " day 23.")] == [
        "Payable",
        " on",
        " day 23.",
    ]


def test_what_cannot_become_a_marker_is_released() -> None:
    marker_filter = MarkerFilter(sources=3)
    assert [marker_filter.push(part) for part in ("Form ", "[", "P", "R]")] == ["Form", "", " [P", "R]"]
