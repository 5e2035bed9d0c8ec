"""Which units of a document are quoted, and the Markdown that is made of them."""

from __future__ import annotations

import pytest

from assistant.answering.excerpts import shown_reply
from assistant.answering.quote import (
    WITHIN_OF_BEST,
    Headings,
    QuestionTerms,
    Quote,
    ScoredUnit,
    UnitScorer,
    blocks,
    choose,
)
from assistant.answering.retrieve import Weights, WeightsFile
from assistant.answering.understand import Vocabulary
from assistant.domain.documents import Span, StoredDocument, Unit, UnitKind
from assistant.text.language import language
from tests.fakes.answering import document


def said_to_the_patient(quote: Quote) -> str:
    return shown_reply((one.unit.text for one in quote.reply), url=None)


HEADINGS = Headings.of(reply=["What to tell the patient"], condition=["When this applies"])
WORDS = 120


def scored(stored: StoredDocument, **scores: float) -> list[ScoredUnit]:
    """Return the document's units; one has the score of the first of these words that it holds, else 0."""
    placed = [(unit, passage) for passage in stored.passages for unit in passage.units]
    return [
        ScoredUnit(
            unit,
            passage,
            next((score for word, score in scores.items() if word in unit.text), 0.0),
            {},
        )
        for unit, passage in placed
    ]


def quoted(content: str, *, max_words: int = WORDS, within: float = WITHIN_OF_BEST, **scores: float) -> Quote:
    stored = document(content=content)
    return choose(stored, scored(stored, **scores), headings=HEADINGS, max_words=max_words, within=within)


def texts(quote: Quote) -> list[str]:
    return [one.unit.text for one in quote.units]


def shown(quote: Quote) -> str:
    return "".join(before + one.unit.text for before, one in blocks(quote))


# Choosing

FOUR = "Alpha goes first. Bravo goes second. Charlie goes third. Delta goes last."


def test_the_best_units_are_quoted_in_document_order() -> None:
    assert texts(quoted(FOUR, Delta=9.0, Bravo=8.0)) == ["Bravo goes second.", "Delta goes last."]


def test_units_far_below_the_best_are_left_out() -> None:
    assert texts(quoted(FOUR, Delta=9.0, Bravo=9.0 - WITHIN_OF_BEST)) == [
        "Bravo goes second.",
        "Delta goes last.",
    ]
    assert texts(quoted(FOUR, Delta=9.0, Bravo=8.99 - WITHIN_OF_BEST)) == ["Delta goes last."]


def test_of_equal_units_the_first_is_taken() -> None:
    assert texts(quoted(FOUR, max_words=3, Alpha=5.0, Bravo=5.0)) == ["Alpha goes first."]


def test_units_are_taken_whole_until_the_words_are_used_up() -> None:
    quote = quoted(FOUR, max_words=6, Delta=9.0, Charlie=8.0, Bravo=7.0)
    assert texts(quote) == ["Charlie goes third.", "Delta goes last."]


def test_a_shorter_unit_takes_the_room_that_a_longer_one_leaves() -> None:
    content = "Alpha goes first of all of them every time. Bravo waits. Charlie goes third."
    assert texts(quoted(content, max_words=5, Charlie=9.0, Alpha=8.0, Bravo=7.0)) == [
        "Bravo waits.",
        "Charlie goes third.",
    ]


@pytest.mark.parametrize(("max_words", "units"), [(5, 1), (6, 2)])
def test_headings_count_as_words(max_words: int, units: int) -> None:
    content = "## Steps\n\nAlpha waits.\n\n## More\n\nBravo waits."
    assert len(quoted(content, max_words=max_words, Alpha=9.0, Bravo=8.0).units) == units


def test_a_unit_that_alone_is_over_the_words_is_quoted_whole() -> None:
    long = "Alpha " + "and so on " * 60 + "ends."
    quote = quoted(f"{long} Bravo waits.", max_words=20, Alpha=9.0, Bravo=8.0)
    assert texts(quote) == [long]


def test_a_document_of_one_sentence_is_quoted() -> None:
    quote = quoted("Alpha goes first.", Alpha=-2.0)
    assert texts(quote) == ["Alpha goes first."]
    assert (quote.best_score, quote.reply) == (-2.0, ())


