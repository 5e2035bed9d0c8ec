from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from assistant.cli.evaluate import measure_figures, tenant_figure
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation.measures import (
    JUDGED,
    TITLES,
    Estimate,
    Figure,
    Judged,
    SeriesRun,
    SeriesValue,
    TenantRun,
    faults,
    figure_named,
    last_of_series,
    read_figures,
)
from assistant.terminal.terminal import GlobalOptions
from tests.fakes.tenant_files import checkout_tenants
from tests.unit.evaluation.results import question, result, run, unanswerable

ROOT = Path(__file__).parents[3]
MONDAY = date(2026, 1, 5)


def last(**measures: tuple[float, float]) -> SeriesRun:
    return SeriesRun(
        made_on=MONDAY,
        tenant="pharmacy",
        questions_sha256="0" * 64,
        measures={name: SeriesValue(value=v, half_width=w) for name, (v, w) in measures.items()},
    )


def half_right() -> list[Judged]:
    """Return twenty questions of the held-out half, each of a document of its own."""
    asked = [question(f"q{n}", documents=(f"doc-{n}",)) for n in range(100)]
    held_out = [one for one in asked if one.split == JUDGED][:20]
    return [result(one, right=float(at % 2 == 0)) for at, one in enumerate(held_out)]


def missed(now: TenantRun, before: SeriesRun) -> list[str]:
    return [row.measure for row in tenant_figure(now, before).rows(now.held_out) if not row.is_met]


def test_a_fall_by_more_than_the_noise_is_missed() -> None:
    now = run(*half_right())
    [row] = [row for row in tenant_figure(now, last(right=(0.9, 0.1))).rows(now.held_out) if row.asked]
    assert (row.measure, row.asked, row.is_met) == ("right", "≥ 0.80", False)
    assert missed(now, last(right=(0.55, 0.1))) == []
    assert missed(now, last(right=(0.6, 0.1))) == []
    assert missed(now, last(right=(0.1, 0.01))) == []


def test_of_a_measure_where_less_is_better_a_rise_is_the_fall() -> None:
    now = run(*(result(question(f"q{n}"), near=1.0, right=0.0) for n in range(20)))
    assert missed(now, last(near=(0.05, 0.1))) == ["near"]


def test_figures_for_comparison_cannot_fall() -> None:
    refused = run(*(result(unanswerable(f"u{n}"), true_refused=0.0) for n in range(9)))
    assert missed(refused, last(true_refused=(0.9, 0.01))) == []
    assert missed(run(*half_right()), last(retired=(0.9, 0.01))) == []


def test_other_questions_than_those_of_the_last_run_are_named() -> None:
    now = run(result())
    assert tenant_figure(now, None).title == "1 questions"
    assert tenant_figure(now, last()).title == "1 questions, beside main on 2026-01-05"
    other = last().model_copy(update={"questions_sha256": "1" * 64})
    assert tenant_figure(now, other).title.endswith(": the questions changed since")


def test_the_last_line_of_each_tenant_counts_and_leaves_room_for_one_question(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    assert last_of_series(path) == {}
    runs = [(run(result(), tenant="clinic"), 0), (run(result()), 0), (run(*half_right()), 1)]
    lines = [SeriesRun.of(each, made_on=MONDAY + timedelta(days=days)) for each, days in runs]
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    kept = last_of_series(path)
    assert {name: line.made_on.day for name, line in kept.items()} == {"clinic": 5, "pharmacy": 6}
    assert kept["pharmacy"].measures["right"].value == 0.5
    assert kept["pharmacy"].measures["refused"].half_width == 0.05
    assert missed(run(*half_right()), kept["pharmacy"]) == []


def test_the_printed_figures_are_those_of_the_last_run_on_main() -> None:
    """A series that is older than what docs/benchmarks.md prints would let a figure fall unseen."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = r"`make evaluate`, (\S+)\).*?quoted section right[^|]*\|[^|]*\| ([\d.]+) / ([\d.]+) % \|"
    printed = re.search(rows, page, re.DOTALL)
    assert printed is not None
    tenants = last_of_series(ROOT / "evaluation" / "series.jsonl")
    kept = [tenants[name] for name in ("pharmacy", "clinic")]
    assert [str(line.made_on) for line in kept] == [printed[1]] * 2
    assert [f"{100 * line.measures['right'].value:.1f}" for line in kept] == [printed[2], printed[3]]


def test_what_no_figure_may_rest_on_is_named() -> None:
    assert faults([result()]) == []
    late = replace(result(), degraded=("reranking",))
    [degraded] = faults([late])
    assert degraded.startswith("DEGRADED  1 questions, q1 first: reranking.")
    [quote] = faults([result(quote_differs=1.0)])
    assert quote.startswith("QUOTE  q1: quote differs from the stored text.")


def estimate(value: float, low: float = 0.0) -> Estimate:
    return Estimate(value=value, low=low, high=1.0, questions=100)


def figure(**fields: object) -> Figure:
    base = {"title": "t", "run": "live", "tenants": ("a",), "questions": ("q.jsonl",)}
    return Figure.model_validate({**base, **fields})


@pytest.mark.parametrize("name", read_figures(ROOT / "evaluation"))
def test_a_committed_figure_names_files_that_exist_and_measures_that_there_are(name: str) -> None:
    folder = ROOT / "evaluation"
    found = read_figures(folder)[name]
    for tenant in found.tenants:
        assert all(path.is_file() for path in found.paths(folder, tenant=tenant))
        assert found.recording is None or (folder / found.recording.format(tenant=tenant)).is_file()
    if found.run == "answers":
        assert TITLES.keys() >= {*found.measures, *found.least, *found.most}
        assert found.measures
    assert found.blind is not name.endswith("-tuning")


def test_a_share_counts_by_its_value_and_a_gain_by_its_low_end() -> None:
    asked = figure(
        least={"share": 0.85, "gain over it": 0.1},
        most={"false": 0.02, "messy_loss": 0.0},
        by_low_end=("gain over it", "messy_loss"),
    )

    def missed(share: float, gain_low: float, false: float, loss_low: float) -> list[str]:
        found = {"share": estimate(share), "gain over it": estimate(0.5, gain_low)}
        found |= {"false": estimate(false), "messy_loss": estimate(0.5, loss_low)}
        return [row.measure for row in asked.rows(found) if not row.is_met]

    assert missed(0.85, 0.1, 0.02, 0.0) == []
    assert missed(0.84, 0.09, 0.03, 0.01) == ["share", "gain over it", "false", "messy_loss"]


def test_a_measure_without_questions_is_missed_where_it_is_asked() -> None:
    [row] = figure(least={"share": 0.5}).rows({})
    assert row.cells == ("share", "-", "", "0", "≥ 0.50", "missed")
    [shown] = figure(measures=["share"]).rows({"share": estimate(0.1)})
    assert shown.cells == ("share", "0.100", "0.000 to 1.000", "100", "", "")


def test_an_unknown_figure_is_an_error_that_lists_all() -> None:
    with pytest.raises(NotFoundError, match=r"no figure speed.*red-flags"):
        figure_named(read_figures(ROOT / "evaluation"), "speed")


def test_misses_of_a_blind_figure_are_not_shown(tmp_path: Path) -> None:
    options = GlobalOptions(checkout_tenants(tmp_path / "checkout"), tmp_path, None, json=False)
    with pytest.raises(ConfigurationError, match=r"^shop: --show would use up questions"):
        measure_figures(options, ["shop-tuning", "shop"], show=True)
