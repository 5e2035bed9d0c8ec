"""``assistant knowledge prepare``: makes a corpus for training of a tenant's documents, in a new folder:

    manifest.json   {"tenant": "pharmacy", "engine": "local", "rows": {"wiki": 812}, "left_out": {…},
                     "mix": {"wiki": 1.0}, …}
    rows/*.parquet  the rows (``corpus.CorpusRow``); of ``--engine emr`` they stay in the bucket

On AWS the tenant's EMR Serverless application runs ``containers/corpus_job``:
https://docs.aws.amazon.com/emr-serverless/latest/APIReference/API_StartJobRun.html
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer
from typer import Option

from assistant.documents.sources import KnowledgeSources
from assistant.domain.errors import ConfigurationError, ConflictError, DeploymentError, InvalidRequestError
from assistant.options.models_lab import corpus
from assistant.process.private_files import make_private_folder, write_private
from assistant.process.settings import PreparingSettings
from assistant.tenant.deployed_names import CORPORA
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain

if TYPE_CHECKING:
    from assistant.terminal.account import AwsAccount

WEIGHT = "How much of a source: 0 none, 0.5 half of its documents, 2 each read twice. Default 1. Repeatable."
ENGINE = "local: on this machine. emr: the deployment's EMR Serverless application, of its documents."
_POLL_S, _GRACE_S = 15.0, 600.0
"""Between two looks at a job; beyond its own limit, in which EMR cancels it."""
_DOCUMENTS_A_TASK = 2_000
"""Some 10 s of work: a lost worker costs little, and starting a task is 1 % of it."""


def prepare(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="FOLDER", help="New folder; emr writes its manifest alone there.")],
    engine: Annotated[Literal["local", "emr"], Option(help=ENGINE)] = "local",
    weight: Annotated[list[str] | None, Option(metavar="SOURCE=N", help=WEIGHT)] = None,
    limit_minutes: Annotated[
        int, Option(min=5, max=10_080, metavar="MIN", help="The job is cancelled after it, of emr.")
    ] = 720,
) -> None:
    """Make a corpus for training: cleaned texts without near-duplicates, mixed by weight, as Parquet."""
    options, out, weights = GlobalOptions.of(context), out.absolute(), weight or ()
    if out.exists():
        raise ConflictError(f"{out} exists. Name a new folder: a corpus is never changed.")
    make_private_folder(out.parent)
    # The folder gets its name at the end: it is whole, or there is none.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as draft:
        folder = Path(draft) / out.name
        make_private_folder(folder)
        if engine == "emr":
            result = _on_emr(options.preparing(), tenant, weights=weights, limit_minutes=limit_minutes)
        else:
            result = asyncio.run(_here(options, options.tenant(tenant), folder, weights=weights))
        if not result["rows"]:
            raise InvalidRequestError(f"No document became a row. Left out: {result['left_out'] or 'none'}.")
        facts = {"tenant": tenant, "made_at": datetime.now(UTC), "engine": engine, **result}
        facts |= {"reader": corpus.READER_VERSION, "similar_from": corpus.SIMILAR_FROM}
        write_private(folder / corpus.MANIFEST, orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        folder.rename(out)
    if options.writes(facts):
        return
    for source, count in result["rows"].items():
        Terminal().say(f"{source}: {count:,} rows, weight {result['mix'][source]:g}")
    for reason, count in result["left_out"].items():
        Terminal().say(f"left out: {count:,} {reason}")
    Terminal().out.print(plain(str(result.get("folder", out / corpus.ROWS))))


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
    return {**counts, "mix": mix}


def _on_emr(
    settings: PreparingSettings, tenant: str, *, weights: Sequence[str], limit_minutes: int
) -> dict[str, Any]:
    """Start the job, print its states, and return what it made, as ``_here`` does, with ``folder``, ``job``
    and ``billed``.

    The job (``containers/corpus_job/job.py``) takes one argument, JSON: the folder in the bucket, where it
    finds the wanted documents and writes rows and counts, the bucket of documents, the region, the weights,
    and the number of Spark's partitions.

    The role of whoever calls needs emr-serverless:StartJobRun and GetJobRun on the application, iam:PassRole
    on the job's role, and s3:PutObject and GetObject on the corpora.
    """
    from assistant.options.desk.opened import open_deployed_learning
    from assistant.terminal.account import AwsAccount

    bucket, application = settings.corpus_bucket, settings.corpus_application
    if not (bucket and application and settings.corpus_role):
        names = map(settings.variable, ("corpus_bucket", "corpus_application", "corpus_role"))
        raise ConfigurationError(f"{', '.join(names)} are needed: the corpus stack has them as outputs.")
    aws, say = AwsAccount(account="", region=settings.region), Terminal().say
    name = f"{tenant}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    key = f"{CORPORA}{name}"

    async def put_wanted() -> tuple[Mapping[str, float], int]:
        """Write the ids of the documents for the job; return the weight of each source, and their number."""
        total, part = 0, 0
        async with open_deployed_learning(settings, tenant) as stores:
            sources = KnowledgeSources.of(stores.tenant)
            mix = corpus.mix_of(weights, sources=sources)
            async for page in corpus.wanted_documents(stores.states, sources=sources, mix=mix):
                lines = b"".join(orjson.dumps(wanted, option=orjson.OPT_APPEND_NEWLINE) for wanted in page)
                place = {"Bucket": bucket, "Key": f"{key}/{corpus.WANTED}/part-{part:06}.jsonl"}
                await asyncio.to_thread(aws.call, "s3", "put_object", **place, Body=lines)
                total, part = total + len(page), part + 1
        return mix, total

    mix, total = asyncio.run(put_wanted())
    if not total:
        raise InvalidRequestError("No document answers now, so there is nothing to make a corpus of.")
    documents = settings.documents_bucket.replace("{tenant}", tenant)
    order = {"folder": f"s3://{bucket}/{key}", "bucket": documents, "region": settings.region, "mix": mix}
    argument = orjson.dumps({**order, "partitions": -(-total // _DOCUMENTS_A_TASK)}).decode()  # rounded up
    submit = {"entryPoint": "local:///opt/assistant/job.py", "entryPointArguments": [argument]}
    start: dict[str, Any] = {"applicationId": application, "executionRoleArn": settings.corpus_role}
    start |= {"name": name, "clientToken": name, "executionTimeoutMinutes": limit_minutes}
    job = aws.call("emr-serverless", "start_job_run", **start, jobDriver={"sparkSubmit": submit})["jobRunId"]
    say(f"{total:,} documents, job {job}, logs in s3://{bucket}/logs/applications/{application}/jobs/{job}/")
    ended = _ended(aws, application, job, until_s=time.monotonic() + 60.0 * limit_minutes + _GRACE_S)
    counts = aws.call("s3", "get_object", Bucket=bucket, Key=f"{key}/{corpus.COUNTS}/part-00000")["Body"]
    facts: dict[str, Any] = {"folder": f"s3://{bucket}/{key}/{corpus.ROWS}/", "job": job}
    facts |= {"mix": mix, "billed": ended.get("billedResourceUtilization")}
    return {**orjson.loads(counts.read()), **facts}


def _ended(aws: AwsAccount, application: str, job: str, *, until_s: float) -> Mapping[str, Any]:
    """Print each new state of a job, and return the job (GetJobRun) when it succeeded. ``until_s``: by
    ``time.monotonic``. Raises DeploymentError."""
    state = ""
    while True:
        run = aws.call("emr-serverless", "get_job_run", applicationId=application, jobRunId=job)["jobRun"]
        if run["state"] != state:
            Terminal().say(state := str(run["state"]))
        if state == "SUCCESS":
            return run
        if state in ("FAILED", "CANCELLED") or time.monotonic() > until_s:
            why = run.get("stateDetails") or "no reason is given"
            raise DeploymentError(f"The job {job} is {state}, and there is no corpus: {why}. See its logs.")
        time.sleep(_POLL_S)
