"""How an answer came about: sources and candidates with raw scores, gate, quoted units, model, time."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from assistant.cli.terminal import Terminal, plain, styled
from assistant.domain.answers import AnswerRecord, CandidateDocument, GateDecision, PassageUse

_WIDTH = 11
"""Characters of the column of names."""
_CANDIDATES = 5
"""How many candidates are shown; ``--json`` has them all."""


def explain(terminal: Terminal, record: AnswerRecord) -> None:
    """Print what the record says of retrieval, ranking, gate, quote, prompt, model and time."""
    terminal.out.print()
    if record.retrieval_question != record.question:
        _fact(terminal, "searched", record.retrieval_question)
    terminal.out.print(_passages(record))
    _show_candidates(terminal, record.candidates)
    _show_gate(terminal, record.gate)
    for at, unit in enumerate(record.quoted):
        start, end = unit.span
        where = f"{unit.document_id} {start}-{end}, content {unit.content_hash[:12]}"
        _fact(terminal, "quoted" if at == 0 else "", where)
    _show_model(terminal, record)
    _fact(terminal, "index", record.index_version or "none")
    for at, (kind, sha256) in enumerate(record.weights.items()):
        _fact(terminal, "weights" if at == 0 else "", f"{kind}, SHA-256 {sha256}")
    _fact(terminal, "settings", f"SHA-256 {record.settings_hash}")
    terminal.out.print(_timings(record))


def _show_candidates(terminal: Terminal, candidates: Sequence[CandidateDocument]) -> None:
    """Print the best candidates, each with all that ranking knew of it."""
    for at, one in enumerate(candidates[:_CANDIDATES]):
        _fact(terminal, "candidates" if at == 0 else "", f"{one.score:.2f}  {one.document_id}")
        features = "  ".join(f"{name} {_short(value)}" for name, value in one.features.items())
        terminal.out.print(plain(f"{'':{_WIDTH}}{features}", style="dim"))
    if len(candidates) > _CANDIDATES:
        _fact(terminal, "", f"{len(candidates) - _CANDIDATES} more: --json")


def _show_gate(terminal: Terminal, gate: GateDecision | None) -> None:
    if gate is None:
        _fact(terminal, "gate", "not reached")
        return
    _fact(terminal, "gate", _decision(gate))
    missing = f"; not found: {', '.join(gate.missing_terms)}" if gate.missing_terms else ""
    _fact(
        terminal,
        "",
        f"best cosine {gate.best_cosine:.3f}, {gate.coverage:.0%} of the question's terms{missing}",
    )


def _decision(gate: GateDecision) -> str:
    outcome = "passed" if gate.passed else "closed"
    if gate.probability is None:  # schema version 1
        return f"{outcome}, on a line through {_given(gate.min_cosine)} and {_given(gate.min_coverage)}"
    return (
        f"{outcome}: probability {gate.probability:.3f}, answered from {_given(gate.answered_from)}, "
        f"possibly from {_given(gate.possibly_from)}"
    )


def _show_model(terminal: Terminal, record: AnswerRecord) -> None:
    if record.prompt_hash is None:
        _fact(terminal, "model", "not asked")
        return
    _fact(terminal, "prompt", f"{record.prompt_id}, SHA-256 {record.prompt_hash}")
    if record.dropped_passages:
        _fact(terminal, "", f"{record.dropped_passages} passages left out for want of room")
    _fact(terminal, "model", f"{record.model_id}, SHA-256 {record.model_digest or 'not known'}")
    parameters = ", ".join(f"{name} {value}" for name, value in record.parameters.items())
    _fact(terminal, "parameters", parameters or "none")
    _fact(terminal, "tokens", f"{record.usage.prompt_tokens} in, {record.usage.completion_tokens} out")
    if record.removed_markers:
        _fact(terminal, "taken out", " ".join(record.removed_markers))


def _passages(record: AnswerRecord) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("n", "fused", "score", "BM25", "score", "vector", "cosine"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("prompt", no_wrap=True)
    table.add_column("passage", overflow="fold")
    for use in record.passages:
        table.add_row(*_passage_cells(use))
    return table


def _passage_cells(use: PassageUse) -> list[Text | str]:
    return [
        Text(str(use.n), style="cyan"),
        f"#{use.rank}",
        f"{use.fused_score:.4f}",
        _rank(use.lexical_rank),
        _score(use.lexical_score, digits=2),
        _rank(use.vector_rank),
        _score(use.cosine, digits=3),
        "read" if use.in_prompt else "",
        plain(use.passage_id),
    ]


def _rank(rank: int | None) -> str:
    return "-" if rank is None else f"#{rank}"


def _score(score: float | None, *, digits: int) -> str:
    return "-" if score is None else f"{score:.{digits}f}"


def _short(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _given(threshold: float | None) -> str:
    return "none" if threshold is None else _short(threshold)


def _timings(record: AnswerRecord) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(width=_WIDTH - 1)
    table.add_column()
    table.add_column(justify="right")
    for index, (step, milliseconds) in enumerate(record.timings_ms.items()):
        table.add_row(Text("time" if index == 0 else "", style="bold"), step, f"{milliseconds:.1f} ms")
    return table


def _fact(terminal: Terminal, name: str, value: str) -> None:
    terminal.out.print(styled((f"{name:<{_WIDTH}}", "bold"), (value, "")))