CONDITIONED = (
    "## When this applies\n\nThe member is over 65.\n\n## Steps\n\n"
    + "Alpha goes first. "
    + "Bravo waits. " * 30
)


def test_the_condition_comes_first_whatever_its_score() -> None:
    quote = quoted(CONDITIONED, Alpha=9.0)
    assert texts(quote) == ["The member is over 65.", "Alpha goes first."]


def test_the_condition_is_never_cut() -> None:
    condition = "The member " + "is over 65 and " * 20 + "retired."
    content = CONDITIONED.replace("The member is over 65.", condition)
    assert texts(quoted(content, max_words=20, Alpha=9.0)) == [condition, "Alpha goes first."]


def test_a_condition_that_stands_below_the_steps_comes_first_too() -> None:
    content = "## Steps\n\nAlpha goes first.\n\n## When this applies\n\nThe member is over 65."
    assert texts(quoted(content, Alpha=9.0)) == ["The member is over 65.", "Alpha goes first."]


def test_the_heading_of_a_condition_is_compared_by_its_last_part_and_folded() -> None:
    content = "## Medicare\n\n### WHEN THIS APPLIES\n\nOver 65.\n\n## Steps\n\nAlpha goes first."
    assert texts(quoted(content, Alpha=9.0)) == ["Over 65.", "Alpha goes first."]


def test_words_for_the_patient_are_no_part_of_the_steps() -> None:
    content = '## Steps\n\nAlpha waits.\n\n## What to tell the patient\n\n"Alpha is ready. Come by."'
    quote = quoted(content, Alpha=9.0)
    assert texts(quote) == ["Alpha waits."]
    assert said_to_the_patient(quote) == "Alpha is ready. Come by."


def test_a_document_of_words_for_the_patient_alone_is_quoted() -> None:
    quote = quoted("## What to tell the patient\n\nAlpha is ready.", Alpha=9.0)
    assert texts(quote) == ["Alpha is ready."]
    assert said_to_the_patient(quote) == "Alpha is ready."


LIST = "Do it in this order:\n\n1. Alpha goes first.\n2. Bravo goes second.\n3. Charlie goes third."


def test_a_step_brings_the_sentence_that_introduces_its_list() -> None:
    assert texts(quoted(LIST, max_words=11, Bravo=9.0)) == ["Do it in this order:", "2. Bravo goes second."]


@pytest.mark.parametrize(
    ("max_words", "steps", "told"),
    [
        (120, "1 2 3 4 5 6", ""),
        (20, "2 3 4 5", "(not quoted: steps 1 and 6)\n\n"),
        (16, "2 3 5", "(not quoted: steps 1, 4 and 6)\n\n"),
        (12, "2 5", "(not quoted: steps 1, 3, 4 and 6)\n\n"),
    ],
)
def test_steps_that_are_passed_over_are_added_or_named(max_words: int, steps: str, told: str) -> None:
    names = ("Alpha", "Bravo", "Charlie", "Delta", "Echo", "Foxtrot")
    content = "\n".join(f"{at}. {name} waits, then goes." for at, name in enumerate(names, start=1))
    quote = quoted(content, max_words=max_words, within=1.0, Bravo=9.0, Echo=9.0)
    assert " ".join(text[0] for text in texts(quote)) == steps
    assert shown(quote) == told + "\n".join(texts(quote))


def test_steps_are_named_beside_their_heading() -> None:
    content = "## Steps\n\n1. Alpha goes.\n2. Bravo goes.\n\n## After\n\n1. Charlie goes."
    told = shown(quoted(content, max_words=4, within=1.0, Alpha=9.0))
    assert told == "**Steps** (not quoted: step 2)\n\n1. Alpha goes."


def test_a_sentence_that_introduces_a_list_brings_as_many_items_as_fit() -> None:
    assert texts(quoted(LIST, Do=9.0)) == LIST.replace("\n\n", "\n").split("\n")
    assert texts(quoted(LIST, max_words=10, Do=9.0)) == ["Do it in this order:", "1. Alpha goes first."]


