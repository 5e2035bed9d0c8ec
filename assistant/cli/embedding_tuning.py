"""``assistant learn pairs`` and ``learn embedding``: pairs for tuning the embedding model, and the gate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import typer

from assistant.answering.ports import PassageSearch
from assistant.cli.evaluate import EvaluationPlan, TenantQuestions, committed, open_services, run_questions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.models import ModelOptions, add_model, use_model
from assistant.cli.ranking import show_checks
from assistant.cli.terminal import GlobalOptions, Terminal, plain, table
from assistant.cli.training_sets import show_set
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.desk import ApprovedAnswer, DeskKind
from assistant.domain.documents import DocumentState, StoredDocument
from assistant.domain.errors import ConfigurationError, LocalRuntimeError, NotFoundError
from assistant.evaluation.questions import EvaluationQuestion, load_questions
from assistant.evaluation.runs import TenantRun
from assistant.knowledge.reading import pages_of
from assistant.private_files import make_private_folder, write_private
from assistant.settings.local_models import AddedEmbedding
from assistant.text.language import language
from assistant.tuning.gate import (
    EmbeddingReport,
    checks_of,
    count_look,
    gains_of,
    read_tuning_facts,
    refusals,
)
from assistant.tuning.pairs import (
    PAIR_SPLITS,
    PairFacts,
    PairRules,
    PairSets,
    build_pairs,
    write_pairs,
)

_READ_AT_ONCE = 20
_DEADLINE_S = 30.0
_TO_HOLD = (
    DocumentState.LIVE,
    DocumentState.STALE,
    DocumentState.RECEIVED,
    DocumentState.PARSED,
    DocumentState.EMBEDDED,
)
_EMBEDDED_WITHIN_S, _POLL_S = 1_800.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """The options of the command."""

    tenant: str
    out: Path
    rules: PairRules
    questions: Path | None = None
    """In place of the committed ones."""


def export_pairs(options: GlobalOptions, chosen: PairOptions) -> None:
    """Write the pairs and show what is in them, and what was left out.

    Raises InvalidRequestError for too few pairs, NotFoundError, ConfigurationError, ConflictError.
    """
    terminal, (path, questions) = Terminal(), protected_questions(options, chosen)
    runtime = local_runtime(options, terminal)
    with runtime.processes(runtime.layout.for_loading, command="assistant learn pairs") as ports:
        asyncio.run(load_if_empty(runtime, chosen.tenant))
        sets, index_version = asyncio.run(_build(runtime, ports, chosen, questions))
    facts = PairFacts(
        tenant=chosen.tenant,
        index_version=index_version,
        questions_sha256=sha256(path.read_bytes()).hexdigest() if path is not None else "",
        rules=chosen.rules,
    )
    folder = write_pairs(sets, chosen.out, facts)
    if options.json:
        counts = {name: len(sets.pairs[name]) for name in PAIR_SPLITS}
        terminal.json({"folder": str(folder), "pairs": counts, "left_out": dict(sets.left_out)})
        return
    columns = ("split", "pairs", "documents", "kinds")
    show_set(terminal, folder, columns, sets.rows(), left_out=sets.left_out)


def protected_questions(
    options: GlobalOptions, chosen: PairOptions
) -> tuple[Path | None, list[EvaluationQuestion]]:
    """Return the file of evaluation questions with its content; nothing where the tenant has none.

    Raises NotFoundError for a named file that is missing, ConfigurationError naming the line.
    """
    path = chosen.questions or committed(options) / f"{chosen.tenant}.jsonl"
    if path.is_file():
        return path, load_questions(path)
    if chosen.questions is not None:
        raise NotFoundError(f"There is no such file: {path}.")
    return None, []


async def _build(
    runtime: LocalRuntime,
    ports: Mapping[str, int],
    chosen: PairOptions,
    questions: list[EvaluationQuestion],
) -> tuple[PairSets, str]:
    async with runtime.options.stores(chosen.tenant) as stores:
        items = await stores.desk.list(DeskKind.APPROVED_ANSWER)
    approved = {item.item_id: ApprovedAnswer.model_validate_json(item.body) for item in items}
    async with open_services(runtime, ports, [chosen.tenant]) as services:
        search = services[chosen.tenant].search
        documents = await read_documents(search, runtime.options, chosen.tenant)
        index_version = (await search.info()).index_version
    sets = build_pairs(
        documents,
        approved=approved,
        protected=questions,
        language=language(runtime.tenants[chosen.tenant].language),
        rules=chosen.rules,
    )
    return sets, index_version


async def read_documents(search: PassageSearch, options: GlobalOptions, tenant: str) -> list[StoredDocument]:
    """Return the tenant's live documents that carry no access label."""
    async with options.stores(tenant) as stores:
        pages = pages_of(stores.knowledge.states, (DocumentState.LIVE,))
        ids = [status.document_id async for page in pages for status in page]
    found: list[StoredDocument] = []
    for start in range(0, len(ids), _READ_AT_ONCE):
        deadline = Deadline.after(_DEADLINE_S, clock=SystemClock())
        batch = ids[start : start + _READ_AT_ONCE]
        found += (await search.read_documents(batch, labels=frozenset(), deadline=deadline)).values()
    return found


