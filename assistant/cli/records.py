"""``assistant verdicts``, ``replay`` and ``learn erase``, and how a recorded answer was made."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from assistant.answering.excerpts import fill_record, read_excerpts
from assistant.answering.prompt import load_prompt
from assistant.answering.stored import entry_of_read
from assistant.cli.answer_view import mark_of, show_remarks, with_bold
from assistant.cli.terminal import GlobalOptions, Terminal, cli_reader, plain, styled, table
from assistant.domain.answers import (
    AccessEntry,
    AnswerRecord,
    GateDecision,
    LiveMatchState,
    PassageUse,
    StoredVerdict,
    VerdictLabel,
)
from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.knowledge.reading import ReadableDocuments
from assistant.learning.signals import Erased
from assistant.wiring.stores import EmbeddedTenant

_WIDTH = 11
"""Width of the column of names, in characters."""
_WHY = {
    LiveMatchState.READ: "read",
    LiveMatchState.FAR: "not near enough",
    LiveMatchState.NOT_ABOUT: "a question that no element answers is as near ({against})",
    LiveMatchState.WHAT_TO_DO: "the question asks what to do",
    LiveMatchState.OTHER: "another element is nearer",
    LiveMatchState.SHOWN: "the answer shows its values already",
    LiveMatchState.NO_CUSTOMER: "a document answers, and no customer's context came with the question",
}
"""Why a live element was read, or was not."""
_CANDIDATES = 5
"""Candidates that are shown; ``--json`` has them all."""


def explain(terminal: Terminal, record: AnswerRecord) -> None:
    """Print the record's retrieval, ranking, gate, quotes, prompt, model and timings."""
    terminal.out.print()
    if record.retrieval_question != record.question:
        _show_facts(terminal, [("searched", record.retrieval_question)])
    terminal.out.print(_passages(record))
    for at, one in enumerate(record.candidates[:_CANDIDATES]):
        _show_facts(terminal, [("" if at else "candidates", f"{one.score:.2f}  {one.document_id}")])
        features = "  ".join(f"{name} {_short(value)}" for name, value in one.features.items())
        terminal.out.print(plain(f"{'':{_WIDTH}}{features}", style="dim"))
    _show_facts(terminal, _decisions(record))
    terminal.out.print(_timings(record))


def _decisions(record: AnswerRecord) -> Iterator[tuple[str, str]]:
    """Yield name and value of everything that decided the answer; a value without a name continues the one
    before."""
    if len(record.candidates) > _CANDIDATES:
        yield "", f"{len(record.candidates) - _CANDIDATES} more: --json"
    yield from _gate(record.gate)
    for at, unit in enumerate(record.quoted):
        start, end = unit.span
        yield "" if at else "quoted", f"{unit.document_id} {start}-{end}, content {unit.content_hash[:12]}"
    yield from _model(record)
    for at, one in enumerate(record.asked):
        yield (
            "" if at else "sources",
            f"{one.weight:.0%} {one.name} ({one.kind}), {one.state.replace('_', ' ')}",
        )
    yield from _live(record)
    yield "index", record.index_version or "none"
    for at, (kind, sha256) in enumerate(record.weights.items()):
        yield "" if at else "weights", f"{kind}, SHA-256 {sha256}"
    yield "settings", f"SHA-256 {record.settings_hash}"


def _live(record: AnswerRecord) -> Iterator[tuple[str, str]]:
    """Yield why each live element was read or was not, and how the reads ended."""
    for at, one in enumerate(record.live_matches):
        words = f", {one.unknown_words} words that its connector does not use" if one.unknown_words else ""
        why = _WHY[one.state].format(against=_given(one.against))
        near = f"{one.cosine:.2f} to \u201c{one.example}\u201d, needs {one.least:.2f}{words}"
        yield "" if at else "live", f"{one.element}: {why}; {near}"
    for at, use in enumerate(record.elements):
        ended = (use.problem or use.state).replace("_", " ")
        yield "" if at else "elements", f"{use.name}: {ended}"


def _gate(gate: GateDecision | None) -> Iterator[tuple[str, str]]:
    if gate is None:
        yield "gate", "not reached"
        return
    yield "gate", _decision(gate)
    missing = f"; not found: {', '.join(gate.missing_terms)}" if gate.missing_terms else ""
    yield "", f"best cosine {gate.best_cosine:.3f}, {gate.coverage:.0%} of the question's terms{missing}"


def _decision(gate: GateDecision) -> str:
    outcome = "passed" if gate.passed else "closed"
    if gate.probability is None:  # schema version 1
        return f"{outcome}, on a line through {_given(gate.min_cosine)} and {_given(gate.min_coverage)}"
    return (
        f"{outcome}: probability {gate.probability:.3f}, answered from {_given(gate.answered_from)}, "
        f"possibly from {_given(gate.possibly_from)}"
    )