def test_a_part_of_a_step_brings_its_step() -> None:
    content = "1. Alpha opens the box.\n   - Bravo takes the label.\n   - Charlie waits.\n2. Delta leaves."
    assert texts(quoted(content, within=0.0, max_words=11, Bravo=9.0)) == [
        "1. Alpha opens the box.",
        "- Bravo takes the label.",
    ]


def table(rows: int) -> str:
    lines = "\n".join(f"| Plan{n} | {n} days |" for n in range(rows))
    return f"Limits of filing.\n\n| Plan | File within |\n| --- | --- |\n{lines}\n"


def test_another_row_of_the_table_is_left_out() -> None:
    assert texts(quoted(table(4), Plan2=9.0, Plan=8.9)) == ["Plan: Plan2; File within: 2 days"]


def test_a_table_of_300_rows_gives_the_one_row() -> None:
    stored = document(content=table(300), passage_tokens=64)
    assert len(stored.passages) > 10
    units = scored(stored, Plan257=9.0, Plan=8.0)
    assert len([one for one in units if one.unit.kind is UnitKind.ROW]) == 300
    quote = choose(stored, units, headings=HEADINGS, max_words=WORDS)
    assert texts(quote) == ["Plan: Plan257; File within: 257 days"]
    assert quote.units[0].passage.ordinal > 5


def test_rows_of_two_tables_may_stand_side_by_side() -> None:
    content = f"## Old\n\n{table(2)}\n\n## New\n\n{table(2)}"
    rows = [one.unit for one in quoted(content, Plan1=9.0, Plan=7.0).units if one.unit.kind is UnitKind.ROW]
    assert [(row.heading, row.text[:11]) for row in rows] == [("Old", "Plan: Plan1"), ("New", "Plan: Plan1")]


def test_a_table_without_headers_has_rows_of_cells() -> None:
    content = "| | |\n| --- | --- |\n| Alpha | 2 days |\n| Bravo | 3 days |\n"
    quote = quoted(content, Bravo=9.0)
    assert len(quote.units) == 1
    assert "Bravo" in texts(quote)[0]
    assert "3 days" in texts(quote)[0]
    assert "Alpha" not in shown(quote)


# Markdown


def test_headings_stand_above_their_units_once() -> None:
    content = "## Steps\n\nAlpha waits. Bravo waits.\n\n### Exceptions\n\nCharlie waits."
    assert shown(quoted(content, Alpha=1.0)) == (
        "**Steps**\n\nAlpha waits. Bravo waits.\n\n**Steps \u203a Exceptions**\n\nCharlie waits."
    )


def test_units_are_quoted_verbatim() -> None:
    content = "Take 0.5\u20131 mg  of \u201cAlpha\u201d \u2264 3\u00d7 daily (i.e. 8 a.m.).\nThen *wait*."
    stored = document(content=content)
    quote = choose(stored, scored(stored, Alpha=1.0), headings=HEADINGS, max_words=WORDS)
    whole = stored.passages[0].text
    for one in quote.units:
        assert whole[one.unit.span.start : one.unit.span.end] == one.unit.text


def test_sentences_that_do_not_follow_each_other_are_paragraphs() -> None:
    assert shown(quoted(FOUR, Alpha=9.0, Bravo=8.0, Delta=7.0)) == (
        "Alpha goes first. Bravo goes second.\n\nDelta goes last."
    )


def test_steps_keep_their_numbers_and_items_their_marks() -> None:
    assert shown(quoted(LIST, Do=9.0)) == LIST
    content = "Take these:\n\n- Alpha\n- Bravo\n"
    assert shown(quoted(content, Take=9.0)) == "Take these:\n\n- Alpha\n- Bravo"


def test_a_row_becomes_a_list_item() -> None:
    assert shown(quoted(table(1), within=0.0, Plan0=9.0)) == "- Plan: Plan0; File within: 0 days"


def test_a_heading_holds_nothing_active() -> None:
    content = "## Steps &lt;img src=https://evil.example/x&gt; [a](https://evil.example/b)\n\nAlpha waits."
    assert "evil" not in shown(quoted(content, Alpha=9.0))
    assert "Steps" in shown(quoted(content, Alpha=9.0))


def test_a_heading_of_which_nothing_is_left_is_left_out() -> None:
    content = "## https://evil.example/b\n\nAlpha waits."
    assert shown(quoted(content, Alpha=9.0)) == "Alpha waits."


