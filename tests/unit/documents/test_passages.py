"""Passages that the embedding model reads whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from assistant.documents.parsing import parse_document
from assistant.documents.passages import (
    LONGEST_WORD,
    PassageCutter,
    TokenCounts,
    build_card,
    distinct_words,
    find_abbreviations,
)
from assistant.domain.documents import Document, ItemFacts, ParsedDocument, Passage
from assistant.domain.errors import ConfigurationError, DocumentInvalidError
from assistant.text.language import language
from tests.unit.documents.scene import document, model_tokenizer, word_counts

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MAX_TOKENS = 256


@pytest.fixture(scope="module")
def counts() -> TokenCounts:
    return TokenCounts.load(model_tokenizer())


def cut(
    counts: TokenCounts, source: Document, *, max_tokens: int = MAX_TOKENS
) -> tuple[ParsedDocument, tuple[Passage, ...]]:
    parsed = parse_document(source)
    cutter = PassageCutter(counts, max_tokens=max_tokens, language=language("en"))
    return parsed, cutter.cut(source, parsed, content_hash="hash", updated_at=NOON)


def assert_no_unit_is_lost(parsed: ParsedDocument, passages: Sequence[Passage]) -> None:
    """The units of all passages are those of the document, each where it begins."""
    units = [replace(unit, terms=(), cells=()) for passage in passages for unit in passage.units]
    assert [replace(unit, heading="") for unit in units] == [
        replace(unit, heading="") for unit in parsed.units
    ]
    for ordinal, passage in enumerate(passages):
        for unit in passage.units:
            assert ordinal == 0 or unit.span.start >= passage.span.start
            assert ordinal == len(passages) - 1 or unit.span.start < passages[ordinal + 1].span.start


def without_spaces(text: str) -> str:
    return "".join(text.split())


def test_a_passage_has_its_document_and_its_place(counts: TokenCounts) -> None:
    source = document(
        "refill",
        "# About refill\n\n## Steps\n\nWait until day 24.",
        source="procedures",
        type="claims",
        url="https://example.org/79",
        labels=("staff",),
    )
    parsed, (passage,) = cut(counts, source)
    assert (passage.passage_id, passage.document_id, passage.ordinal) == ("refill#0", "refill", 0)
    assert (passage.title, passage.heading) == ("About refill", "Steps")
    assert (passage.source, passage.type, passage.url) == ("procedures", "claims", "https://example.org/79")
    assert (passage.labels, passage.updated_at, passage.content_hash) == (("staff",), NOON, "hash")
    assert parsed.text[passage.span.start : passage.span.end] == "Wait until day 24."


def test_the_title_is_not_repeated_as_heading(counts: TokenCounts) -> None:
    _, passages = cut(counts, document("refill", "# ABOUT REFILL\n\nOne.\n\n# Other\n\nTwo."))
    assert [passage.heading for passage in passages] == ["", "Other"]


def test_the_count_is_the_model_s_own_with_title_heading_and_special_tokens(counts: TokenCounts) -> None:
    _, (passage,) = cut(counts, document("refill", "# Steps\n\nHydrochlorothiazide 12.5mg."))
    tokenizer = Tokenizer.from_file(str(model_tokenizer()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert passage.token_count == len(tokenizer.encode(passage.embedding_input).ids)
    assert passage.embedding_input == "About refill\nSteps\nHydrochlorothiazide 12.5mg."


def test_a_long_text_is_cut_between_sentences(counts: TokenCounts) -> None:
    sentence = "The pharmacist checks the identity of the caller before any disclosure."
    _, passages = cut(counts, document(content=" ".join([sentence] * 80)))
    assert len(passages) > 2
    assert all(
        passage.text.startswith("The ") and passage.text.endswith("disclosure.") for passage in passages
    )
    assert min(passage.token_count for passage in passages[:-1]) > 0.8 * MAX_TOKENS


@pytest.mark.parametrize("run", ["_", "a", "1", "|a", "漢"])
def test_a_very_long_word_is_kept_whole(counts: TokenCounts, run: str) -> None:
    text = f"before {run * 4_000} after"
    parsed, passages = cut(counts, document(content=text, media_type="text/plain"))
    assert "".join(without_spaces(passage.text) for passage in passages) == without_spaces(text)
    assert all(
        parsed.text[passage.span.start : passage.span.end] == passage.text
        and passage.token_count <= MAX_TOKENS
        for passage in passages
    )


def test_a_long_heading_is_shortened(counts: TokenCounts) -> None:
    long = "very long heading " * 80
    source = document(content=f"# {long}\n\n## Short\n\nText.\n\n# {long}x\n\nMore.")
    _, passages = cut(counts, source)
    assert [passage.heading for passage in passages] == ["Short", ""]


def test_a_title_that_leaves_no_tokens_is_refused(counts: TokenCounts) -> None:
    with pytest.raises(DocumentInvalidError, match="The title takes 252 of the 256 tokens"):
        cut(counts, document(title="w o r d s " * 50, content="Text."))


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(
        st.text(alphabet="ab. ,\n0é漢-(", min_size=1, max_size=60)
        | st.sampled_from(["Hydrochlorothiazide ", "# Heading\n\n", "x" * 90, "🙂" * 40, "word " * 50]),
        min_size=1,
        max_size=25,
    ).map("".join)
)
def test_nothing_is_lost_and_nothing_is_over_the_limit(counts: TokenCounts, content: str) -> None:
    source = document(content=content, media_type="text/plain")
    assume(content.strip(" \n"))
    parsed, passages = cut(counts, source, max_tokens=32)
    assert without_spaces("".join(passage.text for passage in passages)) == without_spaces(parsed.text)
    assert_no_unit_is_lost(parsed, passages)
    for passage in passages:
        assert parsed.text[passage.span.start : passage.span.end] == passage.text
        assert passage.token_count <= 32
        assert counts.exact(passage.embedding_input) == passage.token_count


def test_text_is_counted_exactly_where_the_estimate_is_too_low() -> None:
    class Underestimating(TokenCounts):
        def estimate(self, text: str) -> int:
            return super().estimate(text) // 3

    honest = word_counts()
    counts = Underestimating(honest._tokenizer)  # pyright: ignore[reportPrivateUsage]
    _, passages = cut(counts, document(content="One two three. " * 60), max_tokens=32)
    assert max(passage.token_count for passage in passages) <= 32


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json: the embedding model's tokenizer"):
        TokenCounts.load(tmp_path / "tokenizer.json")


def test_units_have_terms_and_headings_without_the_title(counts: TokenCounts) -> None:
    source = document(
        "refill", "# About refill\n\n## Steps\n\n1. Ask twice: ask for 24 days.\n\n# Other\n\nCopay."
    )
    _, passages = cut(counts, source)
    units = [unit for passage in passages for unit in passage.units]
    assert [(unit.heading, unit.terms) for unit in units] == [
        ("Steps", ("1", "twice", "24", "day")),
        ("Other", ("copay",)),
    ]


def test_a_unit_stays_whole_where_a_passage_ends_in_it(counts: TokenCounts) -> None:
    words = " ".join(f"word{number}" for number in range(200))
    parsed, passages = cut(counts, document(content=f"{words}.\n\nLast one."), max_tokens=64)
    assert len(passages) > 2
    assert [unit.text for unit in passages[0].units] == [f"{words}."]
    assert passages[1].units == ()
    assert_no_unit_is_lost(parsed, passages)


ODD = {
    "one sentence": "Wait.",
    "a table without a header": "<table><tr><td>79<td>Wait</table>",
    "a table of 300 rows": "| A | B |\n| - | - |\n"
    + "".join(f"| row {n} | {n} days |\n" for n in range(300)),
    "an empty list item": "- one\n-\n- three\n",
    "headings and a word": "# One\n\n## Two\n\n### Three\n\nword\n\n# Four\n",
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_an_odd_document_keeps_its_text_and_units(counts: TokenCounts, content: str) -> None:
    parsed, passages = cut(counts, document(content=content), max_tokens=64)
    assert parsed.units
    assert passages
    assert_no_unit_is_lost(parsed, passages)
    assert all(unit.text.strip() for unit in parsed.units)


# --- cards ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ask for a prior authorization (PA).", [("pa", "prior authorization")]),
        ("Ask for Prior Authorization (PA; see below).", [("pa", "prior authorization")]),
        ("Send the explanation of benefits (EOB), please.", [("eob", "explanation of benefits")]),
        ("Take hydrochlorothiazide (HCTZ) daily.", [("hctz", "hydrochlorothiazide")]),
        ("All prior authorizations (PAs) expire.", [("pa", "prior authorization")]),
        ("A heating pad (HP). Saline Solution (SS).", [("hp", "heating pad"), ("ss", "saline solution")]),
        ("Dispense as written (DAW). Delayed and wrong (DAW).", []),
        ("The plan. Authorization (PA) is next.", []),
        ("The card (CARD) is lost.", []),
        ("Call us (see below) or them (the plan).", []),
        ("No letters of it here (XYZ).", []),
        ("(PA) alone, and PA (prior authorization).", []),
        ("One letter (A), or far too many letters (ABCDEFGHIJ).", []),
        ("prior\nauthorization (PA)", []),
        ("\u0130 stanbul office (IO)", []),
        ("", []),
    ],
)
def test_abbreviations_that_a_text_defines(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(find_abbreviations(text)) == expected


def test_words_are_folded_letters_of_three_or_more_each_once() -> None:
    text = f"The PLAN\u2019s plan: B12, 79 caf\u00e9, don't, re-check it; \ufb01ll {'x' * (LONGEST_WORD + 1)}"
    assert distinct_words(text) == ("caf\u00e9", "check", "fill", "plan", "the")


def test_a_card_has_the_document_s_fields_and_the_words_of_title_questions_and_text() -> None:
    source = document(
        "refill",
        "# Steps\n\nAsk for a prior authorization (PA).",
        questions=["May it be early?"],
        labels=("staff",),
        owner="claims",
        effective_date="2026-03-01",
        item={"item_id": "k2", "rating": 4.5},
    )
    card = build_card(source, parse_document(source), content_hash="hash", updated_at=NOON)
    assert (card.document_id, card.content_hash, card.updated_at) == ("refill", "hash", NOON)
    assert (card.title, card.questions, card.labels) == ("About refill", ("May it be early?",), ("staff",))
    assert (card.owner, card.effective_date) == ("claims", date(2026, 3, 1))
    assert card.abbreviations == (("pa", "prior authorization"),)
    assert card.item == ItemFacts(item_id="k2", rating=4.5)
    assert {"about", "refill", "early", "steps", "authorization"} <= set(card.words)