def _model(record: AnswerRecord) -> Iterator[tuple[str, str]]:
    if record.prompt_hash is None:
        yield "model", "not asked"
        return
    yield "prompt", f"{record.prompt_id}, SHA-256 {record.prompt_hash}"
    if record.dropped_passages:
        yield "", f"{record.dropped_passages} passages did not fit"
    yield "model", f"{record.model_id}, SHA-256 {record.model_digest or 'not known'}"
    yield "parameters", ", ".join(f"{name} {value}" for name, value in record.parameters.items()) or "none"
    yield "tokens", f"{record.usage.prompt_tokens} in, {record.usage.completion_tokens} out"
    if record.removed_markers:
        yield "taken out", " ".join(record.removed_markers)


def _passages(record: AnswerRecord) -> Table:
    numbers = ("n", "fused", "score", "BM25", "score", "vector", "cosine")
    rows = [
        (
            Text(str(use.n), style="cyan"),
            f"#{use.rank}",
            f"{use.fused_score:.4f}",
            _or_dash("#{}", use.lexical_rank),
            _or_dash("{:.2f}", use.lexical_score),
            _or_dash("#{}", use.vector_rank),
            _or_dash("{:.3f}", use.cosine),
            "read" if use.in_prompt else "",
            plain(use.passage_id),
        )
        for use in record.passages
    ]
    return table(*numbers, "prompt", "passage", right=numbers, rows=rows)


def _or_dash(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)


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


def _show_facts(terminal: Terminal, facts: Iterable[tuple[str, str]]) -> None:
    for name, value in facts:
        terminal.out.print(styled((f"{name:<{_WIDTH}}", "bold"), (value, "")))


@dataclass(frozen=True, slots=True)
class Replayed:
    """A record with the text of its passages, where the document store still has it."""

    record: AnswerRecord
    texts: tuple[str | None, ...]
    """In the order of the record's passages; None where the text was removed or replaced."""
    verdicts: tuple[StoredVerdict, ...]


def show_verdicts(options: GlobalOptions, *, tenant: str) -> None:
    """Print all verdicts, oldest first."""
    terminal = Terminal()
    verdicts = asyncio.run(_verdicts(options, tenant))
    if options.json:
        terminal.json({"verdicts": [verdict.model_dump(mode="json") for verdict in verdicts]})
        return
    for stored in verdicts:
        _show_verdict(terminal, stored)
    if not verdicts:
        terminal.err.print("No verdicts yet.", style="dim")


def replay_answer(options: GlobalOptions, *, tenant: str, answer_id: str) -> None:
    """Print a recorded answer and how it was made. Raises NotFoundError."""
    terminal = Terminal()
    replayed = asyncio.run(_replay(options, tenant, answer_id))
    if options.json:
        passages = [
            {**use.model_dump(mode="json"), "text": text}
            for use, text in zip(replayed.record.passages, replayed.texts, strict=True)
        ]
        verdicts = [verdict.model_dump(mode="json") for verdict in replayed.verdicts]
        record = replayed.record.model_dump(mode="json") | {"passages": passages}
        terminal.json({"record": record, "verdicts": verdicts})
        return
    show_replayed(terminal, replayed)


async def _verdicts(options: GlobalOptions, tenant: str) -> list[StoredVerdict]:
    async with options.stores(tenant) as stores:
        now = SystemClock().now()
        entry = AccessEntry(at=now, agent=cli_reader(), kind="verdicts", subject_id="all")
        await stores.records.record_access(entry)
        return await stores.records.list_verdicts()


async def _replay(options: GlobalOptions, tenant: str, answer_id: str) -> Replayed:
    async with options.stores(tenant) as stores:
        record = await stores.records.get_answer(answer_id)
        if record is None:
            raise NotFoundError(f"{tenant} has no answer {answer_id}.")
        entry = entry_of_read("answer", answer_id, [record], reader=cli_reader(), at=SystemClock().now())
        await stores.records.record_access(entry)
        readable = ReadableDocuments(stores.knowledge.documents, states=stores.knowledge.states)
        shown = await read_excerpts(record.excerpts, readable, labels=frozenset(record.labels))
        record = fill_record(record, shown)
        texts = [await _text_of(stores, use) for use in record.passages]
        return Replayed(record, tuple(texts), tuple(await stores.records.list_verdicts(answer_id)))


