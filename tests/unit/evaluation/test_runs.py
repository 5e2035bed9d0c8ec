from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation.measures import MEASURES, Estimate
from assistant.evaluation.questions import QuestionResult
from assistant.evaluation.runs import (
    JUDGED,
    BaselineValue,
    Run,
    TenantBaseline,
    accept,
    bound_of,
    changed,
    falls,
    read_asked,
    read_baseline,
    read_run,
    run_path,
)
from tests.unit.evaluation.results import question, result, run

ROOT = Path(__file__).parents[3]


def baseline(**measures: tuple[float, float]) -> TenantBaseline:
    return TenantBaseline(
        questions_sha256="0" * 64,
        measures={name: BaselineValue(value=v, half_width=w) for name, (v, w) in measures.items()},
    )


def half_right() -> list[QuestionResult]:
    """Return twenty questions of the held-out half, each of a document of its own."""
    asked = [question(f"q{n}", documents=(f"doc-{n}",)) for n in range(100)]
    held_out = [one for one in asked if one.split == JUDGED][:20]
    return [result(one, right=at % 2 == 0) for at, one in enumerate(held_out)]


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, questions=10)


def test_a_kept_run_is_read_again(tmp_path: Path) -> None:
    kept = Run(name="monday", made_at=datetime(2026, 1, 1, tzinfo=UTC), tenants=(run(result()),))
    run_path(tmp_path, "monday").write_text(kept.model_dump_json())
    assert read_run(tmp_path, "monday") == kept


def test_an_unknown_run_is_an_error_that_lists_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="none is kept yet"):
        read_run(tmp_path, "monday")
    run_path(tmp_path, "tuesday").write_text("{}")
    with pytest.raises(NotFoundError, match="there are tuesday"):
        read_run(tmp_path, "monday")
    with pytest.raises(ConfigurationError, match="not an evaluation of this version"):
        read_run(tmp_path, "tuesday")


def test_a_fall_by_more_than_the_noise_is_found() -> None:
    now = run(*half_right())
    assert [fall.measure.name for fall in falls(now, baseline(right=(0.9, 0.1)))] == ["right"]
    assert falls(now, baseline(right=(0.55, 0.1))) == []
    assert falls(now, baseline(right=(0.1, 0.01))) == []


def test_of_a_measure_where_less_is_better_a_rise_is_the_fall() -> None:
    now = run(*(result(question(f"q{n}"), outcome="refused", right=False) for n in range(20)))
    assert [fall.measure.name for fall in falls(now, baseline(refused=(0.05, 0.1)))] == ["refused"]


def test_figures_for_comparison_cannot_fall() -> None:
    assert falls(run(*half_right()), baseline(chance=(0.9, 0.01))) == []


def test_a_draw_has_noise_of_its_own() -> None:
    was = baseline(right=(0.7, 0.1))
    assert falls(run(*half_right()), was) != []
    assert falls(run(*half_right(), drawn="seed"), was) == []


def test_accepting_keeps_other_tenants_and_leaves_room_for_one_question(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    accept(path, [run(result(), tenant="clinic")])
    accept(path, [run(*half_right())])
    kept = read_baseline(path)
    assert kept is not None
    assert list(kept.tenants) == ["clinic", "pharmacy"]
    assert kept.tenants["pharmacy"].measures["right"].value == 0.5
    assert kept.tenants["pharmacy"].measures["refused"].half_width == 0.05
    assert falls(run(*half_right()), kept.tenants["pharmacy"]) == []


def test_a_broken_baseline_is_named(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text('{"tenants": 1}')
    with pytest.raises(ConfigurationError, match=r"baseline\.json is not a baseline"):
        read_baseline(path)


def test_a_bound_holds_at_its_value() -> None:
    right, refused = (next(m for m in MEASURES if m.name == name) for name in ("right", "refused"))
    asked = {"right": 0.6, "refused": 0.05}
    at, over = estimate(0.6, 0.5, 0.7), estimate(0.06, 0.0, 0.1)
    met, missed = bound_of(right, at, asked), bound_of(refused, over, asked)
    assert met is not None
    assert met.is_met
    assert missed is not None
    assert not missed.is_met
    assert bound_of(right, at, {}) is None


def test_a_gain_must_lie_above_zero_with_its_whole_interval() -> None:
    gain = next(m for m in MEASURES if m.name == "gain")
    for low, is_met in ((0.01, True), (0.0, False), (-0.1, False)):
        bound = bound_of(gain, estimate(0.1, low, 0.2), {"gain": 0.0})
        assert bound is not None
        assert bound.is_met is is_met


def test_the_committed_bounds_name_measures(tmp_path: Path) -> None:
    assert read_asked(ROOT / "evaluation" / "asked.toml", "pharmacy")["right"] == 0.50
    assert "right" not in read_asked(ROOT / "evaluation" / "asked.toml", "bakery")
    assert read_asked(tmp_path / "none.toml", "pharmacy") == {}
    (tmp_path / "asked.toml").write_text("[every]\nspeed = 1\n")
    with pytest.raises(ConfigurationError, match=r"\[every\] speed is not a measure"):
        read_asked(tmp_path / "asked.toml", "pharmacy")


def test_questions_that_changed_are_listed() -> None:
    before = run(result(question("a")), result(question("b")), result(question("gone")))
    after = run(result(question("a"), right=False), result(question("b")), result(question("new")))
    assert [new.qid for _, new in changed(before, after)] == ["a"]
