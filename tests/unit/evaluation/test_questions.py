from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.evaluation.questions import draw, load_questions
from tests.unit.evaluation.results import question

ROOT = Path(__file__).parents[3]
GOOD = '{"qid": "a", "kind": "plain", "question": "How?", "documents": ["d"]}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "{nonsense\n", r"q\.jsonl:2: "),
        (
            GOOD + '{"qid": "b", "kind": "plain", "question": "How?"}\n',
            r"q\.jsonl:2: documents: Field required",
        ),
        (GOOD + '\n{"qid": "b", "kind": "odd", "question": "?", "documents": []}\n', r"q\.jsonl:3: kind: "),
        (GOOD + GOOD, "a qid occurs twice"),
        (GOOD.replace("}", ', "after": "z"}'), "a names z, which is not in the file"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load_questions(path)


def test_a_seed_always_draws_the_same() -> None:
    questions = [question(f"q{n}") for n in range(50)]
    assert draw(questions, count=5, seed="a") == draw(list(reversed(questions)), count=5, seed="a")
    assert draw(questions, count=5, seed="a") != draw(questions, count=5, seed="b")


@pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
def test_a_tenant_has_300_questions_100_of_them_unanswerable_and_gold_for_the_others(tenant: str) -> None:
    questions = load_questions(ROOT / "evaluation" / f"{tenant}.jsonl")
    assert len(questions) >= 300
    assert sum(not one.answerable for one in questions) >= 100
    assert [one.qid for one in questions if one.answerable and not (one.gold and one.answer_contains)] == []
    assert [one.qid for one in questions if one.kind == "condition" and not one.telltale] == []
    halves = {one.document: one.split for one in questions}
    assert all(one.split == halves[one.document] for one in questions)
