"""The report of a run: one HTML file that loads nothing, with its plots as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from assistant.evaluation import measures
from assistant.evaluation.questions import QuestionResult
from assistant.evaluation.runs import JUDGED, Bounds, Run, TenantRun, changed

_FOLDER = Path(__file__).parent
_WORST_SHOWN = 15


def template_page(name: str, **values: object) -> str:
    """Return a page of a template beside this module; its ``style`` is the stylesheet of all pages."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    return environment.get_template(name).render(style=style, **values)


def report_page(run: Run, *, bounds: Mapping[str, Bounds], against: Run | None) -> str:
    """Return the whole page. ``bounds``: what is asked of each measure, by tenant."""
    return template_page(
        "report.html.j2",
        run=run,
        told=told,
        is_good=_is_good,
        facts=_facts,
        tenants=[_tenant(tenant, bounds[tenant.tenant], against) for tenant in run.tenants],
    )


SUMMARY = ("measure", "held out", "95 of 100", "questions", "tuning", "asked", "")
DIFFERENCES = ("measure, held out", "difference", "95 of 100")


def summary(run: TenantRun, bounds: Bounds) -> list[tuple[str, ...]]:
    """Return a row of ``SUMMARY`` for each measure of the held-out half; the last says "met" or "missed"."""
    held, tuning = _halves(run)
    return [
        bounds.row(name, now).cells(f"{tuning[name].value:.3f}" if name in tuning else "")
        for name, now in held.items()
    ]


def differences(before: TenantRun, after: TenantRun) -> list[tuple[str, ...]]:
    """Return a row of ``DIFFERENCES``, question by question, for each measure that differs."""
    paired = measures.paired(before.by_qid, after.by_qid, split=JUDGED)
    return [
        (measure.title, f"{one.value:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}")
        for measure in measures.MEASURES
        if (one := paired.get(measure.name)) is not None and (one.low or one.high)
    ]


def told(result: QuestionResult) -> str:
    """Return a result in three words."""
    if not result.is_found:
        return "nothing near"
    if not result.question.answerable:
        return "unanswerable, found"
    other = ", other branch" if result.values.get("telltale") else ""
    return f"found, {'right' if result.is_right else 'wrong'}{other}"


def _tenant(run: TenantRun, bounds: Bounds, against: Run | None) -> Mapping[str, object]:
    """Return what the template shows of one tenant."""
    held, tuning = _halves(run)
    judged = [result for result in run.results if result.split == JUDGED]
    before = against.of(run.tenant) if against else None
    return {
        "run": run,
        "summary": (SUMMARY, summary(run, bounds)),
        "intervals": [
            (measures.TITLES[name], now, tuning.get(name), bounds.row(name, now).bound)
            for name, now in held.items()
        ],
        "latencies": measures.latencies(run.results),
        "lengths": measures.lengths(run.results),
        "against": against.name if against else "",
        "differences": (DIFFERENCES, differences(before, run)) if before else None,
        "changed": changed(before, run) if before else (),
        "worst": [(title, len(found), found[:_WORST_SHOWN]) for title, found in _worst(judged)],
    }


def _halves(run: TenantRun) -> tuple[dict[str, measures.Estimate], dict[str, measures.Estimate]]:
    """Return the estimates of the held-out and of the tuning half."""
    return measures.estimates(run.by_qid, split="held_out"), measures.estimates(run.by_qid, split="tuning")


_WORST: Mapping[str, Callable[[QuestionResult], bool]] = {
    "Wrong": lambda one: one.question.answerable and one.is_found and not one.is_right,
    "States the other branch": lambda one: bool(one.values.get("telltale")),
    "Answerable, nothing near": lambda one: one.question.answerable and not one.is_found,
}


def _worst(judged: Sequence[QuestionResult]) -> Iterable[tuple[str, list[QuestionResult]]]:
    for title, is_worst in _WORST.items():
        yield title, [result for result in judged if is_worst(result)]


def _facts(result: QuestionResult) -> Mapping[str, object]:
    """Return what is known of a question and its result; what is absent is empty."""
    question, written = result.question, result.written
    return {
        "kind": question.kind.replace("_", " "),
        "half": question.split.replace("_", " "),
        "documents": ", ".join(question.documents) or f"none (nearest: {question.near or 'not named'})",
        "a right answer holds": " + ".join(question.answer_contains),
        "other branch": " + ".join(question.telltale),
        "clean": question.clean,
        "after": question.after,
        "measures": ", ".join(f"{name} {value:g}" for name, value in result.values.items()),
        "words": f"{result.words} + {result.also_words}",
        "degraded": ", ".join(result.degraded),
        "written": written and written.text,
        "read by": written and written.read_by,
    }


def _is_good(result: QuestionResult) -> bool:
    if not result.question.answerable:
        return not result.is_found
    return result.is_right and not result.values.get("telltale")