# Scoring


def scorer(**features: float) -> UnitScorer:
    weights = Weights(WeightsFile(kind="quoter", features=features, fitted_on="a test"), sha256="0")
    return UnitScorer(language("en"), weights, HEADINGS)


def asked(question: str) -> QuestionTerms:
    return QuestionTerms(Vocabulary(language("en"), glossary={}).terms(question), question)


def features(question: str, content: str, **cosines: float) -> list[dict[str, float]]:
    stored = document(content=content)
    scoring = scorer(overlap=1.0)
    found = scoring.score_again(
        scoring.score(asked(question), stored, passage_cosines={}),
        {int(n[1:]): cosine for n, cosine in cosines.items()},
    )
    return [dict(one.features) for one in found]


def test_a_unit_with_the_question_s_words_scores_above_one_without() -> None:
    stored = document(content="Parcels wait. Refills are payable on day 23.")
    low, high = scorer(overlap=1.0).score(asked("When are refills payable?"), stored, passage_cosines={})
    assert low.score == 0.0 < high.score


def test_a_word_that_is_all_over_the_document_tells_less() -> None:
    content = "Refills wait. Refills go. Refills of zolpidem stay."
    common, rare = features("refills", content), features("zolpidem", content)
    assert max(one["overlap"] for one in rare) > max(one["overlap"] for one in common)


@pytest.mark.parametrize(
    ("question", "content", "feature"),
    [
        ("How many refills?", "Three refills: 3.", "number"),
        ("How long do refills take?", "Two days.", "time"),
        ("Who signs refills?", "The Claims Desk signs.", "person"),
        ("How do I send refills?", "1. Send refills.", "step_asked"),
        ("Can she get refills?", "Only if it is due.", "condition_asked"),
        ("Which limit?", "| a | b |\n| --- | --- |\n| c | 4 |", "row_asked"),
    ],
)
def test_the_kind_of_answer_that_is_expected_counts(question: str, content: str, feature: str) -> None:
    assert features(question, content)[0][feature] == 1.0
    assert features("refills", content)[0][feature] == 0.0


def test_units_of_condition_and_reply_sections_are_known() -> None:
    content = "## When this applies\n\nOver 65.\n\n## What to tell the patient\n\nCome by."
    condition, reply = features("refills", content)
    assert (condition["is_condition"], condition["is_reply"]) == (1.0, 0.0)
    assert (reply["is_condition"], reply["is_reply"]) == (0.0, 1.0)


def test_a_unit_s_own_cosine_counts_relative_to_the_best_one() -> None:
    found = features("refills", "Alpha. Bravo. Charlie.", u0=0.5, u2=0.9)
    assert [one["unit_cosine"] for one in found] == pytest.approx([-0.4, -0.4, 0.0])
    assert "unit_cosine" not in features("refills", "Alpha.")[0]


def test_of_a_question_that_only_names_the_document_the_first_steps_lead() -> None:
    content = "Refills wait.\n\n1. Phone.\n2. Sign.\n3. Send parcels."
    stored = document(content=content, title="Refills of zolpidem")

    def leading(question: str) -> list[float]:
        return [
            one.features["leading"]
            for one in scorer(leading=1.0).score(asked(question), stored, passage_cosines={})
        ]

    assert leading("Zolpidem refills, what now?") == pytest.approx([0.0, 1.0, 2 / 3, 1 / 3])
    assert leading("Who sends parcels of zolpidem refills?") == [0.0] * 4


def test_a_question_without_content_terms_scores_every_unit() -> None:
    assert [one["overlap"] for one in features("And then what?", FOUR)] == [0.0] * 4


def test_a_document_without_units_has_no_scores() -> None:
    stored = document()
    bare = StoredDocument(stored.card, ())
    assert scorer(overlap=1.0).score(asked("refills"), bare, passage_cosines={}) == []


def test_a_unit_without_words_is_scored_like_any_other() -> None:
    empty = Unit(0, UnitKind.SENTENCE, "", Span(0, 0), heading="")
    stored = document()
    [passage] = stored.passages
    one = ScoredUnit(empty, passage, 1.0, {})
    quote = choose(stored, [one], headings=HEADINGS, max_words=WORDS)
    assert shown(quote) == ""
