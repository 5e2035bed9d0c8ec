"""``assistant knowledge prepare``: makes a corpus for training of a tenant's documents.

On AWS the tenant's EMR Serverless application runs ``containers/corpus_job``:
https://docs.aws.amazon.com/emr-serverless/latest/APIReference/API_StartJobRun.html. Settings of a Python of
one's own: aws-samples/emr-serverless-samples, examples/pyspark/custom_python_version.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from typer import Option

from assistant.cli.terminal import GlobalOptions, Tenant, Terminal, table
from assistant.domain.errors import ConfigurationError, ConflictError, DeploymentError, InvalidRequestError
from assistant.knowledge import corpus
from assistant.knowledge.sources import KnowledgeSources
from assistant.private_files import make_private_folder, write_private
from assistant.settings.process import PreparingSettings
from assistant.settings.tenant import TenantConfig

WEIGHT = "How much of a source: 0 none, 0.5 half of its documents, 2 each read twice. Default 1. Repeatable."
ENGINE = "local: on this machine. emr: the deployment's EMR Serverless application, of its documents."
_POLL_S, _GRACE_S = 15.0, 600.0
_DOCUMENTS_A_TASK = 2_000
"""Some 10 s of work: a lost worker costs little, and starting a task is 1 % of it."""
_GOING_ON = ("SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "CANCELLING")
_PYTHON, _PATH = "/usr/bin/python3.11", "/opt/assistant:/opt/assistant/packages"
_SPARK = {
    "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": _PYTHON,
    "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": _PYTHON,
    "spark.executorEnv.PYSPARK_PYTHON": _PYTHON,
    "spark.emr-serverless.driverEnv.PYTHONPATH": _PATH,
    "spark.executorEnv.PYTHONPATH": _PATH,
    "spark.executor.memoryOverheadFactor": "0.5",  # each task has two processes of Python beside Java
}


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
    options, out, weights = GlobalOptions.of(context), out.absolute(), weight or ()
    if out.exists():
        raise ConflictError(f"{out} exists. Name a new folder: a corpus is never changed.")
    make_private_folder(out.parent)
    # The folder gets its name at the end: it is whole, or there is none.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as making:
        folder = Path(making) / out.name
        make_private_folder(folder)
        if engine == "emr":
            settings = options.preparing()
            made = _on_emr(settings, tenant, name=out.name, weights=weights, limit_minutes=limit_minutes)
        else:
            made = asyncio.run(
                _here(options, options.tenant(tenant), folder, weights=weights, processes=processes)
            )
        if not made["rows"]:
            raise InvalidRequestError(f"No document became a row. Left out: {made['left_out'] or 'none'}.")
        facts = {"tenant": tenant, "made_at": datetime.now(UTC), "engine": engine, **made}
        facts |= {"reader": corpus.READER_VERSION, "similar_from": corpus.SIMILAR_FROM}
        write_private(folder / corpus.MANIFEST, orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        folder.rename(out)
    if options.writes(facts):
        return
    rows = [(name, f"{count:,}", f"{made['mix'][name]:g}") for name, count in made["rows"].items()]
    Terminal().out.print(table("source", "rows", "weight", right=("rows", "weight"), rows=rows))
    for reason, count in made["left_out"].items():
        Terminal().say(f"left out: {count:,} {reason}")
    Terminal().say(f"{sum(made['rows'].values()):,} rows in {made.get('folder', out / corpus.ROWS)}")


async def _here(
    options: GlobalOptions,
    tenant: TenantConfig,
    folder: Path,
    *,
    weights: Sequence[str],
    processes: int | None,
) -> dict[str, Any]:
    from assistant.embedded.corpus import write_corpus

    sources, count = KnowledgeSources.of(tenant), processes or os.cpu_count() or 1
    mix = corpus.mix_of(weights, sources=sources)
    async with options.stores(tenant.name) as stores:
        wanted = corpus.wanted_documents(stores.states, sources=sources, mix=mix)
        made = await write_corpus(folder, wanted, documents=stores.documents, mix=mix, processes=count)
    return {**made, "mix": mix}


def _on_emr(
    settings: PreparingSettings, tenant: str, *, name: str, weights: Sequence[str], limit_minutes: int
) -> dict[str, Any]:
    """Start the job, tell its states, and return what it made.

    The role of whoever calls needs emr-serverless:StartJobRun and GetJobRun on the application, iam:PassRole
    on the job's role, and s3:PutObject and GetObject on the corpora.
    """
    from assistant.cli.account import AwsAccount

    bucket, application = settings.corpus_bucket, settings.corpus_application
    if not (bucket and application and settings.corpus_role):
        names = map(settings.variable, ("corpus_bucket", "corpus_application", "corpus_role"))
        raise ConfigurationError(f"{', '.join(names)} are needed: the corpus stack has them as outputs.")
    aws, say = AwsAccount(account="", region=settings.region), Terminal().say
    key = f"corpora/{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"

    def put(part: int, lines: bytes) -> None:
        place = f"{key}/{corpus.WANTED}/part-{part:06}.jsonl"
        aws.call("s3", "put_object", Bucket=bucket, Key=place, Body=lines)

    documents, mix, total = asyncio.run(_wanted_there(settings, tenant, weights=weights, put=put))
    if not total:
        raise InvalidRequestError("No document answers now, so there is nothing to make a corpus of.")
    arguments = {
        "--folder": f"s3://{bucket}/{key}",
        "--bucket": documents,
        "--region": settings.region,
        "--mix": orjson.dumps(mix).decode(),
        "--partitions": str(-(-total // _DOCUMENTS_A_TASK)),
    }
    submit = {
        "entryPoint": "local:///opt/assistant/job.py",
        "entryPointArguments": [text for pair in arguments.items() for text in pair],
        "sparkSubmitParameters": " ".join(f"--conf {name}={value}" for name, value in _SPARK.items()),
    }
    started = aws.call(
        "emr-serverless",
        "start_job_run",
        applicationId=application,
        clientToken=key.rpartition("/")[2],
        executionRoleArn=settings.corpus_role,
        jobDriver={"sparkSubmit": submit},
        executionTimeoutMinutes=limit_minutes,
        name=name,
    )
    job = str(started["jobRunId"])
    say(
        f"{total:,} documents, job {job}; its logs: s3://{bucket}/logs/applications/{application}/jobs/{job}/"
    )
    billed, until_s = None, time.monotonic() + 60.0 * limit_minutes + _GRACE_S
    told = ""
    while told != "SUCCESS":
        run = aws.call("emr-serverless", "get_job_run", applicationId=application, jobRunId=job)["jobRun"]
        if run["state"] != told:
            say(told := str(run["state"]))
            billed = run.get("billedResourceUtilization")
        if told not in (*_GOING_ON, "SUCCESS"):
            why = run.get("stateDetails") or "no reason is given"
            raise DeploymentError(f"The job {job} ended as {told}: {why}. There is no corpus; see its logs.")
        if time.monotonic() > until_s:
            raise DeploymentError(
                f"The job {job} is {told} after its limit. Look: aws emr-serverless get-job-run"
            )
        time.sleep(_POLL_S if told != "SUCCESS" else 0.0)
    counts = aws.call("s3", "get_object", Bucket=bucket, Key=f"{key}/{corpus.COUNTS}/part-00000")["Body"]
    folder = f"s3://{bucket}/{key}/{corpus.ROWS}/"
    return {**orjson.loads(counts.read()), "mix": mix, "job": job, "billed": billed, "folder": folder}


async def _wanted_there(
    settings: PreparingSettings, tenant: str, *, weights: Sequence[str], put: Callable[[int, bytes], None]
) -> tuple[str, Mapping[str, float], int]:
    """Hand over the deployment's documents in parts; return their bucket, the mix, and how many they are."""
    from assistant.wiring.clients import open_clients
    from assistant.wiring.stores import STATES, AwsStores, read_tenants

    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_clients(settings))
        config, total, part = (await read_tenants(settings, clients)).one(tenant), 0, 0
        states = await AwsStores(clients, settings, stack=stack, tenant=tenant).of(STATES)
        sources = KnowledgeSources.of(config)
        mix = corpus.mix_of(weights, sources=sources)
        async for page in corpus.wanted_documents(states, sources=sources, mix=mix):
            lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in page)
            await asyncio.to_thread(put, part, lines)
            total, part = total + len(page), part + 1
        return settings.of_tenant(settings.documents_bucket, config), mix, total
