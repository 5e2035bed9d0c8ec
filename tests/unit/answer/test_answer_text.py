"""The text of one answer: only whole, checked sentences of a model, or quoted units; docs/decisions/0028."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.answer.check import LONGEST_SENTENCE_CHARACTERS, AnswerText, Citations
from assistant.answer.elements import Hydration
from assistant.answer.events import ElementChanged, SentenceEnded, Token
from assistant.answer.offers import QuotedBlock
from assistant.answer.prompt import Prompt, PromptDocument
from assistant.answer.support import REASONS, Checked, SupportChecker
from assistant.domain.answers import CitedUnit, Support
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.live import Caller
from assistant.text.language import language
from tests.stage.answering import FakeTenant, agent, document

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


def cuts(text: str, data: st.DataObject) -> list[str]:
    """Cut a text at any places, as a tokenizer and a network might."""
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted), label="cuts")
    return [text[start:end] for start, end in pairwise([0, *places, len(text)])]


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


def test_a_sentence_comes_with_the_units_that_it_cites() -> None:
    text, _ = written("Send other requests to the Claims Desk [1.2, 3.2]. Wait [3].")
    assert text.text == "Send other requests to the Claims Desk. Wait."
    first, second = text.sentences
    span = UNITS[1].span
    assert first.cited == tuple(CitedUnit(n=n, start=span.start, end=span.end) for n in (1, 3))
    assert (first.citations, first.support) == ((1, 3), Support.SUPPORTED)
    assert (second.citations, second.cited) == ((3,), ())


def test_a_model_cannot_write_the_character_that_stands_for_a_citation() -> None:
    text, _ = written(f"Wait [1.1]. {chr(0xE100)}Call{chr(0xE100)}.")
    assert (text.text, [one.citations for one in text.sentences]) == ("Wait. Call.", [(1,), ()])


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


ENGLISH = language("en")
CITED_UNITS = [
    "The Claims Desk (ext. 4100) sends the letter to the prescriber within 2 business days.",
    "Never fill a controlled medicine early for cash.",
    "If the parcel is lost, the Delivery Desk (ext. 4400) sends a new one.",
    "Copies cost 25 cents for one page and 5 dollars for a whole record.",
    "Mail orders of up to 30 days' supply need no signature.",
    "Take 10 mg of Lisinopril twice a day, 1,000 mg a month at most.",
    "Open from 8:00 a.m. to 5 p.m. since May 3, 2026, at (800) 555-0100; 75 percent of calls are short.",
    "The patient may not clear the alert before the pharmacist has seen it.",
    "Form CR-1 is kept for 24 hours.",
]
CHECKER = SupportChecker(
    {
        1: [f"Early refills\nSteps\n{text}" for text in CITED_UNITS],
        2: ["Pens\nPens are blue.", "Pens\nCaps are red."],
    },
    given=["Does Tramadol need 7 forms?"],
    language=ENGLISH,
)


def check(sentence: str, *units: int) -> Checked:
    return CHECKER.check(sentence, [(1, unit) for unit in units])


@pytest.mark.parametrize(
    ("sentence", "unit"),
    [
        ("The Claims Desk sends the prescriber the letter in no more than two business days.", 1),
        ("No signature is needed for mail orders of at most 30 days' supply.", 5),
        ("A patient may not clear the alert until the pharmacist has seen it.", 8),
    ],
)
def test_a_sentence_in_other_words_is_supported(sentence: str, unit: int) -> None:
    assert check(sentence, unit) == Checked(Support.SUPPORTED)


@pytest.mark.parametrize(
    ("sentence", "values"),
    [
        ("The Claims Desk sends the letter to the prescriber within 3 business days.", ("3 day",)),
        ("Take 20 mg of Lisinopril twice a day.", ("20 mg",)),
        ("Send the letter to Wegovy.", ("Wegovy",)),
        ("It opened on May 4.", ("5/4",)),
    ],
)
def test_a_value_that_nothing_given_holds_is_withheld(sentence: str, values: tuple[str, ...]) -> None:
    assert check(sentence, 1) == Checked(Support.UNSUPPORTED, "withheld", values, ("foreign_value",))


@pytest.mark.parametrize(
    "sentence",
    [
        "Take 10mg twice daily.",
        "1. Open from 8 AM to 17:00.",
        "Open since 3 May.",
        "75% of calls are short.",
        "Form CR-1 is kept for one day.",
        "The patient takes Tramadol and asks for 7 forms.",
    ],
)
def test_a_value_in_another_form_is_not_withheld(sentence: str) -> None:
    assert check(sentence, 1).detail != "withheld"


def test_a_value_of_another_unit_is_marked() -> None:
    wrong = check("The Claims Desk (ext. 4400) sends the letter to the prescriber.", 1)
    assert wrong == Checked(Support.UNSUPPORTED, "check", ("4400",), ("value_not_cited",))


def test_two_cited_units_carry_a_sentence_together() -> None:
    assert CHECKER.check("Pens are blue and caps are red.", [(2, 1), (2, 2)]).support is Support.SUPPORTED


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(" ".join(CITED_UNITS).split()), max_size=40).map(" ".join)
)
def test_any_text_is_supported_or_has_a_known_reason(text: str) -> None:
    found = check(text, 1, 2)
    assert (found.support is Support.SUPPORTED) == (found.detail is None) == (found.reasons == ())
    assert set(found.reasons) <= set(REASONS)
