"""The report of a run: one HTML file that loads nothing, with its plots as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from assistant.evaluation import measures
from assistant.evaluation.questions import QuestionResult
from assistant.evaluation.runs import JUDGED, Bound, Run, TenantRun, bound_of, changed

_FOLDER = Path(__file__).parent
_WORST_SHOWN = 15
_BINS = 20


def report_page(run: Run, *, bounds: Mapping[str, Mapping[str, float]], against: Run | None) -> str:
    """Return the whole page. ``bounds``: what is asked of each measure, by tenant."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        run=run,
        told=told,
        is_good=_is_good,
        facts=_facts,
        style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        tenants=[_tenant(one, bounds.get(one.tenant, {}), against) for one in run.tenants],
    )


def asked_text(measure: measures.Measure, bound: Bound) -> str:
    """Return a bound in words."""
    if measure.zero_within:
        return "interval above 0" if measure.better > 0 else "none, within noise"
    return f"{'≥' if measure.better > 0 else '≤'} {bound.asked:.2f}"


SUMMARY = ("measure", "held out", "95 of 100", "questions", "tuning", "asked", "")
DIFFERENCES = ("measure, held out", "difference", "95 of 100")


def summary(run: TenantRun, asked: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Return a row of ``SUMMARY`` for each measure of the held-out half; the last says "met" or "missed"."""
    held, tuning = _halves(run)
    rows: list[tuple[str, ...]] = []
    for measure in measures.MEASURES:
        now, other = held.get(measure.name), tuning.get(measure.name)
        if now is None:
            continue
        bound = bound_of(measure, now, asked)
        judged = (
            ("", "") if bound is None else (asked_text(measure, bound), "met" if bound.is_met else "missed")
        )
        before = "" if other is None else f"{other.value:.3f}"
        interval = f"{now.low:.3f} to {now.high:.3f}"
        rows.append((measure.title, f"{now.value:.3f}", interval, str(now.questions), before, *judged))
    return rows


def differences(before: TenantRun, after: TenantRun) -> list[tuple[str, ...]]:
    """Return a row of ``DIFFERENCES``, question by question, for each measure that differs."""
    found = measures.paired(before.by_qid, after.by_qid, split=JUDGED)
    return [
        (measure.title, f"{one.value:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}")
        for measure in measures.MEASURES
        if (one := found.get(measure.name)) is not None and (one.low or one.high)
    ]


def told(result: QuestionResult) -> str:
    """Return a result in three words."""
    if not result.question.answerable:
        return result.outcome
    other = ", other branch" if result.telltale else ""
    return f"{result.outcome}, {'right' if result.right else 'wrong'}{other}"


def _tenant(run: TenantRun, asked: Mapping[str, float], against: Run | None) -> Mapping[str, object]:
    """Return what the template shows of one tenant."""
    held, tuning = _halves(run)
    judged = [result for result in run.results if result.split == JUDGED]
    before = against.of(run.tenant) if against else None
    return {
        "run": run,
        "summary": (SUMMARY, summary(run, asked)),
        "intervals": [
            (measure.title, held[measure.name], tuning.get(measure.name), asked.get(measure.name))
            for measure in measures.MEASURES
            if measure.name in held and not measure.zero_within
        ],
        "gate": _bins(judged),
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


def _bins(results: Iterable[QuestionResult]) -> Mapping[str, list[int]]:
    """Return how many questions have each twentieth of the gate's probability, answerable ones apart."""
    counts = {"answerable": [0] * _BINS, "unanswerable": [0] * _BINS}
    for result in results:
        kind = "answerable" if result.question.answerable else "unanswerable"
        counts[kind][min(_BINS - 1, int(result.probability * _BINS))] += 1
    return counts


_WORST: Mapping[str, Callable[[QuestionResult], bool]] = {
    "Wrong and shown without a warning": lambda one: (
        one.question.answerable and one.outcome == "answered" and not one.right
    ),
    "States the other branch": lambda one: bool(one.telltale),
    "Unanswerable, answered": lambda one: not one.question.answerable and one.outcome == "answered",
    "Answerable, refused": lambda one: one.question.answerable and one.outcome == "refused",
}


def _worst(judged: Sequence[QuestionResult]) -> Iterable[tuple[str, list[QuestionResult]]]:
    ordered = sorted(judged, key=lambda one: (-one.probability, one.qid))
    for title, is_worst in _WORST.items():
        yield title, [one for one in ordered if is_worst(one)]


def _facts(result: QuestionResult) -> Mapping[str, object]:
    """Return what is known of a question and its result; what is absent is empty."""
    question, change, written = result.question, result.change, result.written
    return {
        "kind": question.kind.replace("_", " "),
        "half": question.split.replace("_", " "),
        "documents": ", ".join(question.documents) or f"none (nearest: {question.near or 'not named'})",
        "a right answer holds": " + ".join(question.answer_contains),
        "other branch": " + ".join(question.telltale),
        "clean": question.clean,
        "after": question.after,
        f"after {change.before if change else ''}": change
        and ("as alone" if change.same else "differs from alone"),
        "words": f"{result.words} + {result.also_words}",
        "degraded": ", ".join(result.degraded),
        "written": written and written.text,
        "read by": written and written.read_by,
    }


def _is_good(result: QuestionResult) -> bool:
    if not result.question.answerable:
        return result.outcome != "answered"
    return result.right and not result.telltale
