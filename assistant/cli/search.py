"""``assistant knowledge search``: the retrieval of the answer path, for one question or a file of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.answering.evidence import Evidence, EvidenceQuery, FindEvidence
from assistant.answering.search import SearchScope
from assistant.cli.local import LocalRuntime, local_runtime, require_knowledge
from assistant.cli.terminal import GlobalOptions, Terminal, cli_reader, plain, styled
from assistant.domain.answers import AccessEntry
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import RankedPassage
from assistant.domain.errors import InvalidRequestError, NotFoundError, UnreadableRequestError
from assistant.evaluation.judging import until_whole
from assistant.wiring.services import open_tenants

LONGEST_LINE_BYTES = 1_000_000
_AT_ONCE = 4
"""Questions in flight: two cores embed no faster with more."""
_BATCH = 200
"""Results that are kept in memory until they are written in their order."""
_DEADLINE_S = 30.0
_ATTEMPTS = 6
_SNIPPET = 160

Find = Callable[[str], Awaitable[Evidence]]
"""Retrieves for one question of a tenant."""


class Query(BaseModel):
    """One line: ``{"qid": …, "question": …}``; other fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    qid: str = Field(min_length=1)
    question: str = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a query."""

    number: int
    """From 1."""
    reason: str


def checked_question(argument: str) -> str:
    """Return a question given as an argument. Raises UnreadableRequestError, InvalidRequestError."""
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:  # Python keeps bytes that are not UTF-8 as lone surrogates
        raise UnreadableRequestError("The question is not UTF-8.") from None
    if not argument.strip():
        raise InvalidRequestError("The question is empty.")
    return argument


def read_queries(path: Path) -> Iterator[Query | BadLine]:
    """Yield each line that is not blank; a second line with the same qid is a bad one.

    Raises NotFoundError when there is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file.")
    seen: set[str] = set()
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE_BYTES + 1):
            number += 1
            if len(line) > LONGEST_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_LINE_BYTES)
                yield BadLine(number, f"longer than {LONGEST_LINE_BYTES:,} bytes")
            elif line.strip():
                yield _read(number, line, seen)


def _read(number: int, line: bytes, seen: set[str]) -> Query | BadLine:
    try:
        query = Query.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        return BadLine(number, ": ".join([*map(str, first["loc"]), first["msg"]]))
    if not query.question.strip():
        return BadLine(number, "question: it is empty")
    if query.qid in seen:
        return BadLine(number, f"qid {query.qid} came before")
    seen.add(query.qid)
    return query


def search_once(options: GlobalOptions, *, tenant: str, question: str, top: int) -> None:
    """Show the best documents of one question, each by its best passage."""
    options.tenant(tenant)
    checked_question(question)
    terminal = Terminal()
    runtime = local_runtime(options, terminal)
    with runtime.processes(runtime.layout.for_search, command="assistant knowledge search") as ports:
        best = asyncio.run(_search_one(runtime, ports, tenant=tenant, question=question, top=top))
    if options.json:
        terminal.json({"question": question, "documents": [_row(one) for one in best]})
    else:
        _show(terminal, best)


def search_file(options: GlobalOptions, *, tenant: str, queries: Path, top: int, out: Path) -> None:
    """Write a line of document ids for every query, or no file at all; status 1 if a line is invalid."""
    options.tenant(tenant)
    terminal = Terminal()
    read = list(read_queries(queries))
    good = [one for one in read if isinstance(one, Query)]
    bad = [one for one in read if isinstance(one, BadLine)]
    runtime = local_runtime(options, terminal)
    part = out.with_name(f".{out.name}.part")
    try:
        with runtime.processes(runtime.layout.for_search, command="assistant knowledge search") as ports:
            asyncio.run(_search_all(runtime, ports, tenant=tenant, queries=good, top=top, part=part))
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    for line in bad:
        terminal.err.print(plain(f"{queries}:{line.number}: {line.reason}", style="red"))
    if options.json:
        terminal.json({"answered": len(good), "bad_lines": [one.number for one in bad]})
    else:
        terminal.err.print(f"{len(good):,} questions answered in {out}, {len(bad):,} bad lines", markup=False)
    if bad:
        raise typer.Exit(1)