# A tuned model against the one in service


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison:
    """The options of ``learn embedding``."""

    tenant: str
    model: Path
    """A folder that the training job wrote."""
    questions: tuple[Path, ...] = ()
    """In place of the committed ones."""


def compare_embeddings(options: GlobalOptions, chosen: ModelComparison) -> None:
    """Ask both models the questions about unseen documents, and show what the gate says.

    What serves is not touched: both answer in a state folder of their own, from the knowledge that the tenant
    file names. Status 1 where the gate refuses. Raises ConfigurationError, NotFoundError, and what the local
    processes raise.
    """
    terminal = Terminal()
    facts = read_tuning_facts(chosen.model, tenant=chosen.tenant)
    asked, left_out = _unseen_questions(options, chosen, frozenset(facts.held_out))
    folder = options.state_dir / "evaluations"
    make_private_folder(folder)
    apart = replace(options, state_dir=folder / f"embedding-{chosen.tenant}", port=0, json=False)
    model_sha256 = sha256((chosen.model / "model.safetensors").read_bytes()).hexdigest()
    look = count_look(
        folder / "embedding-looks.jsonl", questions_sha256=asked.sha256, model_sha256=model_sha256
    )
    base = options.local_models([chosen.tenant])[chosen.tenant].embedding
    _use_base(apart, chosen.tenant, base)
    before = _answered(apart, terminal, chosen.tenant, asked)
    brought = ModelOptions(chosen.model, f"tuned-{model_sha256[:12]}")
    add_model(apart, tenant=chosen.tenant, brought=brought)
    after = _answered(apart, terminal, chosen.tenant, asked)
    gains, checks = gains_of(before.by_qid, after.by_qid), checks_of(before.by_qid, after.by_qid)
    report = EmbeddingReport(
        tenant=chosen.tenant,
        model_sha256=model_sha256,
        training_set=facts.training_set,
        base_model=before.embedding_model,
        questions_sha256=asked.sha256,
        made_at=datetime.now(UTC),
        look=look,
        left_out=left_out,
        gains=gains,
        checks=checks,
        refused_because=refusals(gains, checks),
    )
    path = folder / f"embedding-{chosen.tenant}-{model_sha256[:12]}.json"
    write_private(path, report.model_dump_json(indent=1).encode())
    if options.json:
        terminal.json(report.model_dump(mode="json"))
    else:
        _show(terminal, report, path)
    if not report.passed:
        raise typer.Exit(1)


