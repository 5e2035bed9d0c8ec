"""``assistant knowledge prepare``: lists a deployment's documents for the job that makes a corpus of them
(``containers/corpus_job``, started as models_lab.md says), in a new folder:

    manifest.json   {"tenant": "pharmacy", "documents": 1204, "mix": {"wiki": 1.0}, …}
    wanted/*.jsonl  a ``WantedDocument`` a line
"""

from __future__ import annotations

import asyncio
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
from assistant.stores.documents import STATES
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain

WEIGHT = "How much of a source: 0 none, 0.5 half of its documents, 2 each read twice. Default 1. Repeatable."


def prepare(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="FOLDER", help="New folder.")],
    weight: Annotated[list[str] | None, Option(metavar="SOURCE=N", help=WEIGHT)] = None,
) -> None:
    """List the documents of a deployment, which ASSISTANT_PREPARE_… names, for the job on EMR Serverless that
    makes a corpus for training: inside the deployment's network."""
    options, out = GlobalOptions.of(context), out.absolute()
    if out.exists():
        raise ConflictError(f"{out} exists. Name a new folder: a corpus is never changed.")
    make_private_folder(out.parent)
    # The folder gets its name at the end: it is whole, or there is none.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as draft:
        folder = Path(draft) / out.name
        make_private_folder(folder)
        listed = asyncio.run(_list_wanted(options.preparing(), tenant, folder, weights=weight or ()))
        facts = {"tenant": tenant, "made_at": datetime.now(UTC), **listed}
        facts |= {"reader": corpus.READER_VERSION, "similar_from": corpus.SIMILAR_FROM}
        write_private(folder / corpus.MANIFEST, orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        folder.rename(out)
    if not options.writes(facts):
        Terminal().out.print(plain(str(out / corpus.WANTED)))


async def _list_wanted(
    settings: PreparingSettings, tenant: str, folder: Path, *, weights: Sequence[str]
) -> dict[str, Any]:
    """Write the list of a deployment's documents into ``folder``; return ``documents``, their number, and
    ``mix``."""
    from assistant.stores.opened import open_deployed

    total, parts = 0, folder / corpus.WANTED
    make_private_folder(parts)
    async with open_deployed(settings, tenant) as (config, stores):
        sources, states = KnowledgeSources.of(config), await stores.of(STATES)
        mix = corpus.mix_of(weights, sources=sources)
        async for page in corpus.wanted_documents(states, sources=sources, mix=mix):
            lines = b"".join(orjson.dumps(wanted, option=orjson.OPT_APPEND_NEWLINE) for wanted in page)
            write_private(parts / f"part-{total:09}.jsonl", lines)
            total += len(page)
    if not total:
        raise InvalidRequestError("No document answers now, so there is nothing to make a corpus of.")
    return {"documents": total, "mix": mix}
