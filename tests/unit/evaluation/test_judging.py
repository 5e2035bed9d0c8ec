"""Answers of small hand-made tenants, judged by ``assistant evaluate``; figures of runs, and questions."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from assistant.answer.offers import QuotedBlock
from assistant.cli.evaluate import measure_figures, tenant_figure
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.judging import Observer, is_gold, quote_faults
from assistant.evaluation.measures import (
    JUDGED,
    TITLES,
    Estimate,
    Figure,
    Judged,
    SeriesRun,
    SeriesValue,
    TenantRun,
    estimate,
    last_of_series,
    paired,
    read_figures,
)
from assistant.evaluation.questions import EvaluationQuestion, load_questions
from assistant.terminal.terminal import GlobalOptions
from tests.stage.answering import FakeLive, FakeTenant, document
from tests.stage.tenant_files import checkout_tenants
from tests.unit.evaluation.results import question, result, run

PARCEL = """
# When this applies

The parcel came broken.

# Steps

A broken parcel must be reported within 7 days.

A warm parcel must be reported within 2 days.

Send the form to the Returns Desk.
"""
REFILL = """
# Steps

A refill is payable on day 23 of 30.
"""


def tenant(**documents: str) -> FakeTenant:
    given = documents or {"parcel": PARCEL, "refill": REFILL}
    return FakeTenant().with_documents(
        *(document(name, text, title=name.capitalize()) for name, text in given.items())
    )


async def judged(
    asked: EvaluationQuestion, *, of: FakeTenant | None = None, before: str | None = None
) -> Judged:
    observer = Observer((of or tenant()).services)
    return await observer.judge(await observer.ask(asked, before=before))


def parcel(**fields: Any) -> EvaluationQuestion:
    fields = {
        "question": "How many days to report a broken parcel?",
        "documents": ("parcel",),
        "gold": ("A broken parcel must be reported within 7 days.",),
        "answer_contains": ("within 7 days",),
        **fields,
    }
    return question("parcel-1", **fields)


def test_a_unit_is_gold_when_it_holds_an_excerpt_or_is_part_of_one() -> None:
    assert is_gold("Report it within 7 days.", ["within 7 days"])
    assert is_gold("Report it within 7 days.", ["Report it within 7 days. Then wait."])
    assert not is_gold("Then.", ["Report it within 7 days. Then."])


async def test_a_quote_without_one_of_the_strings_is_wrong() -> None:
    wrong = await judged(parcel(answer_contains=("within 7 days", "form RX-9")))
    assert not wrong.is_right
    assert wrong.miss.startswith("parcel-1: How many days to report a broken parcel? | parcel first, with")


async def test_a_question_of_an_unknown_document_is_named() -> None:
    with pytest.raises(ConfigurationError, match="parcel-1 names the document nowhere, which pharmacy does"):
        await Observer(tenant().services).check([parcel(documents=("nowhere",))])


async def test_a_question_of_a_live_fact_reads_no_system_and_counts_as_documents_answer_it() -> None:
    live = FakeLive()
    asked = tenant()
    asked.live_elements = live
    observer = Observer(asked.services)
    observed = await observer.ask(parcel(question="Where is my order?"))
    assert (live.calls, observed.plan.basis.live.answering) == ([], ())


TABLE = "| Plan | Days |\n| --- | --- |\n| A | 5 |"
STEPS = f"## Steps\n\n1. Ask.\n2. Look.\n\n### Limits\n\n{TABLE}\n\n## Other\n\n- Wait."


def quoted(*texts: str, **changed: str) -> dict[str, float]:
    """Return the faults of a quote of these units; ``changed``: other words for one that begins so."""
    stored = document(content=STEPS)
    units = [(unit, passage) for passage in stored.passages for unit in passage.units if unit.text in texts]
    blocks = [
        QuotedBlock("- ", changed.get(unit.text[:1], unit.text), passage, span, 1, "shown")
        for unit, passage in units
        for span in [(unit.span.start, unit.span.end)]
    ]
    assert len(blocks) == len(texts)
    return quote_faults(blocks, [stored])


@pytest.mark.parametrize(
    ("texts", "late"), [(("1. Ask.", "2. Look."), 0.0), (("- Wait.",), 0.0), (("2. Look.",), 1.0)]
)
def test_a_quote_begins_with_its_first_step_and_differs_in_no_symbol(
    texts: tuple[str, ...], late: float
) -> None:
    assert quoted(*texts) == {"quote_differs": 0.0, "quote_begins_late": late}
    assert quoted("- Wait.", **{"-": "- Wait!"}) == {"quote_differs": 1.0, "quote_begins_late": 0.0}


def test_a_sentence_that_goes_on_in_the_next_passage_does_not_differ() -> None:
    cups = " ".join(f"1/{n} cup of peas {n}.5 grams" for n in range(2, 300))
    stored = document(content=f"Fiber: {cups}")
    first, second = stored.passages[:2]
    assert first.span.end == second.span.start, "cut inside a word"
    [unit] = [unit for unit in first.units if unit.span.end > first.span.end]
    block = QuotedBlock("", unit.text, first, (unit.span.start, unit.span.end), 1, "shown")
    assert quote_faults([block], [stored])["quote_differs"] == 0.0


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


def share_of(value: float, low: float = 0.0) -> Estimate:
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
        found = {"share": share_of(share), "gain over it": share_of(0.5, gain_low)}
        found |= {"false": share_of(false), "messy_loss": share_of(0.5, loss_low)}
        return [row.measure for row in asked.rows(found) if not row.is_met]

    assert missed(0.85, 0.1, 0.02, 0.0) == []
    assert missed(0.84, 0.09, 0.03, 0.01) == ["share", "gain over it", "false", "messy_loss"]


def test_misses_of_a_blind_figure_are_not_shown(tmp_path: Path) -> None:
    options = GlobalOptions(checkout_tenants(tmp_path / "checkout"), tmp_path, None, json=False)
    with pytest.raises(ConfigurationError, match=r"^shop: --show would use up questions"):
        measure_figures(options, ["shop-tuning", "shop"], show=True)


def test_an_interval_is_as_wide_as_documents_differ_not_questions() -> None:
    values = {f"q{n}": float(n % 2) for n in range(40)}
    each_its_own = estimate(values, {qid: qid for qid in values})
    two_documents = estimate(values, {qid: str(int(value)) for qid, value in values.items()})
    assert each_its_own.value == two_documents.value == 0.5
    assert (two_documents.low, two_documents.high) == (0.0, 1.0)
    assert 0.3 < each_its_own.low < 0.5 < each_its_own.high < 0.7


def test_two_runs_differ_question_by_question() -> None:
    before = [result(question("a")), result(question("gone"))]
    after = [result(question("a"), right=0.0), result(question("new"))]
    difference = paired(before, after)
    assert (difference["right"].value, difference["right"].questions) == (-1.0, 1)


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


@pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
def test_a_tenant_has_300_questions_100_of_them_unanswerable_and_gold_for_the_others(tenant: str) -> None:
    questions = load_questions(ROOT / "evaluation" / f"{tenant}.jsonl")
    assert len(questions) >= 300
    assert sum(not one.answerable for one in questions) >= 100
    assert [one.qid for one in questions if one.answerable and not (one.gold and one.answer_contains)] == []
    assert [one.qid for one in questions if one.kind == "condition" and not one.telltale] == []
    halves = {one.document: one.split for one in questions}
    assert all(one.split == halves[one.document] for one in questions)