def best_passages(found: Evidence) -> list[RankedPassage]:
    """Return each document's best passage, in the order of documents."""
    best: dict[str, RankedPassage] = {}
    for ranked in found.retrieved.passages:
        best.setdefault(ranked.passage.document_id, ranked)
    return [best[one.document_id] for one in found.ranked if one.document_id in best]


@asynccontextmanager
async def _search_of(runtime: LocalRuntime, ports: Mapping[str, int], *, tenant: str) -> AsyncGenerator[Find]:
    """Yield the tenant's retrieval, which retries while the endpoint is overloaded.

    Raises ConfigurationError when the tenant has no knowledge.
    """
    clock = SystemClock()
    settings = runtime.layout.service_settings(ports)
    async with open_tenants(settings, only=(tenant,), generates=False, clock=clock) as tenants:
        served = tenants[tenant]
        await require_knowledge(tenant, served.knowledge)
        evidence = FindEvidence(served.answering)
        size = 2 * served.answering.tenant.retrieval.leg_size  # the most that both legs return

        async def find(question: str) -> Evidence:
            async def once() -> tuple[Evidence, Sequence[str]]:
                scope = SearchScope.untraced(Deadline.after(_DEADLINE_S, clock=clock), size=size)
                vector = (await evidence.search.embed([question], scope))[0]
                return await evidence.find(EvidenceQuery(question, vector), scope), ()

            return (await until_whole(once, attempts=_ATTEMPTS))[0]

        yield find


async def _search_one(
    runtime: LocalRuntime, ports: Mapping[str, int], *, tenant: str, question: str, top: int
) -> list[RankedPassage]:
    """Return the best passages, after the access to them is recorded."""
    async with _search_of(runtime, ports, tenant=tenant) as find:
        best = best_passages(await find(question))[:top]
    entry = AccessEntry(
        at=SystemClock().now(),
        agent=cli_reader(),
        kind="search",
        subject_id="search",
        documents=tuple(one.passage.document_id for one in best),
    )
    async with runtime.options.stores(tenant) as stores:
        await stores.records.record_access(entry)
    return best


async def _search_all(
    runtime: LocalRuntime,
    ports: Mapping[str, int],
    *,
    tenant: str,
    queries: Sequence[Query],
    top: int,
    part: Path,
) -> None:
    free = asyncio.Semaphore(_AT_ONCE)
    async with _search_of(runtime, ports, tenant=tenant) as find:

        async def line(query: Query) -> bytes:
            async with free:
                best = best_passages(await find(query.question))[:top]
            ids = [ranked.passage.document_id for ranked in best]
            return orjson.dumps({"qid": query.qid, "ids": ids}, option=orjson.OPT_APPEND_NEWLINE)

        with runtime.terminal.counting("searching", "questions") as show, part.open("wb") as file:
            for start in range(0, len(queries), _BATCH):
                batch = queries[start : start + _BATCH]
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(line(query)) for query in batch]
                file.writelines(task.result() for task in tasks)
                show(start + len(batch), len(queries))


def _row(ranked: RankedPassage) -> dict[str, object]:
    passage = ranked.passage
    return {
        "document_id": passage.document_id,
        "title": passage.title,
        "url": passage.url,
        "passage_id": passage.passage_id,
        "fused_score": ranked.fused_score,
        "lexical_score": ranked.lexical_score,
        "cosine": ranked.cosine,
        "text": passage.text,
    }


def _show(terminal: Terminal, best: Sequence[RankedPassage]) -> None:
    if not best:
        terminal.out.print("Nothing found.")
    for number, ranked in enumerate(best, start=1):
        passage, snippet = ranked.passage, " ".join(ranked.passage.text.split())
        scores = f"BM25 {_score(ranked.lexical_score, 2)}, cosine {_score(ranked.cosine, 3)}"
        title = (f"{number:>3}  {passage.title}", "bold")
        terminal.out.print(styled(title, (f"  {passage.document_id}  {scores}", "dim")))
        terminal.out.print(plain(f"     {snippet[:_SNIPPET]}{'…' if len(snippet) > _SNIPPET else ''}"))


def _score(score: float | None, digits: int) -> str:
    return "-" if score is None else f"{score:.{digits}f}"
