"""``assistant knowledge prepare``: makes a corpus for training of a tenant's documents, in a new folder:

    manifest.json   {"tenant": "pharmacy", "rows": {"wiki": 812}, "left_out": {…}, "mix": {"wiki": 1.0}, …}
    rows/*.parquet  the rows (``corpus.CorpusRow``)

Of a deployment (``--deployed``) it lists the documents for the job on EMR Serverless, which makes the rows
(``containers/corpus_job``, started as models_lab.md says):

    manifest.json   {"tenant": "pharmacy", "documents": 1204, "mix": {"wiki": 1.0}, …}
    wanted/*.jsonl  a ``WantedDocument`` a line
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from typer import Option

from assistant.documents.sources import KnowledgeSources
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.options.models_lab import corpus
from assistant.process.private_files import make_private_folder, write_private
from assistant.process.settings import PreparingSettings
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain

WEIGHT = "How much of a source: 0 none, 0.5 half of its documents, 2 each read twice. Default 1. Repeatable."


def prepare(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="FOLDER", help="New folder.")],
    weight: Annotated[list[str] | None, Option(metavar="SOURCE=N", help=WEIGHT)] = None,
    deployed: Annotated[
        bool,
        Option("--deployed", help="Of a deployment, which ASSISTANT_PREPARE_… names: inside its network."),
    ] = False,
) -> None:
    """Make a corpus for training: cleaned texts without near-duplicates, mixed by weight, as Parquet. Of a
    deployment: the list of documents that the job on EMR Serverless reads."""
    options, out, weights = GlobalOptions.of(context), out.absolute(), weight or ()
    if out.exists():
        raise ConflictError(f"{out} exists. Name a new folder: a corpus is never changed.")
    make_private_folder(out.parent)
    # The folder gets its name at the end: it is whole, or there is none.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as draft:
        folder = Path(draft) / out.name
        make_private_folder(folder)
        if deployed:
            result = asyncio.run(_list_wanted(options.preparing(), tenant, folder, weights=weights))
        else:
            result = asyncio.run(_here(options, options.tenant(tenant), folder, weights=weights))
        facts = {"tenant": tenant, "made_at": datetime.now(UTC), **result}
        facts |= {"reader": corpus.READER_VERSION, "similar_from": corpus.SIMILAR_FROM}
        write_private(folder / corpus.MANIFEST, orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        folder.rename(out)
    if options.writes(facts):
        return
    for source, count in result.get("rows", {}).items():
        Terminal().say(f"{source}: {count:,} rows, weight {result['mix'][source]:g}")
    for reason, count in result.get("left_out", {}).items():
        Terminal().say(f"left out: {count:,} {reason}")
    Terminal().out.print(plain(str(out / (corpus.WANTED if deployed else corpus.ROWS))))


async def _here(
    options: GlobalOptions, tenant: TenantConfig, folder: Path, *, weights: Sequence[str]
) -> dict[str, Any]:
    """Write the rows into ``folder``; return ``rows``, ``left_out`` and ``mix`` of the manifest."""
    from assistant.options.models_lab.corpus_here import write_corpus

    sources, processes = KnowledgeSources.of(tenant), os.cpu_count() or 1
    mix = corpus.mix_of(weights, sources=sources)
    async with options.stores(tenant.name) as stores:
        wanted = corpus.wanted_documents(stores.knowledge.states, sources=sources, mix=mix)
        counts = await write_corpus(
            folder, wanted, documents=stores.knowledge.documents, mix=mix, processes=processes
        )
    if not counts["rows"]:
        raise InvalidRequestError(f"No document became a row. Left out: {counts['left_out'] or 'none'}.")
    return {**counts, "mix": mix}


async def _list_wanted(
    settings: PreparingSettings, tenant: str, folder: Path, *, weights: Sequence[str]
) -> dict[str, Any]:
    """Write the list of a deployment's documents into ``folder``; return ``documents``, their number, and
    ``mix``."""
    from assistant.options.desk.opened import open_deployed_learning

    total, parts = 0, folder / corpus.WANTED
    make_private_folder(parts)
    async with open_deployed_learning(settings, tenant) as stores:
        sources = KnowledgeSources.of(stores.tenant)
        mix = corpus.mix_of(weights, sources=sources)
        async for page in corpus.wanted_documents(stores.states, sources=sources, mix=mix):
            lines = b"".join(orjson.dumps(wanted, option=orjson.OPT_APPEND_NEWLINE) for wanted in page)
            write_private(parts / f"part-{total:09}.jsonl", lines)
            total += len(page)
    if not total:
        raise InvalidRequestError("No document answers now, so there is nothing to make a corpus of.")
    return {"documents": total, "mix": mix}
