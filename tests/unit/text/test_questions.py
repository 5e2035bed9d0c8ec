"""In what two questions differ."""

from __future__ import annotations

import pytest

from assistant.text.language import fold, language, word_file
from assistant.text.questions import Difference, QuestionReader


def compare(approved: str, asked: str, **meanings: str) -> Difference:
    reader = QuestionReader(language("en"), meanings=lambda question: meanings.get(question.split()[0], ""))
    return reader.compare(reader.read(approved), reader.read(asked))


@pytest.mark.parametrize(
    ("approved", "asked", "why"),
    [
        ("Claim came back 79, what now?", "Claim came back 76, what now?", "number"),
        ("Is form AE-1 needed?", "Is form DE-1 needed?", "code"),
        ("Her meter broke after two years.", "Her meter broke after six years.", "number"),
        ("Is a child allowed to sign?", "Is an adult allowed to sign?", "opposite"),
        ("Can she pick up the box?", "Can we mail the box?", "opposite"),
        ("The plan denied it, what now?", "The plan approved it, what now?", "opposite"),
        ("Is it a controlled drug?", "Is it a noncontrolled drug?", "opposite"),
        ("How many strips if she is not on insulin?", "How many strips if she is on insulin?", "negation"),
        ("She wants brand and not generic.", "She wants generic and not brand.", "negation"),
    ],
)
def test_what_must_agree_opposes_two_questions(approved: str, asked: str, why: str) -> None:
    assert compare(approved, asked).opposed == why
    assert compare(asked, approved).opposed == why


@pytest.mark.parametrize(
    ("approved", "asked"),
    [
        ("What is the fee for a copy?", "How much do we charge for a copy?"),
        ("May she throw needles in the trash?", "Can she toss needles in the garbage?"),
        ("The limit is 1,000 mg.", "Is 1000mg the limit?"),
        ("He has no claim number yet.", "He is without a claim number."),
        ("Two years", "2 years"),
    ],
)
def test_other_words_for_the_same_oppose_nothing(approved: str, asked: str) -> None:
    assert compare(approved, asked).opposed is None


def test_the_same_question_differs_in_nothing() -> None:
    question = "May a child pick up a controlled prescription?"
    assert compare(question, question) == Difference(
        opposed=None, missing=0.0, added=0.0, conditions=0, negations=0, asks=0, unsaid=False, frame=0.0
    )


def test_a_word_that_only_one_has_counts_by_its_weight() -> None:
    difference = compare("Can she mail the needles?", "Can she mail the needles to Canada?")
    assert difference.missing == 0.0
    assert 0.0 < difference.added < 1.0


def test_a_number_may_be_left_out_but_no_other_said() -> None:
    left_out = compare("Claim came back 79, what now?", "Claim came back, what now?")
    assert (left_out.opposed, left_out.unsaid) == (None, True)
    assert compare("Claim came back, what now?", "Claim came back 79, what now?").opposed == "number"


def test_what_the_answer_tells_is_not_added() -> None:
    reader = QuestionReader(language("en"), meanings=lambda _: "")
    approved, asked = (reader.read(text) for text in ("What must she bring?", "Must she bring a passport?"))
    told = reader.concepts("Bring a passport or a driving licence.")
    assert reader.compare(approved, asked).added > 0
    assert reader.compare(approved, asked, told=told).added == 0


@pytest.mark.parametrize(
    "asked", ["How long is she on it?", "Who puts her on it?", "What is the fee for it?", "Which form is it?"]
)
def test_another_kind_of_question_is_counted(asked: str) -> None:
    assert compare("May she be on it?", asked).asks == 1


def test_a_condition_that_only_one_states_is_counted() -> None:
    assert compare("May she take it?", "May she take it while pregnant?").conditions == 1


def test_what_the_glossary_means_is_not_added() -> None:
    asked = "Hctz refill?"
    assert compare("Diuretic refill?", asked).added > 0
    reader = QuestionReader(language("en"), meanings=lambda text: "hctz" if "Diuretic" in text else "")
    assert reader.compare(reader.read("Diuretic refill?"), reader.read(asked)).added == 0.0


def test_the_same_sentence_with_another_word_has_a_high_frame() -> None:
    same = compare("Can we mail her the pens?", "Can we mail her the bills?").frame
    other = compare("Can we mail her the pens?", "Is it possible for the pens to go by post?").frame
    assert same > 0.7 > other


def test_each_word_of_the_lists_of_questions_stands_in_one_group() -> None:
    stem = language("en").stem
    names = [name.strip() for line in word_file("en_alike") for name in line.split(",")]
    keys = [name if " " in name else stem(name) for name in names]
    assert sorted({key for key in keys if keys.count(key) > 1}) == []
    assert [name for name in names if name != fold(name)] == []


def test_each_contrast_has_two_sides_or_is_a_condition() -> None:
    lines = word_file("en_contrasts")
    assert [line for line in lines if "|" not in line and not line.startswith("!")] == []
