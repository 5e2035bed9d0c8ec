"""The report of a run: one HTML file that loads nothing, with its plots as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from assistant.evaluation import measures
from assistant.evaluation.questions import PartResult, QuestionResult, QuotedUnit, ShownQuote
from assistant.evaluation.runs import JUDGED, Bound, Run, TenantRun, bound_of, changed

_WORST_SHOWN = 15
STYLE = Path(__file__).with_name("report.css")


def report_page(run: Run, *, bounds: Mapping[str, Mapping[str, float]], against: Run | None) -> str:
    """Return the whole page. ``bounds``: what is asked of each measure, by tenant."""
    parts = [_tenant(one, bounds.get(one.tenant, {}), against) for one in run.tenants]
    links = " · ".join(_link(f"t-{one.tenant}", one.tenant) for one in run.tenants)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Evaluation {escape(run.name)}</title>"
        f"<style>\n{STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"<h1>Evaluation {escape(run.name)}</h1><p class=dim>{run.made_at:%Y-%m-%d %H:%M} UTC · {links}</p>"
        f"{''.join(parts)}</body></html>\n"
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


def _tenant(run: TenantRun, asked: Mapping[str, float], against: Run | None) -> str:
    held, tuning = _halves(run)
    drawn = "" if run.drawn is None else f", drawn by {escape(run.drawn)}"
    weights = ", ".join(f"{kind} {digest[:12]}" for kind, digest in run.weights.items())
    before = against.of(run.tenant) if against else None
    judged = [result for result in run.results if result.split == JUDGED]
    return "".join(
        (
            f'<h2 id="t-{escape(run.tenant)}">{escape(run.tenant)}</h2>',
            f"<p class=dim>{len(run.results)} questions of {escape(run.questions)}{drawn}, in "
            f"{run.seconds:.0f} s. Index {escape(run.index_version)}, {escape(run.embedding_model)}; gate: "
            f"answered from {run.answered_from:g}, possibly from {run.possibly_from:g}; weights: "
            f"{escape(weights)}. The held-out half counts; an interval holds 95 of 100 resamples by "
            "document.</p>",
            html_table(SUMMARY, summary(run, asked)),
            interval_plot(held, tuning, asked),
            "<p class=dim>● held out, with interval · ○ tuning · red line: asked</p>",
            "<h3>Gate, held-out half</h3>",
            gate_plot(judged, answered_from=run.answered_from, possibly_from=run.possibly_from),
            "<h3>Time by step: median and 95th percentile</h3>",
            latency_plot(measures.latencies(run.results)),
            _lengths(run.results),
            _changes(before, run, against.name) if before and against else "",
            _worst(run, judged),
            "<h3>Every question</h3>",
            *(_question(run.tenant, result) for result in run.results),
        )
    )


def _halves(run: TenantRun) -> tuple[dict[str, measures.Estimate], dict[str, measures.Estimate]]:
    """Return the estimates of the held-out and of the tuning half."""
    return measures.estimates(run.by_qid, split="held_out"), measures.estimates(run.by_qid, split="tuning")


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table: the first column is text, the others are numbers, or "met" and "missed"."""
    head = "".join(f"<th{' class=n' if at else ''}>{escape(cell)}</th>" for at, cell in enumerate(headings))
    body = "".join(
        f"<tr>{''.join(f'<td{_style(at, cell)}>{escape(cell)}</td>' for at, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _style(at: int, cell: str) -> str:
    if cell in ("met", "missed"):
        return f' class="{cell}"'
    return " class=n" if at else ""


def _lengths(results: Sequence[QuestionResult]) -> str:
    said = "; ".join(f"{name}: {one.p50:g} / {one.p95:g}" for name, one in measures.lengths(results).items())
    return f"<p>Words, median / 95th percentile: {escape(said)}</p>"


def _changes(before: TenantRun, after: TenantRun, name: str) -> str:
    items = "".join(
        f"<li>{_anchor(after.tenant, new)} {escape(told(old))} → {escape(told(new))}</li>"
        for old, new in changed(before, after)
    )
    return (
        f"<h3>Against {escape(name)}, question by question</h3>"
        f"{html_table(DIFFERENCES, differences(before, after))}"
        f"<details><summary>Questions that changed</summary><ul>{items}</ul></details>"
    )


def _worst(run: TenantRun, judged: Sequence[QuestionResult]) -> str:
    groups: tuple[tuple[str, Callable[[QuestionResult], bool]], ...] = (
        (
            "Wrong and shown without a warning",
            lambda one: one.question.answerable and one.outcome == "answered" and not one.right,
        ),
        ("States the other branch", lambda one: bool(one.telltale)),
        ("Unanswerable, answered", lambda one: not one.question.answerable and one.outcome == "answered"),
        ("Answerable, refused", lambda one: one.question.answerable and one.outcome == "refused"),
    )
    return "<h3>Worst cases, held-out half</h3>" + "".join(
        _group(run.tenant, title, [one for one in judged if is_worst(one)]) for title, is_worst in groups
    )


def _group(tenant: str, title: str, results: Iterable[QuestionResult]) -> str:
    ordered = sorted(results, key=lambda one: (-one.probability, one.qid))
    items = "".join(f"<li>{_anchor(tenant, one)}</li>" for one in ordered[:_WORST_SHOWN])
    return f"<p><b>{title}: {len(ordered)}</b></p><ul>{items}</ul>"


def _question(tenant: str, result: QuestionResult) -> str:
    question = result.question
    tag = "right" if _is_good(result) else "bad"
    facts = [f"{name}: {value}" for name, value in _facts(result)]
    before = "" if result.before is None else f"<p class=dim>After: {escape(result.before)}</p>"
    gold = "".join(f"<li>{escape(excerpt)}</li>" for excerpt in question.gold)
    return (
        f'<details id="{_id(tenant, question.qid)}"><summary>'
        f'<span class="tag {tag}">{escape(told(result))}</span> '
        f"<b>{escape(question.qid)}</b> {escape(question.question)}</summary>{before}"
        f"<p class=dim>{escape(' · '.join(facts))}</p>"
        f"{f'<p>Gold:</p><ul>{gold}</ul>' if gold else ''}"
        f"{''.join(_part(question.documents, part) for part in result.parts)}</details>"
    )


def _facts(result: QuestionResult) -> Iterable[tuple[str, str]]:
    question = result.question
    yield "kind", question.kind.replace("_", " ")
    yield "half", question.split.replace("_", " ")
    yield "documents", ", ".join(question.documents) or f"none (nearest: {question.near or 'not named'})"
    if question.answer_contains:
        yield "a right answer holds", " + ".join(question.answer_contains)
    if question.telltale:
        yield "other branch", " + ".join(question.telltale)
    for name, qid in (("clean", question.clean), ("after", question.after)):
        if qid:
            yield name, qid
    if result.change is not None:
        yield f"after {result.change.before}", "as alone" if result.change.same else "differs from alone"
    yield "words", f"{result.words} + {result.also_words}"
    if result.chance is not None:
        yield "chance", f"{result.chance:.2f}"
    if result.degraded:
        yield "degraded", ", ".join(result.degraded)
    if result.written is not None:
        yield "written", result.written.text
        yield "read by", result.written.read_by


def _part(documents: Sequence[str], part: PartResult) -> str:
    ranking = "".join(
        f"<tr><td>{at}</td><td>{'✓ ' if one.is_right else ''}{escape(one.title or one.document_id)} "
        f"<span class=dim>{escape(one.document_id)}</span></td><td class=n>{one.score:.2f}</td>"
        f"<td class=features>{_features(one.features)}</td></tr>"
        for at, one in enumerate(part.ranking, start=1)
    )
    return (
        f"<p>Searched: {escape(part.searched)} "
        f"<span class=tag>{part.outcome}, {part.probability:.3f}</span></p>"
        f"{_quote('Quote', documents, part.quote)}{_quote('Also possible', documents, part.also)}"
        f"<table>{ranking}</table><p class=features>Gate: {_features(part.gate_features)}</p>"
    )


def _quote(name: str, documents: Sequence[str], quote: ShownQuote | None) -> str:
    if quote is None:
        return ""
    is_right = quote.document_id in documents
    state = "right document" if is_right else "another document"
    return (
        f'<p><b>{name}</b>: {escape(quote.title)} <span class="tag {"right" if is_right else "bad"}">'
        f"{state if documents else escape(quote.document_id)}</span></p>{''.join(map(_unit, quote.units))}"
    )


def _unit(unit: QuotedUnit) -> str:
    style = "wrong" if unit.telltale else ("gold" if unit.is_gold or unit.holds else "")
    tags = "".join(
        f'<span class="tag {kind}">{escape(text)}</span> '
        for kind, text in (
            *(("right", f"holds: {string}") for string in unit.holds),
            *(("bad", f"other branch: {string}") for string in unit.telltale),
            *((("", "marked"),) if unit.is_key else ()),
        )
    )
    return (
        f'<div class="unit {style}"><span class=dim>{escape(unit.heading)}</span> {tags}<br>'
        f"{escape(unit.text)}</div>"
    )


def _features(values: Mapping[str, float]) -> str:
    return escape(", ".join(f"{name} {value:g}" for name, value in values.items()))


def _is_good(result: QuestionResult) -> bool:
    if not result.question.answerable:
        return result.outcome != "answered"
    return result.right and not result.telltale


def _anchor(tenant: str, result: QuestionResult) -> str:
    return f"{_link(_id(tenant, result.qid), result.qid)} {escape(result.question.question)}"


def _id(tenant: str, qid: str) -> str:
    return escape(f"q-{tenant}-{qid}", quote=True)


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{anchor}">{escape(text)}</a>'


# --- plots as inline SVG --------------------------------------------------------------------------------


_LABEL_PX, _PLOT_PX, _ROW_PX = 330, 420, 20
_BINS = 20


def interval_plot(
    held_out: Mapping[str, measures.Estimate],
    tuning: Mapping[str, measures.Estimate],
    asked: Mapping[str, float],
) -> str:
    """Return a row for each share: value and interval of the held-out half, the tuning half, the bound."""
    shown = [one for one in measures.MEASURES if one.name in held_out and not one.zero_within]
    rows: list[str] = []
    for at, measure in enumerate(shown):
        y = at * _ROW_PX + 14
        one, other = held_out[measure.name], tuning.get(measure.name)
        rows.append(label(measure.title, y))
        rows.append(line(share_x(one.low), y, share_x(one.high), y, "interval"))
        if other is not None:
            rows.append(f'<circle class="tuning" cx="{share_x(other.value)}" cy="{y}" r="3.5"/>')
        rows.append(f'<circle class="held" cx="{share_x(one.value)}" cy="{y}" r="4"/>')
        if measure.name in asked:
            at_bound = share_x(asked[measure.name])
            rows.append(line(at_bound, y - 8, at_bound, y + 8, "bound"))
    return svg(rows, height=len(shown) * _ROW_PX + 24, axis=True)


def gate_plot(results: Sequence[QuestionResult], *, answered_from: float, possibly_from: float) -> str:
    """Return a histogram of the gate's probability: answerable questions upwards, unanswerable downwards."""
    counts = {True: [0] * _BINS, False: [0] * _BINS}
    for result in results:
        bin_ = min(_BINS - 1, int(result.probability * _BINS))
        counts[result.question.answerable][bin_] += 1
    most = max(1, *counts[True], *counts[False])
    width = _PLOT_PX / _BINS
    middle = 90
    rows: list[str] = []
    for answerable, style in ((True, "answerable"), (False, "unanswerable")):
        for at, count in enumerate(counts[answerable]):
            height = 76 * count / most
            top = middle - height if answerable else middle
            rows.append(
                f'<rect class="{style}" x="{_LABEL_PX + at * width + 1:.1f}" y="{top:.1f}" '
                f'width="{width - 2:.1f}" height="{height:.1f}"><title>{count}</title></rect>'
            )
    rows += [label("answerable", middle - 30), label("unanswerable", middle + 40)]
    for threshold in (possibly_from, answered_from):
        rows.append(line(share_x(threshold), 8, share_x(threshold), 172, "bound"))
    return svg(rows, height=190, axis=True)


def latency_plot(spreads: Mapping[str, measures.Spread]) -> str:
    """Return a bar to the 95th percentile and a mark at the median for each step, in milliseconds."""
    longest = max((one.p95 for one in spreads.values()), default=1.0) or 1.0
    rows: list[str] = []
    for at, (step, one) in enumerate(spreads.items()):
        y = at * _ROW_PX + 14
        rows.append(label(f"{step}: {one.p50:g} / {one.p95:g} ms", y))
        rows.append(
            f'<rect class="answerable" x="{_LABEL_PX}" y="{y - 6}" height="12" '
            f'width="{_PLOT_PX * one.p95 / longest:.1f}"/>'
        )
        median = _LABEL_PX + _PLOT_PX * one.p50 / longest
        rows.append(line(median, y - 7, median, y + 7, "interval"))
    return svg(rows, height=len(spreads) * _ROW_PX + 10, axis=False)


def share_x(value: float) -> float:
    """Return where a share from 0 to 1 is on the axis, in pixels."""
    return round(_LABEL_PX + _PLOT_PX * min(1.0, max(0.0, value)), 1)


def label(text: str, y: float) -> str:
    """Return the text to the left of a row."""
    return f'<text x="{_LABEL_PX - 10}" y="{y + 4}" text-anchor="end">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a line of one of the style sheet's classes."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}"/>'


def svg(rows: Sequence[str], *, height: float, axis: bool) -> str:
    """Return a plot; ``axis``: from 0 to 1 below it."""
    marks: list[str] = []
    if axis:
        for tenth in range(0, 11, 2):
            x = share_x(tenth / 10)
            marks.append(line(x, 0, x, height - 16, "grid"))
            marks.append(f'<text x="{x}" y="{height - 3}" text-anchor="middle">{tenth / 10:g}</text>')
    width = _LABEL_PX + _PLOT_PX + 20
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join((*marks, *rows))}</svg>'