def _unseen_questions(
    options: GlobalOptions, chosen: ModelComparison, held_out: frozenset[str]
) -> tuple[TenantQuestions, int]:
    """Return the questions about held-out documents, with all for follow-ups, and how many were left out."""
    paths = chosen.questions or (committed(options) / f"{chosen.tenant}.jsonl",)
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise NotFoundError(f"There is no such file of questions: {', '.join(missing)}.")
    every = [question for path in paths for question in load_questions(path)]
    if len({question.qid for question in every}) < len(every):
        raise ConfigurationError("Two of the files hold the same qid. Rename one.")
    asked = tuple(one for one in every if set(one.documents) <= held_out)
    if not asked:
        raise ConfigurationError(
            f"None of {len(every)} questions asks about a document that the model never saw."
        )
    digest = sha256(b"".join(sha256(path.read_bytes()).digest() for path in sorted(paths))).hexdigest()
    return TenantQuestions(paths[0], digest, tuple(every), asked), len(every) - len(asked)


def _use_base(apart: GlobalOptions, tenant: str, base: AddedEmbedding | None) -> None:
    """Choose in the separate state folder what serves the tenant now."""
    if base is None:
        use_model(apart, tenant=tenant, name=None)
    else:
        add_model(apart, tenant=tenant, brought=ModelOptions(base.path, base.name, pooling=base.pooling))


def _answered(apart: GlobalOptions, terminal: Terminal, tenant: str, asked: TenantQuestions) -> TenantRun:
    """Answer the questions with the model that is chosen in this state folder."""
    runtime = local_runtime(apart, terminal)
    plan = EvaluationPlan((tenant,))
    with runtime.processes(runtime.layout.for_loading, command="assistant learn embedding") as ports:
        asyncio.run(load_if_empty(runtime, tenant))
        asyncio.run(_until_embedded(runtime, ports, tenant))
        return asyncio.run(run_questions(runtime, ports, {tenant: asked}, plan)).tenants[0]


async def _until_embedded(runtime: LocalRuntime, ports: Mapping[str, int], tenant: str) -> None:
    """Wait until the chosen model's index holds every document. Raises LocalRuntimeError.

    The worker enqueues what its index lacks some time after it started.
    """
    async with runtime.options.stores(tenant) as stores:
        counts = await stores.knowledge.states.count_by_state()
    wanted = sum(counts.get(state, 0) for state in _TO_HOLD)  # one that is enqueued again is not live
    ends_s, held = time.monotonic() + _EMBEDDED_WITHIN_S, 0
    with runtime.terminal.counting(f"embedding {tenant}", "documents") as show:
        while time.monotonic() < ends_s:
            async with open_services(runtime, ports, [tenant]) as services:
                held = (await services[tenant].search.info()).document_count
            show(held, wanted)
            if held >= wanted:
                return
            await asyncio.sleep(_POLL_S)
    raise LocalRuntimeError(
        f"The index of {tenant} holds {held} of {wanted} documents after {_EMBEDDED_WITHIN_S:.0f} s. "
        "Run the command again: it goes on."
    )


def _show(terminal: Terminal, report: EmbeddingReport, path: Path) -> None:
    numbers = ("n", "before", "after", "points", "95 %")
    rows = [
        (
            gain.name,
            str(gain.difference.questions),
            f"{gain.before:.1%}",
            f"{gain.after:.1%}",
            f"{100 * gain.difference.value:+.1f}",
            f"{100 * gain.difference.low:+.1f} to {100 * gain.difference.high:+.1f}",
        )
        for gain in report.gains
    ]
    terminal.out.print(table("measure", *numbers, right=numbers, rows=rows))
    show_checks(terminal, f"look {report.look} of {report.looks_allowed}", report.checks)
    if report.left_out:
        terminal.out.print(plain(f"{report.left_out} questions left out: the model saw their documents."))
    for reason in report.refused_because:
        terminal.out.print(plain(f"refused: {reason}", style="yellow"))
    verdict = "The gate lets it pass" if report.passed else "The gate refuses it"
    terminal.out.print(plain(f"{verdict}. Report: {path}", style="bold"))