async def _text_of(stores: EmbeddedTenant, use: PassageUse) -> str | None:
    parsed = await stores.knowledge.documents.get_parsed(use.document_id, use.content_hash)
    if parsed is None:
        return None
    text = parsed.text[use.span[0] : use.span[1]]
    return text if hashlib.sha256(text.encode()).hexdigest() == use.text_hash else None


def show_replayed(terminal: Terminal, replayed: Replayed) -> None:
    """Print a record with the text of its passages, its prompt, how it was made and its verdicts."""
    record = replayed.record
    terminal.out.print(plain(record.question, style="bold"))
    terminal.out.print(
        plain(f"{record.agent}, {record.asked_at:%Y-%m-%d %H:%M:%S} UTC, {record.answer_id}", style="dim")
    )
    terminal.out.print()
    _show_text(terminal, record)
    for use, text in zip(record.passages, replayed.texts, strict=True):
        title, passage_id = (use.title, "bold"), (f"  {use.passage_id}", "dim")
        terminal.out.print(styled((f"\n{use.n:>3}  ", "cyan"), title, passage_id))
        gone = "(no longer stored: the document was withdrawn or replaced)"
        terminal.out.print(plain(gone, style="dim") if text is None else plain(text))
    _show_prompt(terminal, record)
    explain(terminal, record)
    for stored in replayed.verdicts:
        _show_verdict(terminal, stored)


def _show_prompt(terminal: Terminal, record: AnswerRecord) -> None:
    """Print the released prompt file as it was filled; warn if its hash is another one."""
    if record.prompt_hash is None:
        return
    read = ", ".join(str(use.n) for use in record.passages if use.in_prompt) or "none"
    slots = {"passages": f"(passages {read}, as above)", "question": record.question}
    try:
        template = load_prompt(record.prompt_id)
    except ConfigurationError as error:
        terminal.out.print(plain(f"\n{error.message}", style="yellow"))
        return
    terminal.out.print(plain(f"\nPrompt {record.prompt_id}", style="bold"))
    if template.sha256 != record.prompt_hash:
        terminal.out.print(
            plain("(this file is not the one that was used: its hash differs)", style="yellow")
        )
    user = "".join(slots[part] if place % 2 else part for place, part in enumerate(template.user))
    terminal.out.print(plain(f"system: {template.system}\nuser: {user}"))


def _show_text(terminal: Terminal, record: AnswerRecord) -> None:
    """Print the answer's text with the marks behind its sentences."""
    at = 0
    for sentence in record.sentences:
        text = record.text[at : sentence.end]
        terminal.out.print(with_bold(text), end="")
        terminal.out.print(mark_of(sentence, after=text), end="")
        at = sentence.end
    terminal.out.print(with_bold(record.text[at:]))
    live_only = bool(record.elements) and not record.sentences
    show_remarks(terminal, record, record.sentences, live_only=live_only)
    reason = record.finish_reason or record.error_code or ""
    terminal.out.print(plain(f"({record.outcome}: {reason})", style="dim"))


def _show_verdict(terminal: Terminal, stored: StoredVerdict) -> None:
    verdict = stored.verdict
    style = "green" if verdict.label is VerdictLabel.GOOD else "red"
    at, label = (f"{stored.at:%Y-%m-%d %H:%M}  ", "dim"), (f"{verdict.label.value:<5}", style)
    rest = f" {stored.answer_id}  {stored.agent}  {', '.join(verdict.reasons)}"
    terminal.out.print(styled(at, label, (rest, "")))
    if verdict.better_text:
        terminal.out.print(plain(f"      better: {verdict.better_text}"))


def erase_patient(options: GlobalOptions, *, tenant: str, member: str) -> None:
    """Destroy the key of the patient's texts and print the receipt. Raises ConfigurationError."""
    if not any(character.isalnum() for character in member):
        raise ConfigurationError("--member has neither a letter nor a digit; give the member number.")
    erased, terminal = asyncio.run(_erase(options, tenant, member)), Terminal()
    if options.json:
        terminal.json(asdict(erased))
        return
    if erased.had_key or erased.texts:
        key = "The key is destroyed" if erased.had_key else "The key was destroyed before"
        terminal.out.print(f"{key}. Texts that nobody can read any more: {len(erased.texts)}.", markup=False)
    else:
        terminal.out.print("No words were kept under this number.", markup=False)
    for name in (erased.subject, *erased.texts):
        terminal.out.print(f"  {name}", markup=False)


async def _erase(options: GlobalOptions, tenant: str, member: str) -> Erased:
    from assistant.wiring.feedback import open_erasing

    config = options.tenant(tenant)
    state_dir = options.state_dir.resolve()
    async with open_erasing(config, tenants_dir=options.tenants_dir, state_dir=state_dir) as erase:
        return await erase(member)
