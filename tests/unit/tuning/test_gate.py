"""The gate: protected questions ranked again, and what may not pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from assistant.answering.rank import INDEX_FEATURES, Weights, WeightsFile, rank, shipped_weights
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.questions import Kind, split_of
from assistant.tuning.gate import (
    LEAST_QUESTIONS,
    LOOKS,
    SEALED,
    Gate,
    ObservedCandidate,
    ProtectedQuestion,
    ProtectedSet,
    Replay,
    check_artifact,
    lower_bound,
    read_protected,
)
from assistant.tuning.ranking import artifact_hash

SHIPPED = shipped_weights("ranker")


def learned(**change: float) -> Weights:
    features = {name: SHIPPED.features[name] + change.get(name, 0.0) for name in INDEX_FEATURES}
    return Weights(WeightsFile(kind="ranker", features=features, fitted_on="a test"), sha256="1" * 64)


def protected_set(
    count: int = 300, *, kind: Kind = "plain", by_title: bool = False, kinds: Sequence[Kind] = ()
) -> ProtectedSet:
    """Questions whose right document the shipped ranker puts first, or the one with the nearest title."""
    random = np.random.default_rng(3)
    questions: list[ProtectedQuestion] = []
    for number in range(count):
        found: dict[str, dict[str, float]] = {
            f"d{one}": dict(zip(INDEX_FEATURES, map(float, random.normal(size=6)), strict=True))
            for one in range(12)
        }
        ranked = rank(found, weights=SHIPPED)
        right = (
            max(found, key=lambda name: found[name]["title_cosine"]) if by_title else ranked[0].document_id
        )
        questions.append(
            ProtectedQuestion(
                qid=f"q{number}",
                kind=kinds[number % len(kinds)] if kinds else kind,
                document=f"document-{number}",
                right=(right,),
                candidates=tuple(
                    ObservedCandidate(
                        document_id=one.document_id, score=one.score, features=dict(one.features)
                    )
                    for one in ranked
                ),
            )
        )
    return ProtectedSet(
        tenant="pharmacy",
        questions_sha256="2" * 64,
        index_version="1",
        ranker=SHIPPED.sha256,
        left_out=0,
        questions=tuple(questions),
    )


def gate(protected: ProtectedSet) -> Gate:
    return Gate(protected, observed_under=SHIPPED, in_service=SHIPPED)


def test_ranking_again_by_other_weights_is_what_those_weights_rank() -> None:
    protected = protected_set(40)
    other = learned(title_cosine=0.9, text_score=-0.5)
    expected = []
    for question in protected.questions:
        found = {one.document_id: one.features for one in question.candidates}
        expected.append(float(rank(found, weights=other)[0].document_id in question.right))
    hits = Replay(protected.questions, observed_under=SHIPPED).hits(other)[0]
    assert hits.tolist() == expected
    assert 0.0 < hits.mean() < 1.0


def test_an_offset_lifts_its_document() -> None:
    protected = protected_set(40)
    lifted = Weights(
        WeightsFile(kind="ranker", features=SHIPPED.features, documents={"d0": 99.0}, fitted_on="a test"),
        sha256="1" * 64,
    )
    hits = Replay(protected.questions, observed_under=SHIPPED).hits(lifted)[0]
    assert hits.tolist() == [float(question.right == ("d0",)) for question in protected.questions]


def test_weights_that_lose_nothing_pass() -> None:
    assert all(check.passed for check in gate(protected_set()).checks(SEALED, learned()))


def test_weights_that_gain_pass() -> None:
    checks = gate(protected_set(by_title=True)).checks(SEALED, learned(title_cosine=0.6))
    assert all(check.passed and check.after > check.before for check in checks)


def test_weights_that_lose_are_refused_with_what_and_by_how_much() -> None:
    [first, *_] = gate(protected_set()).checks(SEALED, learned(title_cosine=0.6))
    assert not first.passed
    assert "right document first, all: 100.0% before" in first.said
    assert "below the bound of -2.0" in first.said


def test_a_group_that_loses_is_refused_although_all_together_gain() -> None:
    gains, loses = protected_set(600, by_title=True), protected_set(80, kind="messy")
    renamed = [
        one.model_copy(update={"qid": f"m{one.qid}", "document": f"m{one.document}"})
        for one in loses.questions
    ]
    both = gains.model_copy(update={"questions": (*gains.questions, *renamed)})
    failed = [check for check in gate(both).checks(SEALED, learned(title_cosine=0.6)) if not check.passed]
    assert {check.name.rpartition(", ")[2] for check in failed} == {"messy"}


def test_only_the_named_half_is_asked() -> None:
    protected = protected_set(200)
    halves = {split: len(protected.half(split)) for split in ("tuning", "held_out")}
    assert sum(halves.values()) == 200
    assert gate(protected).checks("tuning", learned())[0].questions == halves["tuning"]
    assert gate(protected).checks(SEALED, learned())[0].questions == halves["held_out"]
    assert all(split_of(one.document) == "held_out" for one in protected.half("held_out"))


def test_a_loss_on_the_open_half_is_no_release() -> None:
    assert not gate(protected_set()).checks("tuning", learned(title_cosine=0.6))[0].passed


def test_few_questions_and_spent_looks_keep_the_sealed_half_closed() -> None:
    few, enough = gate(protected_set(LEAST_QUESTIONS)), gate(protected_set())
    assert "questions; 60 are needed" in (few.refusal(looks=0) or "")
    assert enough.refusal(looks=LOOKS - 1) is None
    assert "opened 20 times" in (enough.refusal(looks=LOOKS) or "")


def test_the_bound_is_lower_where_questions_of_one_document_fall_together() -> None:
    differences = np.repeat([0.0, 0.0, 0.0, -1.0] * 10, 5)
    alone = [f"d{n}" for n in range(200)]
    together = [f"d{n // 5}" for n in range(200)]
    bounds = [lower_bound(differences, clusters, level=0.0025) for clusters in (alone, together)]
    assert bounds[1] < bounds[0] < -0.25


def artifact(**changes: object) -> bytes:
    content = {
        "schema_version": 1,
        "kind": "ranker",
        "features": dict(SHIPPED.features),
        "bias": 0.0,
        "documents": {},
        "fitted_on": "a test",
    }
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (artifact(features=dict(SHIPPED.features) | {"colour": 1.0}), r"unknown features \['colour'\]"),
        (artifact(features={"title_cosine": 1.0}), r"missing \['passage_cosine'"),
        (artifact(kind="gate"), 'kind is "gate"'),
        (b"{}", "not a weights file"),
    ],
)
def test_an_artifact_that_does_not_fit_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_artifact(raw, expected_hash=artifact_hash(raw))


def test_an_artifact_with_another_hash_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="do not edit an artifact"):
        check_artifact(artifact(), expected_hash="0" * 64)


def test_protected_questions_are_read_of_the_tenant_alone(tmp_path: Path) -> None:
    path = tmp_path / "protected.json"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_protected(path, tenant="pharmacy")
    path.write_text(protected_set(3).model_dump_json())
    assert len(read_protected(path, tenant="pharmacy").questions) == 3
    with pytest.raises(ConfigurationError, match="of the tenant pharmacy, not of clinic"):
        read_protected(path, tenant="clinic")
