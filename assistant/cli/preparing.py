"""``assistant knowledge prepare``: makes a corpus for training of a tenant's documents."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from typer import Option

from assistant.cli.terminal import GlobalOptions, Tenant, Terminal, pairs_of, table
from assistant.domain.errors import ConfigurationError, ConflictError, InvalidRequestError
from assistant.knowledge.corpus import MANIFEST, READER_VERSION, ROWS, SIMILAR_FROM, mix_of, wanted_documents
from assistant.knowledge.sources import KnowledgeSources
from assistant.private_files import make_private_folder, write_private
from assistant.settings.tenant import TenantConfig

Counts = dict[str, dict[str, int]]
WEIGHT = "How much of a source: 0 none, 0.5 half of its documents, 2 each read twice. Default 1. Repeatable."
ENGINE = "local: on this machine. emr: the deployment's EMR Serverless application, of its documents."


@dataclass(frozen=True, slots=True)
class _Corpus:
    """What is asked for."""

    tenant: TenantConfig
    out: Path
    mix: Mapping[str, float]

    def write_manifest(self, folder: Path, counts: Counts, **facts: Any) -> dict[str, Any]:
        manifest = {
            "schema_version": 1,
            "tenant": self.tenant.name,
            "made_at": datetime.now(UTC),
            "reader": READER_VERSION,
            "similar_from": SIMILAR_FROM,
            "mix": self.mix,
            **counts,
            **facts,
        }
        write_private(folder / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        return manifest


def prepare(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="FOLDER", help="New folder; emr writes its manifest alone there.")],
    engine: Annotated[Literal["local", "emr"], Option(help=ENGINE)] = "local",
    weight: Annotated[list[str] | None, Option(metavar="SOURCE=N", help=WEIGHT)] = None,
    processes: Annotated[
        int | None,
        Option(min=1, max=64, metavar="N", help="Parsing processes, of local. Default: one a core."),
    ] = None,
    limit_minutes: Annotated[
        int, Option(min=5, max=10_080, metavar="MIN", help="The job is cancelled after it, of emr.")
    ] = 720,
) -> None:
    """Make a corpus for training: cleaned texts without near-duplicates, mixed by weight, as Parquet."""
    options = GlobalOptions.of(context)
    if out.exists():
        raise ConflictError(f"{out} exists. Name a new folder: a corpus is never changed.")
    config = options.tenant(tenant)
    mix = mix_of(pairs_of("--weight", weight or (), form="SOURCE=N"), sources=KnowledgeSources.of(config))
    corpus = _Corpus(config, out, mix)
    if engine == "emr":
        manifest = asyncio.run(_on_emr(options, corpus, limit_minutes=limit_minutes))
    else:
        manifest = asyncio.run(_here(options, corpus, processes=processes or os.cpu_count() or 1))
    if options.writes(manifest):
        return
    rows = [(name, f"{count:,}", f"{mix[name]:g}") for name, count in manifest["rows"].items()]
    Terminal().out.print(table("source", "rows", "weight", right=("rows", "weight"), rows=rows))
    for reason, count in manifest["left_out"].items():
        Terminal().say(f"left out: {count:,} {reason}")
    Terminal().say(f"{out}: {sum(manifest['rows'].values()):,} rows")


async def _here(options: GlobalOptions, corpus: _Corpus, *, processes: int) -> dict[str, Any]:
    """Make the corpus beside its folder, and rename that when it is whole."""
    from assistant.embedded.corpus import write_corpus

    make_private_folder(corpus.out.absolute().parent)
    with tempfile.TemporaryDirectory(dir=corpus.out.absolute().parent, prefix=".corpus-") as making:
        folder = Path(making) / "corpus"
        make_private_folder(folder)
        async with options.stores(corpus.tenant.name) as stores:
            sources = KnowledgeSources.of(corpus.tenant)
            wanted = wanted_documents(stores.states, sources=sources, mix=corpus.mix)
            counts = await write_corpus(
                folder, wanted, documents=stores.documents, mix=corpus.mix, processes=processes
            )
        if not any(counts["rows"].values()):
            told = ", ".join(f"{count} {reason}" for reason, count in counts["left_out"].items())
            raise InvalidRequestError(f"No document became a row ({told or 'none answers now'}).")
        manifest = corpus.write_manifest(folder, counts, engine="local", folder=ROWS)
        folder.rename(corpus.out)
    return manifest


async def _on_emr(options: GlobalOptions, corpus: _Corpus, *, limit_minutes: int) -> dict[str, Any]:
    from assistant.aws.corpus_jobs import CorpusJobs
    from assistant.wiring.clients import open_clients
    from assistant.wiring.stores import STATES, AwsStores, read_tenants

    settings, say = options.preparing(), Terminal().say
    names = ("corpus_bucket", "corpus_application", "corpus_role")
    if missing := [settings.variable(name) for name in names if not getattr(settings, name)]:
        raise ConfigurationError(
            f"{', '.join(missing)}: needed; outputs of the corpus stack have the values."
        )
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_clients(settings))
        tenant = (await read_tenants(settings, clients)).one(corpus.tenant.name)
        states = await AwsStores(clients, settings, stack=stack, tenant=tenant.name).of(STATES)
        jobs = CorpusJobs(
            await clients.aws("emr-serverless"),
            await clients.aws("s3"),
            bucket=settings.corpus_bucket,
            application_id=settings.corpus_application,
            role_arn=settings.corpus_role,
        )
        name = f"{corpus.out.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        wanted = wanted_documents(states, sources=KnowledgeSources.of(tenant), mix=corpus.mix)
        bucket = settings.of_tenant(settings.documents_bucket, tenant)
        documents = {"bucket": bucket, "region": settings.region}
        job_id = await jobs.start(
            name, wanted, documents=documents, mix=corpus.mix, limit_minutes=limit_minutes
        )
        say(f"job {job_id}, logs in s3://{settings.corpus_bucket}/logs/")
        billed = await jobs.follow(job_id, tell=say, limit_s=60.0 * limit_minutes + 600.0)
        make_private_folder(corpus.out)
        facts = {"engine": "emr", "job": job_id, "billed": billed, "folder": f"{jobs.folder(name)}/{ROWS}/"}
        manifest = corpus.write_manifest(corpus.out, await jobs.counts(name), **facts)
        await jobs.finish(name, (corpus.out / MANIFEST).read_bytes())
    return manifest
