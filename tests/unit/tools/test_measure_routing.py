"""Which figures of routing fall short of what is asked."""

from __future__ import annotations

import tomllib
from pathlib import Path

from assistant.evaluation.routing import Figure, figures
from tests.unit.evaluation.test_routing import RESULT
from tools.measure_routing import missed

ASKED = {"right source first": 0.85, "gain over keywords": 0.1}


def figure(name: str, value: float, low: float) -> Figure:
    return Figure(name, value, low, 1.0, 100)


def test_a_share_counts_by_its_value_and_a_gain_by_its_lower_end() -> None:
    enough = [figure("right source first", 0.85, 0.7), figure("gain over keywords", 0.2, 0.1)]
    assert missed(enough, ASKED) == []
    short = [figure("right source first", 0.84, 0.8), figure("gain over keywords", 0.2, 0.09)]
    assert missed(short, ASKED) == [
        "right source first: 84.0, asked 85.0",
        "gain over keywords: 9.0, asked 10.0",
    ]


def test_a_figure_that_nothing_measures_is_missed() -> None:
    assert missed([], {"right source first": 0.85}) == ["right source first: no question measures it"]


def test_what_is_asked_of_the_shop_has_the_names_of_figures() -> None:
    asked = tomllib.loads(Path("evaluation/shop/asked.toml").read_text(encoding="utf-8"))
    assert missed(figures([RESULT]), asked) == []
