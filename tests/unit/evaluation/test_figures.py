"""Figures by name: what the committed rows say, and what misses its bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cli.figures import measure_figures
from assistant.cli.terminal import GlobalOptions
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation.figures import Figure, figure_named, held_against, read_figures
from assistant.evaluation.measures import MEASURES, Estimate, Judged, figures
from assistant.evaluation.trials import calm_messages

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "evaluation"
SHOP = read_figures(FOLDER)["shop"]


def estimate(value: float, low: float = 0.0) -> Estimate:
    return Estimate(value=value, low=low, high=1.0, questions=100)


def figure(**fields: object) -> Figure:
    base = {"title": "t", "run": "live", "tenants": ("a",), "questions": ("q.jsonl",)}
    return Figure.model_validate({**base, **fields})


@pytest.mark.parametrize("name", read_figures(FOLDER))
def test_a_committed_figure_names_files_that_exist_and_measures_that_there_are(name: str) -> None:
    found = read_figures(FOLDER)[name]
    for tenant in found.tenants:
        assert all(path.is_file() for path in found.paths(FOLDER, tenant=tenant))
        assert found.recording is None or (FOLDER / found.recording.format(tenant=tenant)).is_file()
    if found.run == "answers":
        known = {measure.name for measure in MEASURES}
        assert known >= {*found.measures, *found.least, *found.most}
        assert found.measures
    assert found.blind is not name.endswith("-tuning")


def test_the_bounds_of_the_shop_are_those_of_its_own_file() -> None:
    assert SHOP.least["right source first"] == 0.85
    assert "gain over keywords" in SHOP.least


def test_a_share_counts_by_its_value_and_a_gain_by_its_lower_end() -> None:
    asked = figure(least={"share": 0.85, "gain over it": 0.1}, most={"false": 0.02})

    def missed(share: float, gain_low: float, false: float) -> list[str]:
        found = {
            "share": estimate(share), "gain over it": estimate(0.5, gain_low), "false": estimate(false),
        }  # fmt: skip
        return [row.measure for row in held_against(asked, found) if not row.is_met]

    assert missed(0.85, 0.1, 0.02) == []
    assert missed(0.84, 0.09, 0.03) == ["share", "gain over it", "false"]


def test_a_measure_without_questions_is_missed_where_it_is_asked() -> None:
    [row] = held_against(figure(least={"share": 0.5}), {})
    assert (row.estimate, row.is_met) == (None, False)
    [shown] = held_against(figure(measures=["share"]), {"share": estimate(0.1)})
    assert shown.is_met


def test_a_measure_has_one_bound() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        held_against(figure(least={"share": 0.5}, most={"share": 0.5}), {})


def test_figures_are_means_with_intervals_by_cluster() -> None:
    judged = [
        Judged("1", "k2", {"first": 1.0, "gain": 0.5}),
        Judged("2", "k2", {"first": 1.0}),
        Judged("3", "k3", {"first": 0.0}),
    ]
    found = figures(judged)
    assert found["first"].value == pytest.approx(2 / 3, abs=1e-4)
    assert (found["first"].low, found["first"].high) == (0.0, 1.0)
    assert (found["gain"].value, found["gain"].questions) == (0.5, 1)


def test_an_unknown_figure_is_an_error_that_lists_all() -> None:
    with pytest.raises(NotFoundError, match=r"no figure speed.*red-flags"):
        figure_named(read_figures(FOLDER), "speed")


def test_misses_of_a_blind_figure_are_not_shown(tmp_path: Path) -> None:
    options = GlobalOptions(ROOT / "tenants", tmp_path, None, json=False)
    with pytest.raises(ConfigurationError, match=r"^shop: --show would use up questions"):
        measure_figures(options, ["shop-tuning", "shop"], show=True)


def test_calm_messages_are_of_one_half_and_short_ones_apart() -> None:
    paths = [FOLDER / name for name in ("pharmacy.jsonl", "clinic.jsonl", "short/pharmacy.jsonl")]
    held_out, tuning = (calm_messages(paths, half=half) for half in ("held_out", "tuning"))
    assert len(held_out["ordinary questions"]) == 300
    assert not set(held_out["ordinary questions"]) & set(tuning["ordinary questions"])
    assert 0 < len(held_out["short messages"]) <= 150
