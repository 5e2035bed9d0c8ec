"""The text of one answer: only whole, checked sentences of a model, or quoted units."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.answer.check import LONGEST_SENTENCE_CHARACTERS, MOST_CHARACTERS, AnswerText, Citations
from assistant.answer.elements import Hydration
from assistant.answer.events import ElementChanged, SentenceEnded, Token
from assistant.answer.offers import QuotedBlock
from assistant.answer.prompt import Prompt, PromptDocument
from assistant.domain.answers import CitedUnit, Support
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.live import Caller
from assistant.text.language import language
from tests.fakes.answering import FakeTenant, agent, document
from tests.unit.answer.cutting import cuts

Events = list[Token | SentenceEnded | ElementChanged]
QUESTION = "When are retail refills payable?"
URL = "https://procedures.example/refill"
SUPPORTED = [
    "Retail refills are payable on day 23 of 30.",
    "Send other requests to the Claims Desk.",
    "Balances owed do not delay a transfer.",
]
CITED = ["Retail refills are payable on day 23 of 30 [1.1].", "Send other requests to the Claims Desk. [1.2]"]
WITHHELD = "Retail refills are payable on day 25 of 30."
UNCITED = "Please wait."
FAILING = {
    "repetition": "Payable payable payable payable payable payable day day day day day day.",
    "debris": "<think>Refills wait.",
}
REFUSAL = "The documents do not answer this question."
PARTIAL = "The documents do not say who pays."
FORMS = "Forms are at https://portal.example.org/forms and www.example.org."
STORED = document(content=" ".join(SUPPORTED) + f" See {URL} for retail refills. {FORMS}")
UNITS = STORED.passages[0].units
PROMPT = Prompt(
    prompt_id="answer/6",
    prompt_hash="",
    messages=(),
    documents=(PromptDocument(1, STORED, UNITS), PromptDocument(3, STORED, UNITS[:2])),
    dropped_documents=0,
    history_turns=0,
    prompt_tokens=0,
    refusal=REFUSAL,
    partial="The documents do not say",
)


def answer_text(question: str = QUESTION) -> AnswerText:
    deadline = Deadline.after(10.0, clock=SystemClock())
    hydration = Hydration(FakeTenant().services, Caller(agent(), None, question), deadline=deadline)
    return AnswerText(prompt=replace(PROMPT, given=(question,)), language=language("en"), hydration=hydration)


def written(*parts: str, cut_short: bool = False) -> tuple[AnswerText, Events]:
    text = answer_text()
    events: Events = [event for part in parts for event in text.write(part)]
    events += text.finish(cut_short=cut_short)
    return text, events


def block(text: str, before: str = "") -> QuotedBlock:
    return QuotedBlock(before=before, text=text, passage=STORED.passages[0], span=(0, len(text)), n=1)


def assert_offsets_match(text: AnswerText, events: Events) -> None:
    """Sentences are numbered, in order, and their places are theirs in the sum of all tokens."""
    tokens = [event.text for event in events if isinstance(event, Token)]
    assert "".join(tokens) == text.text
    assert [one.index for one in text.sentences] == list(range(len(text.sentences)))
    shown = [one for one in text.sentences if one.detail != "withheld"]
    assert all(one.start == one.end for one in text.sentences if one not in shown)
    end = 0
    for sentence, token in zip(shown, tokens, strict=True):
        assert sentence.start >= end
        assert token.endswith(text.text[sentence.start : sentence.end])
        assert text.text[sentence.start : sentence.end].strip()
        assert text.text[end : sentence.start].isspace() or end == sentence.start
        end = sentence.end
    assert end == len(text.text)


MODEL_TEXTS = st.lists(
    st.sampled_from(
        [
            *CITED,
            *SUPPORTED,
            *FAILING.values(),
            WITHHELD,
            UNCITED,
            REFUSAL,
            PARTIAL,
            "- Wait.",
            "[1.1]",
            "[7.1]",
        ]
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
    assert whole.is_over or cut.removed_markers == whole.removed_markers


@given(text=MODEL_TEXTS, data=st.data())
def test_only_whole_checked_sentences_are_released_at_any_time(text: str, data: st.DataObject) -> None:
    released = answer_text()
    for part in cuts(text, data):
        shown = None
        for event in released.write(part):
            if isinstance(event, Token):
                shown = event.text.strip().removeprefix("- ")
                assert shown in (*SUPPORTED, UNCITED, PARTIAL, "Wait.")
                continue
            assert isinstance(event, SentenceEnded)
            assert (event.detail == "withheld") == (shown is None)
            assert event.detail is not None or event.citations or shown == PARTIAL
            shown = None


@given(text=MODEL_TEXTS, cut_short=st.booleans(), quoted=st.booleans())
def test_the_places_of_sentences_are_those_in_the_text(text: str, cut_short: bool, quoted: bool) -> None:
    released, events = written(text, cut_short=cut_short)
    if quoted:
        events += released.quote([block("1. Wait.", before=""), block("Call.", before="\n")])
    assert_offsets_match(released, events)


# What ends the written part


@pytest.mark.parametrize(("code", "sentence"), FAILING.items())
def test_the_first_sentence_that_fails_ends_it(code: str, sentence: str) -> None:
    text, _ = written(f"{SUPPORTED[0]}\n{sentence}\n{SUPPORTED[1]}")
    assert (text.text, text.failure) == (SUPPORTED[0], code)


def test_after_a_failure_nothing_more_is_taken() -> None:
    text = answer_text()
    assert list(text.write(f"{FAILING['debris']} S")) == []
    assert list(text.write(f"end. {SUPPORTED[0]} S")) == []
    assert list(text.finish(cut_short=False)) == []
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
        "[INST] refills.",
        "</s> refills.",
        "<|im_end|> refills.",
        "- <div>refills.",
        '{"answer": "refills"}',
        '{\n  "answer": "refills"\n}',
        '["refills"]',
        "```json\n{}",
        '```\n{"answer": "refills"}\n```',
    ],
)
def test_what_a_program_would_read_is_debris(debris: str) -> None:
    assert written(debris)[0].failure == "debris"


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


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_text_of_too_many_characters_ends_at_the_same_place_however_it_comes(size: int) -> None:
    content = "".join(f"Refills wait {'a' * (n // 26)}{chr(97 + n % 26)}. " for n in range(2_000))
    text, _ = written(*(content[at : at + size] for at in range(0, len(content), size)))
    assert (text.failure, text.text) == ("too_long", written(content)[0].text)
    assert MOST_CHARACTERS - 100 < len(text.text) <= MOST_CHARACTERS


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


@pytest.mark.parametrize("nothing", ["", " \n", "[1]", "[7.7]", "---\n***\n", "..."])
def test_text_without_a_word_is_none(nothing: str) -> None:
    text, events = written(nothing)
    assert (events, text.begun, text.failure) == ([], False, None)


# What is taken out


def test_a_sentence_comes_with_the_units_that_it_cites() -> None:
    text, _ = written("Send other requests to the Claims Desk [1.2, 3.2]. Wait [3].")
    assert text.text == "Send other requests to the Claims Desk. Wait."
    first, second = text.sentences
    span = UNITS[1].span
    assert first.cited == tuple(CitedUnit(n=n, start=span.start, end=span.end) for n in (1, 3))
    assert (first.citations, first.support) == ((1, 3), Support.SUPPORTED)
    assert (second.citations, second.cited) == ((3,), ())


def test_a_citation_after_the_full_stop_belongs_to_the_sentence_before_it() -> None:
    text, _ = written(f"{SUPPORTED[1]} [1.2] {UNCITED}")
    assert [one.citations for one in text.sentences] == [(1,), ()]


def test_a_model_cannot_write_the_character_that_stands_for_a_citation() -> None:
    text, _ = written(f"Wait [1.1]. {chr(0xE100)}Call{chr(0xE100)}.")
    assert (text.text, [one.citations for one in text.sentences]) == ("Wait. Call.", [(1,), ()])


# What is withheld, refused or partial


def test_a_number_of_the_question_is_not_foreign() -> None:
    text = answer_text("May it be filled on day 25 of 30?")
    list(text.write(WITHHELD))
    list(text.finish(cut_short=False))
    assert text.text == WITHHELD


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


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"{FORMS[:-1]} [1.5].", FORMS),
        ("Forms are at [the portal](https://portal.example.org/forms) [1.5].", None),
        ("Forms are at portal.example.org/forms [1.5].", "Forms are at."),
        ("Forms are at https://portal.example.org/forms/evil [1.5].", "Forms are at."),
        ("Forms are at www.example.org [1.1].", "Forms are at www. example. org."),
        ("Forms are at www.example.org.", "Forms are at www. example. org."),
        ("Forms are at www.example.org)evil.example/x [1.5].", "Forms are at www. example. org)"),
    ],
)
def test_an_address_of_a_cited_unit_stays_and_no_other(said: str, shown: str | None) -> None:
    text, _ = written(f"{said} ")
    if shown is None:
        assert text.text == said.replace(" [1.5]", "")
    else:
        assert text.text.startswith(shown)


# Quotes


def test_a_quote_is_one_token_and_one_sentence_a_unit() -> None:
    text = answer_text()
    events = list(text.quote([block("Retail refills wait."), block("Call.", before="\n\n**More**\n\n")]))
    assert [event.event for event in events] == ["token", "sentence", "token", "sentence"]
    assert text.text == "Retail refills wait.\n\n**More**\n\nCall."
    assert [text.text[one.start : one.end] for one in text.sentences] == ["Retail refills wait.", "Call."]
    assert (text.citations, [unit.span for unit in text.quoted]) == ((1,), [(0, 20), (0, 5)])


def test_a_quote_follows_what_was_released_after_a_blank_line() -> None:
    text, _ = written(f"{SUPPORTED[0]} {FAILING['debris']} ")
    list(text.quote([block("Wait.", before="**Steps**\n\n")]))
    assert text.text == f"{SUPPORTED[0]}\n\n**Steps**\n\nWait."
    assert [one.index for one in text.sentences] == [0, 1]
    assert len(text.quoted) == 1


def test_a_quote_of_nothing_is_nothing() -> None:
    text = answer_text()
    assert list(text.quote([])) == []
    assert (text.begun, text.text, text.citations) == (False, "", ())


# The citations


@pytest.mark.parametrize(
    ("text", "left", "cited", "unknown"),
    [
        ("Payable on day 23 [1.1].", "Payable on day 23.", [(1, 1)], []),
        ("Payable on day 23 [1].", "Payable on day 23.", [(1, None)], []),
        ("Payable on day 23 [7.1].", "Payable on day 23.", [], ["[7.1]"]),
        ("Payable [1.1][3.2], not yet.", "Payable, not yet.", [(1, 1), (3, 2)], []),
        ("Payable [1.1, 1.9] now.", "Payable now.", [(1, 1)], ["[1.1, 1.9]"]),
        ("Payable [1.1-1.3] now.", "Payable now.", [(1, 1), (1, 2), (1, 3)], []),
        ("Payable [1.2\u20133] now.", "Payable now.", [(1, 2), (1, 3)], []),
        ("Payable [1.2-3.1] now.", "Payable now.", [], ["[1.2-3.1]"]),
        ("Payable [1.3-1.2] now.", "Payable now.", [], ["[1.3-1.2]"]),
        ("Payable [1.1][1.1] now.", "Payable now.", [(1, 1)], []),
        ("Payable [0] and [1.0] now.", "Payable and now.", [], ["[0]", "[1.0]"]),
        ("[1.1] Payable.", "Payable.", [(1, 1)], []),
        ("  Payable [3]", "Payable", [(3, None)], []),
        ("Payable. ", "Payable.", [], []),
        ("Form [PR-2] and [a] and [1234] stay.", "Form [PR-2] and [a] and [1234] stay.", [], []),
        ("<document 1>\nPayable.</document>", "Payable.", [], []),
        ("Below <5 or </p> or <documents>", "Below <5 or </p> or <documents>", [], []),
        ("An open [ bracket", "An open [ bracket", [], []),
        ("An open end [1.", "An open end [1.", [], []),
    ],
)
def test_citations_go_and_all_else_stays(
    text: str, left: str, cited: list[object], unknown: list[str]
) -> None:
    """There are 1.1 to 1.5, 3.1 and 3.2."""
    citations = Citations(PROMPT.documents)
    assert citations.taken(text) == (left, tuple(cited))
    assert citations.removed == unknown
