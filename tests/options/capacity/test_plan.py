"""Timings of a server and the plan made from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assistant.cli.aws.plan import (
    Demand,
    Plan,
    Question,
    default_lengths,
    estimated_timings,
    make_plan,
    simulate,
)
from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import LlmManifest, instance_named

ROOT = Path(__file__).parents[3]
MANIFEST = LlmManifest.read(ROOT / "model_artifacts" / "llm" / "qwen3-8b-gpu")
TIMINGS = estimated_timings(MANIFEST, instance_named("ml.g6e.2xlarge"))
QUESTION = Question(
    demand=Demand(2.0, default_lengths(8192), busy_hours=12),
    timings=TIMINGS,
    first_token_s=1.0,
    zones=3,
    usd_per_hour=2.0,
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(QUESTION)


def in_time(instances: int) -> bool:
    outcome = simulate(QUESTION.demand.load(1.0), TIMINGS, instances=instances)
    return outcome.first_token_s(95) <= QUESTION.first_token_s


def test_a_plan_is_the_least_that_answers_in_time_while_a_zone_is_lost(
    plan: Plan,
) -> None:
    as_asked = next(each for each in plan.scenarios if each.what == "100% of the load")
    assert as_asked.needed is not None
    assert in_time(as_asked.needed)
    assert not in_time(as_asked.needed - 1)
    assert plan.instances - -(-plan.instances // 3) == as_asked.needed


def test_costs_follow_from_instances_hours_and_questions(plan: Plan) -> None:
    assert plan.usd_a_month == plan.instances * 2.0 * 730
    asked = 2.0 * 3600 * 730 * (12 * 1.0 + 12 * 0.1) / 24
    assert plan.usd_a_question == pytest.approx(plan.usd_a_month / asked)
    assert plan.usd_a_month_by_hour < plan.usd_a_month


def test_twice_the_load_needs_more(plan: Plan) -> None:
    rows = {each.what: each for each in plan.scenarios}

    as_asked = rows["100% of the load"].needed or 0
    assert (rows["200% of the load"].needed or 0) > as_asked


def test_a_time_that_no_number_of_instances_keeps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"first token within 1 ms.*reads_tokens"):
        make_plan(
            replace(QUESTION, first_token_s=0.001, demand=replace(QUESTION.demand, questions_per_s=0.1))
        )


def test_an_estimate_reads_the_weights_once_a_step_and_holds_what_memory_is_left() -> None:
    assert TIMINGS.write_step_s[0] == pytest.approx(MANIFEST.weights_bytes / (0.6 * 864e9))
    assert TIMINGS.kv_tokens == int((0.9 * 48e9 - MANIFEST.weights_bytes) / 147_456)
    assert "estimate" in TIMINGS.source


def test_steps_of_more_answers_than_were_measured_go_on_in_a_line() -> None:
    timings = TIMINGS.model_copy(update={"slots": 4, "write_step_s": (0.1, 0.15)})

    assert timings.step_s() == pytest.approx([0.0, 0.1, 0.15, 0.2, 0.25])
