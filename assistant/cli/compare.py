"""``assistant models compare``: candidates of a file on the same questions and load; one table, one page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from assistant.answering.generate import FileTokenCounter, load_prompt
from assistant.answering.ports import TokenCounter
from assistant.answering.services import ServedModel, TenantServices
from assistant.cli.evaluate import committed
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty, require_knowledge
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.terminal import Terminal, plain, table
from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation.questions import EvaluationQuestion, draw, load_questions
from assistant.model_artifacts import TOKENIZER_FILE
from assistant.private_files import make_private_folder, write_private
from assistant.settings.model_artifacts import WRITER
from assistant.settings.toml_file import read_strict
from assistant.tuning.comparison import (
    Answerer,
    Candidate,
    CandidatesFile,
    Comparison,
    Measured,
    MeasuredFile,
    Stopped,
    services_of,
)
from assistant.tuning.comparison_report import HEADINGS, Row, cells, comparison_page, rows_of, said
from assistant.wiring.services import open_tenants

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_DRAW_SEED = "compare"


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """The options of the command."""

    tenant: str
    candidates: Path
    questions: Path | None
    drawn: int | None
    name: str


def compare_models(options: GlobalOptions, plan: ComparisonPlan) -> None:
    """Ask, write every measurement down, and show the table. A second call with the same name goes on.

    Raises ConfigurationError naming file and line, NotFoundError, and what stores and endpoints raise.
    """
    if not _NAME.fullmatch(plan.name):
        raise ConfigurationError(f"--name {plan.name}: use letters, digits, dots, hyphens and underscores.")
    terminal = Terminal()
    candidates = read_strict(plan.candidates, CandidatesFile).candidates
    for one in candidates:
        if one.prompt is not None:
            load_prompt(one.prompt)
    questions = _questions(options, plan)
    folder = options.state_dir / "evaluations"
    make_private_folder(folder)
    file = MeasuredFile(folder / f"compare-{plan.name}.jsonl")
    file.read()  # report a damaged file before anything starts
    runtime = local_runtime(options, terminal)
    _require_writer(runtime, plan.tenant, candidates)
    needs_llm = any(one.kind == "local" for one in candidates)
    processes = runtime.layout.everything if needs_llm else runtime.layout.for_loading
    with runtime.processes(processes, command="assistant models compare") as ports:
        asyncio.run(load_if_empty(runtime, plan.tenant))
        measured, stopped = asyncio.run(_compare(runtime, ports, plan, candidates, questions, file))
    rows = rows_of(candidates, measured, questions)
    page = folder / f"compare-{plan.name}.html"
    made_at = datetime.now(UTC)
    html = comparison_page(rows, stopped, tenant=plan.tenant, questions=len(questions), made_at=made_at)
    write_private(page, html.encode())
    _show(terminal, options, rows, stopped, page)


def _questions(options: GlobalOptions, plan: ComparisonPlan) -> Sequence[EvaluationQuestion]:
    options.tenant(plan.tenant)
    path = plan.questions or committed(options) / f"{plan.tenant}.jsonl"
    if not path.is_file():
        raise NotFoundError(f"There is no file of questions {path}. Name one with --questions.")
    every = load_questions(path)
    if not every:
        raise ConfigurationError(f"{path} holds no question.")
    return every if plan.drawn is None else draw(every, count=plan.drawn, seed=_DRAW_SEED)


def _require_writer(runtime: LocalRuntime, tenant: str, candidates: Sequence[Candidate]) -> None:
    """Raise ConfigurationError where a candidate needs a local model and none is chosen that may write."""
    local = [one.name for one in candidates if one.kind == "local"]
    models = runtime.layout.models.get(tenant)
    if local and (models is None or not models.writes(runtime.tenants[tenant])):
        raise ConfigurationError(
            f'Candidate "{local[0]}" asks the local model of {tenant}, but none may write here. Add one: '
            f"assistant models add PATH --tenant {tenant} --writes-answers"
        )


async def _compare(
    runtime: LocalRuntime,
    ports: Mapping[str, int],
    plan: ComparisonPlan,
    candidates: Sequence[Candidate],
    questions: Sequence[EvaluationQuestion],
    file: MeasuredFile,
) -> tuple[list[Measured], list[Stopped]]:
    async with _opened(runtime, ports, plan.tenant, candidates) as answerers:
        comparison = Comparison(answerers=answerers, questions=questions, file=file, say=runtime.terminal.say)
        return await comparison.run()


@asynccontextmanager
async def _opened(
    runtime: LocalRuntime, ports: Mapping[str, int], tenant: str, candidates: Sequence[Candidate]
) -> AsyncGenerator[list[Answerer]]:
    """Open the tenant's answer path once, and each candidate's endpoint."""
    settings = runtime.layout.service_settings(ports)
    generates = any(one.kind == "local" for one in candidates)
    async with AsyncExitStack() as stack:
        opening = open_tenants(settings, only=[tenant], generates=generates, clock=SystemClock())
        served = (await stack.enter_async_context(opening))[tenant]
        await require_knowledge(tenant, served.knowledge)
        config = served.answering.tenant
        counter = FileTokenCounter(settings.model_artifacts_dir / config.embedding.model / TOKENIZER_FILE)
        yield [
            Answerer(one, services_of(one, await _with_endpoint(one, served.answering, counter, stack)))
            for one in candidates
        ]


async def _with_endpoint(
    candidate: Candidate, services: TenantServices, counter: TokenCounter, stack: AsyncExitStack
) -> TenantServices:
    """Return the services over the candidate's own endpoint, if it has one."""
    if candidate.kind == "local":
        return services
    unknown = ServedModel(candidate.name, None, 0, 0, prompt=WRITER.prompt, passages=WRITER.passages)
    services = replace(services, token_counter=counter, model=unknown)
    if candidate.kind != "sagemaker":
        return services
    from assistant.aws.sagemaker import SageMakerGenerator, open_sagemaker_runtime

    runtime = await stack.enter_async_context(open_sagemaker_runtime(region=candidate.region or ""))
    return replace(services, generator=SageMakerGenerator(runtime, endpoint=candidate.endpoint or ""))


def _show(
    terminal: Terminal, options: GlobalOptions, rows: Sequence[Row], stopped: Sequence[Stopped], page: Path
) -> None:
    if options.json:
        plain_rows = [asdict(row) | {"candidate": row.candidate.model_dump()} for row in rows]
        terminal.json({"rows": plain_rows, "stopped": [asdict(one) for one in stopped], "page": str(page)})
        return
    name, *figures = zip(HEADINGS, *(cells(row) for row in rows), strict=True)
    terminal.out.print(
        table(*name, right=name[1:], rows=figures)
    )  # a terminal is narrow: candidates as columns
    for one in stopped:
        terminal.out.print(plain(f"stopped: {said(one)}"))
    terminal.out.print(plain(f"Page: {page}", style="bold"))
