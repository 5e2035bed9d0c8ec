"""Cutting an answer into sentences while it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.text.language import SentenceSpan, SentenceSplitter, split_sentences
from tests.unit.answer.cutting import cuts

WRITTEN = (
    'Take| it|. |.|...|! |?|\n|  | Dr. |e.g. |0.5 mg|1. |- |"|)|Smith| ext. 4200|No. 5|p.m. |Eastern|ET|'
    "\u2026 |\u3002|9 a.m.|caf\u00e9|\u00e9|(see|**"
)
PIECES = st.lists(st.sampled_from(WRITTEN.split("|")), max_size=25).map("".join)
CITED = (
    "<document 1>|</document|<doc|>| 1|[1]|[1.2]|[12|[1.|]|[| |  |\t|         |\n|[1.1, 2]|Ask|. |? |."
    "|[1.1\u20132.2]|[1.2;|2|,|-|day 23|[PR-2]|[a]|dose [mg]|[1234]|[ 1.1 ]|p.m. |Eastern"
)
CITED_PIECES = st.lists(st.sampled_from(CITED.split("|")), max_size=25).map("".join)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Take it. Then wait.", ["Take it.", "Then wait."]),
        ("Take 0.5 mg daily. Wait.", ["Take 0.5 mg daily.", "Wait."]),
        ("Is it by R. Li, K. Roy or Dr. J. Lo? Ask.", ["Is it by R. Li, K. Roy or Dr. J. Lo?", "Ask."]),
        ("II, IV or V. Parts A and B. Plan C. Ask.", ["II, IV or V.", "Parts A and B.", "Plan C.", "Ask."]),
        ("Ask Dr. Smith at ext. 4200. Wait.", ["Ask Dr. Smith at ext. 4200.", "Wait."]),
        ("Take it. [1.2] Then wait.", ["Take it.", "[1.2] Then wait."]),
        ("Some drugs, e.g. Xanax, are refused. Ask.", ["Some drugs, e.g. Xanax, are refused.", "Ask."]),
        ("Call at 9 a.m. Then wait.", ["Call at 9 a.m.", "Then wait."]),
        ("Call until 10 p.m. Eastern. Wait.", ["Call until 10 p.m. Eastern.", "Wait."]),
        ("Is it due? Yes! Good.", ["Is it due?", "Yes!", "Good."]),
        ("Wait... then call. Wait\u2026 Call.", ["Wait... then call.", "Wait\u2026", "Call."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("It is due (see step 2). Wait.", ["It is due (see step 2).", "Wait."]),
        ("Steps:\n1. Ask for the card.\n2. Wait.", ["Steps:", "1. Ask for the card.", "2. Wait."]),
        ("**Note.** Take it.", ["**Note.**", "Take it."]),
        (
            "\u670d\u7528\u4e00\u6b21\u3002\u7b49\u5f85\u3002",
            ["\u670d\u7528\u4e00\u6b21\u3002", "\u7b49\u5f85\u3002"],
        ),
        ("No end", ["No end"]),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert [span.text for span in split_sentences(text)] == sentences


@given(text=PIECES, data=st.data())
def test_the_result_does_not_depend_on_the_cuts(text: str, data: st.DataObject) -> None:
    splitter = SentenceSplitter()
    found: list[SentenceSpan] = []
    for part in cuts(text, data):
        found += splitter.push(part)
    found += splitter.flush()
    assert found == split_sentences(text)


@given(text=CITED_PIECES, data=st.data())
def test_the_result_with_citations_does_not_depend_on_the_cuts(text: str, data: st.DataObject) -> None:
    splitter, whole = SentenceSplitter(cites=True), SentenceSplitter(cites=True)
    found = [span for part in cuts(text, data) for span in splitter.push(part)]
    assert [*found, *splitter.flush()] == [*whole.push(text), *whole.flush()]


def test_a_citation_after_its_end_belongs_to_the_sentence() -> None:
    splitter = SentenceSplitter(cites=True)
    parts = ("Take it. [1.2][3] Then wait. [1", ".4] Go on")
    assert [[span.text for span in splitter.push(part)] for part in parts] == [
        ["Take it. [1.2][3]"],
        ["Then wait. [1.4]"],
    ]


@given(text=PIECES)
def test_spans_point_into_the_text_in_order(text: str) -> None:
    last_end = 0
    for span in split_sentences(text):
        assert text[span.start : span.end] == span.text == span.text.strip()
        assert span.start >= last_end
        last_end = span.end


@given(text=PIECES)
def test_no_letter_is_lost(text: str) -> None:
    kept = "".join(span.text for span in split_sentences(text))
    assert [c for c in kept if c.isalnum()] == [c for c in text if c.isalnum()]


@pytest.mark.parametrize("ends_with", ["Take it. T", "Take it.\n", "Take it.\n\n"])
def test_a_sentence_is_given_once_its_end_is_certain(ends_with: str) -> None:
    splitter = SentenceSplitter()
    assert list(splitter.push("Take it")) == []
    [span] = splitter.push(ends_with.removeprefix("Take it"))
    assert span == SentenceSpan(0, 8, "Take it.")


@pytest.mark.parametrize("uncertain", ["Take it.", "Take it. ", "Take 0.", 'Take it."'])
def test_an_uncertain_end_waits(uncertain: str) -> None:
    assert list(SentenceSplitter().push(uncertain)) == []
