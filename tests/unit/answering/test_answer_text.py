"""The text of one answer: only whole, checked sentences of a model, or quoted units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.answering.composing import QuotedBlock
from assistant.answering.events import ElementChanged, SentenceEnded, Token
from assistant.answering.stream import LONGEST_SENTENCE_CHARACTERS, AnswerText, MarkerFilter
from assistant.answering.support import SupportChecker
from assistant.domain.answers import Support
from assistant.text.language import language
from tests.fakes.answering import document
from tests.unit.answering.cutting import cuts

Events = list[Token | SentenceEnded | ElementChanged]
QUESTION = "When are retail refills payable?"
URL = "https://procedures.example/refill"
SUPPORTED = [
    "Retail refills are payable on day 23 of 30.",
    "Send other requests to the Claims Desk.",
    "Balances owed do not delay a transfer.",
]
FAILING = {
    "unsupported": "Grapefruit interacts with simvastatin.",
    "repetition": "Payable payable payable payable payable payable day day day day day day.",
    "debris": "Passage 1: refills.",
    "echo": QUESTION,
}
STORED = document(content=" ".join(SUPPORTED) + f" See {URL} for retail refills.")


def answer_text(question: str = QUESTION) -> AnswerText:
    words = language("en")
    return AnswerText(
        checker=SupportChecker(STORED.passages, language=words),
        question=question,
        sources=1,
        allowed_urls={URL},
        language=words,
    )


def written(*parts: str, cut_short: bool = False) -> tuple[AnswerText, Events]:
    text = answer_text()
    events: Events = [event for part in parts for event in text.write(part)]
    events += text.end(cut_short=cut_short)
    return text, events


def block(text: str, before: str = "") -> QuotedBlock:
    return QuotedBlock(before=before, text=text, passage=STORED.passages[0], span=(0, len(text)), n=1)


def assert_offsets_match(text: AnswerText, events: Events) -> None:
    """Sentences are numbered, in order, and their places are theirs in the sum of all tokens."""
    tokens = [event.text for event in events if isinstance(event, Token)]
    assert "".join(tokens) == text.text
    assert [one.index for one in text.sentences] == list(range(len(tokens)))
    end = 0
    for sentence, token in zip(text.sentences, tokens, strict=True):
        assert sentence.start >= end
        assert token.endswith(text.text[sentence.start : sentence.end])
        assert text.text[sentence.start : sentence.end].strip()
        assert text.text[end : sentence.start].isspace() or end == sentence.start
        end = sentence.end
    assert end == len(text.text)


MODEL_TEXTS = st.lists(
    st.sampled_from(
        [*SUPPORTED, *FAILING.values(), "- Send other requests to the Claims Desk.", "[1]", "[7]"]
    ),
    min_size=1,
    max_size=5,
).flatmap(lambda pieces: st.sampled_from([" ", "\n", "\n\n", "  "]).map(lambda gap: gap.join(pieces)))


@given(text=MODEL_TEXTS, cut_short=st.booleans(), data=st.data())
def test_what_is_released_does_not_depend_on_the_cuts(
    text: str, cut_short: bool, data: st.DataObject
) -> None:
    whole, events = written(text, cut_short=cut_short)
    cut, cut_events = written(*cuts(text, data), cut_short=cut_short)
    assert (cut.text, cut.failure, cut_events) == (whole.text, whole.failure, events)
    assert whole.failure is not None or cut.removed_markers == whole.removed_markers


@given(text=MODEL_TEXTS, data=st.data())
def test_only_whole_sentences_that_a_source_holds_are_released_at_any_time(
    text: str, data: st.DataObject
) -> None:
    released = answer_text()
    for part in cuts(text, data):
        events = list(released.write(part))
        assert len(events) % 2 == 0
        for token, sentence in zip(events[::2], events[1::2], strict=True):
            assert isinstance(token, Token)
            assert isinstance(sentence, SentenceEnded)
            assert token.text.strip().removeprefix("- ") in SUPPORTED
            assert (sentence.support, sentence.citations) == (Support.SUPPORTED, (1,))


@given(text=MODEL_TEXTS, cut_short=st.booleans(), quoted=st.booleans())
def test_the_places_of_sentences_are_those_in_the_text(text: str, cut_short: bool, quoted: bool) -> None:
    released, events = written(text, cut_short=cut_short)
    if quoted:
        events += released.quote([block("1. Wait.", before=""), block("Call.", before="\n")])
    assert_offsets_match(released, events)


# What ends the written part


@pytest.mark.parametrize(("code", "sentence"), FAILING.items())
def test_the_first_sentence_that_fails_ends_it(code: str, sentence: str) -> None:
    text, _ = written(f"{SUPPORTED[0]} {sentence} {SUPPORTED[1]}")
    assert (text.text, text.failure) == (SUPPORTED[0], code)


def test_after_a_failure_nothing_more_is_taken() -> None:
    text = answer_text()
    assert list(text.write(f"{FAILING['unsupported']} S")) == []
    assert list(text.write(f"end. {SUPPORTED[0]} S")) == []
    assert list(text.end(cut_short=False)) == []
    assert not text.begun


@pytest.mark.parametrize(
    "again", [SUPPORTED[0], SUPPORTED[0].upper(), "- " + SUPPORTED[0], SUPPORTED[0] + "*"]
)
def test_a_sentence_that_was_said_is_a_repetition(again: str) -> None:
    text, _ = written(f"{SUPPORTED[0]}\n{again}\n{SUPPORTED[1]}")
    assert (text.text, text.failure) == (SUPPORTED[0], "repetition")


@pytest.mark.parametrize(
    "debris",
    [
        "Passage 1: refills are payable.",
        "The passage says: refills are payable.",
        "Answer: refills are payable.",
        "Q: refills?",
        "A: refills.",
        "User: refills.",
        "[INST] refills.",
        "</s> refills.",
        "### Question refills.",
        "Based on the context.",
    ],
)
def test_what_a_prompt_is_made_of_is_debris(debris: str) -> None:
    assert written(debris)[0].failure == "debris"


@pytest.mark.parametrize("sentence", SUPPORTED)
def test_an_ordinary_sentence_is_none(sentence: str) -> None:
    assert written(sentence)[0].failure is None


@pytest.mark.parametrize(
    "question", [QUESTION, "When are refills payable?", "So, when are the retail refills payable?"]
)
def test_the_question_said_back_is_an_echo(question: str) -> None:
    assert written(question)[0].failure == "echo"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_text_without_an_end_is_debris_however_it_comes(size: int) -> None:
    run_on = "retail refills are payable " * 80
    assert len(run_on) > LONGEST_SENTENCE_CHARACTERS
    text, events = written(*(run_on[at : at + size] for at in range(0, len(run_on), size)))
    assert (events, text.failure) == ([], "debris")


@pytest.mark.parametrize("size", [1, 10_000])
def test_white_space_alone_is_never_too_long(size: int) -> None:
    content = SUPPORTED[0] + "\n" * 2 * LONGEST_SENTENCE_CHARACTERS + SUPPORTED[1]
    text, _ = written(*(content[at : at + size] for at in range(0, len(content), size)))
    assert text.failure is None
    assert text.text.split("\n")[-1] == SUPPORTED[1]


# The end


def test_the_last_sentence_needs_no_full_stop_when_the_model_stopped() -> None:
    assert written(SUPPORTED[0].removesuffix("."))[0].text == SUPPORTED[0].removesuffix(".")


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("Send other requests to the Claims", ""),
        ("- Send other requests to the Claims", ""),
        ("Send other requests to the Claims Desk.", " Send other requests to the Claims Desk."),
        ("Send other requests to the **Claims Desk.**", " Send other requests to the **Claims Desk.**"),
    ],
)
def test_a_sentence_that_was_cut_short_is_dropped(last: str, kept: str) -> None:
    text, _ = written(f"{SUPPORTED[0]} {last}", cut_short=True)
    assert (text.text, text.failure) == (SUPPORTED[0] + kept, None)


def test_a_text_that_is_cut_in_its_first_sentence_is_none() -> None:
    text, _ = written("Retail refills are", cut_short=True)
    assert (text.begun, text.failure) == (False, None)


@pytest.mark.parametrize("nothing", ["", " \n", "[1]", "---\n***\n", "..."])
def test_text_without_a_word_is_none(nothing: str) -> None:
    text, events = written(nothing)
    assert (events, text.begun, text.failure) == ([], False, None)


# What is taken out


def test_markers_are_taken_out_and_those_of_no_source_are_kept_apart() -> None:
    text, _ = written("Retail refills are payable [1] on day 23 of 30 [7].")
    assert (text.text, text.removed_markers) == (SUPPORTED[0], ("[7]",))


@pytest.mark.parametrize("between", ["<!--", "```", "~~~", "![](", "---", "<"])
def test_nothing_but_white_space_is_released_between_sentences(between: str) -> None:
    text, _ = written(f"{SUPPORTED[0]}\n{between}\n{SUPPORTED[1]}")
    assert text.text == f"{SUPPORTED[0]}\n\n{SUPPORTED[1]}"


@pytest.mark.parametrize(
    "address",
    [
        "[payable](https://evil.example/x)",
        "![payable](https://evil.example/x)",
        "payable https://evil.example/x",
    ],
)
def test_an_address_that_is_no_source_s_is_never_released(address: str) -> None:
    text, _ = written(f"Retail refills are {address} on day 23 of 30. ")
    assert "evil" not in text.text


def test_a_source_s_own_address_may_be_written() -> None:
    assert written(f"See {URL} for retail refills.")[0].text == f"See {URL} for retail refills."


# Quotes


def test_a_quote_is_one_token_and_one_sentence_a_unit() -> None:
    text = answer_text()
    events = list(text.quote([block("Retail refills wait."), block("Call.", before="\n\n**More**\n\n")]))
    assert [event.event for event in events] == ["token", "sentence", "token", "sentence"]
    assert text.text == "Retail refills wait.\n\n**More**\n\nCall."
    assert [text.text[one.start : one.end] for one in text.sentences] == ["Retail refills wait.", "Call."]
    assert (text.citations, [unit.span for unit in text.quoted]) == ((1,), [(0, 20), (0, 5)])


def test_a_quote_follows_what_was_released_after_a_blank_line() -> None:
    text, _ = written(f"{SUPPORTED[0]} {FAILING['unsupported']} ")
    list(text.quote([block("Wait.", before="**Steps**\n\n")]))
    assert text.text == f"{SUPPORTED[0]}\n\n**Steps**\n\nWait."
    assert [one.index for one in text.sentences] == [0, 1]
    assert len(text.quoted) == 1


def test_a_quote_of_nothing_is_nothing() -> None:
    text = answer_text()
    assert list(text.quote([])) == []
    assert (text.begun, text.text, text.citations) == (False, "", ())


def test_relevance_is_the_share_of_the_question_that_a_sentence_holds() -> None:
    text, _ = written(" ".join(SUPPORTED))
    assert [one.relevance for one in text.sentences] == [1.0, 0.0, 0.0]


def test_a_question_without_content_words_has_no_relevance() -> None:
    text = answer_text("And then?")
    list(text.write(SUPPORTED[0]))
    list(text.end(cut_short=False))
    assert [one.relevance for one in text.sentences] == [None]


# Taking ``[n]`` markers out of a stream.


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
