"""``python -m tests.stacks.deployed_week FOLDER…``: the scheduled functions and tasks of tenants, on a moved
clock, in a week. A folder is a stage's templates.

A function has the module and the environment of its template; tables, buckets, queues and parameters are
moto's, whose clock is moved too; the index is the embedded one. It writes a line of JSON for each run. The
process has ``tests/faults/shifted_clock`` on its path.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer

from assistant.options.models_lab import make_sets
from assistant.process.aws.clients import open_client
from assistant.process.aws.parameters import create_link_secret
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.records import StoredRecords
from assistant.tenant.deployed_names import FEEDBACK_SECRET_PURPOSE, TABLES
from tests.contracts import samples
from tests.emulated_aws import create_documents_bucket, create_queue, create_table
from tests.fakes.aws_server import REGION, create_key
from tests.fakes.lambda_events import Context
from tests.options.feedback.moving import unanswered
from tests.stacks.synthesized import templates_in
from tests.stacks.values import resources_of

BEGINS = datetime(2026, 11, 2, 15, 7, tzinfo=UTC)
"""The end of the deployment: a Monday morning in New York."""
MINUTES = 7 * 24 * 60
SAMPLED_MINUTES = 8 * 60
"""Between two runs of a job: what it publishes is taken to be the same until the next one."""
FIRST_QUESTION = 30 * 60
"""Minute of the first question, on the second day."""
_UNITS = {"minute": 1, "hour": 60, "day": 24 * 60}


@dataclass(frozen=True, slots=True)
class Job:
    """What a schedule of a template starts."""

    name: str
    """Logical id of its function, or of its task's definition."""
    module: str
    every_minutes: int
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    tenant: str
    job: str
    minute: int
    every_minutes: int
    failed: bool
    metrics: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """Lines in the embedded metric format."""
    lines: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """Of the log."""


def jobs_of(templates: Mapping[str, Mapping[str, Any]]) -> Iterator[Job]:
    """Yield what the schedules of a stage's templates start at a rate."""
    for template in templates.values():
        functions, tasks = (
            resources_of(template, kind) for kind in ("AWS::Lambda::Function", "AWS::ECS::TaskDefinition")
        )
        for body in resources_of(template, "AWS::Events::Rule").values():
            if expression := body["Properties"].get("ScheduleExpression"):
                (target,) = body["Properties"]["Targets"]
                name = target["Arn"]["Fn::GetAtt"][0]
                function = functions[name]["Properties"]
                entry = function.get("Handler") or function["ImageConfig"]["Command"][0]
                given = function["Environment"]["Variables"]
                yield Job(name, entry.removesuffix(".handle"), _minutes(expression), given)
        for body in resources_of(template, "AWS::Scheduler::Schedule").values():
            if (expression := body["Properties"]["ScheduleExpression"]).startswith("rate("):
                ((name, task),) = tasks.items()
                (container,) = task["Properties"]["ContainerDefinitions"]
                given = {pair["Name"]: pair["Value"] for pair in container["Environment"]}
                yield Job(name, container["EntryPoint"][-1], _minutes(expression), given)


def _minutes(rate: str) -> int:
    count, unit = re.fullmatch(r"rate\((\d+) (\w+?)s?\)", rate).groups()  # type: ignore[union-attr]
    return int(count) * _UNITS[unit]


@dataclass(slots=True)
class Account:
    """What the environments of a tenant's jobs name, made in the emulator on first use."""

    url: str
    tenant: str
    folder: Path
    assets: Path
    made: dict[str, str] = field(default_factory=dict[str, str])

    async def environment(self, job: Job) -> dict[str, str]:
        """Return a job's environment, with the addresses of this machine."""
        given = {name: await self._value(name, value) for name, value in job.environment.items()}
        prefix = os.path.commonprefix(list(given))
        here = {"AWS_ENDPOINT_URL": self.url}
        if f"{prefix}SEARCH" in given:
            here |= {"SEARCH": "embedded", "MODEL_ARTIFACTS_DIR": "model_artifacts"}
            given.pop(f"{prefix}OPENSEARCH_URL")
        if f"{prefix}TENANT_FILE_S3" in given:
            here |= {"TENANTS_DIR": str(self.folder / "tenants")}
        here |= {"STATE_DIR": str(self.folder / "state")} if "SEARCH" in here else {}
        return given | {f"{prefix}{name}": value for name, value in here.items()}

    async def _value(self, name: str, value: Any) -> str:
        written = json.dumps(value)
        if written not in self.made:
            self.made[written] = await self._make(name, value)
        return self.made[written]

    async def _make(self, name: str, value: Any) -> str:
        async with (
            open_client("s3", region=REGION, endpoint_url=self.url) as s3,
            open_client("dynamodb", region=REGION, endpoint_url=self.url) as dynamodb,
            open_client("sqs", region=REGION, endpoint_url=self.url) as sqs,
        ):
            named = f"{self.tenant}-{sha256(json.dumps(value).encode()).hexdigest()[:12]}"
            if name.endswith("_BUCKET"):
                await create_documents_bucket(s3, bucket=named)
            elif name.endswith("_TABLE"):
                (table,) = [one for one in TABLES if name.lower().endswith(f"_{one.role}_table")]
                await create_table(dynamodb, table, name=named)
            elif name.endswith("_QUEUE_URL"):
                return await create_queue(sqs, name=named)
            elif name.endswith("TENANT_FILE_S3"):
                bucket, _, key = str(value).removeprefix("s3://").partition("/")
                await create_documents_bucket(s3, bucket=bucket)
                await s3.put_object(Bucket=bucket, Key=key, Body=(self.assets / f"asset.{key}").read_bytes())
                return str(value)
            elif name.endswith("_PARAMETER"):
                await self._make_secret(value)
                return str(value)
            elif not isinstance(value, str):
                return f"s3://{named}/any/"
            else:
                return value
        return named

    async def _make_secret(self, name: str) -> None:
        async with (
            open_client("ssm", region=REGION, endpoint_url=self.url) as ssm,
            open_client("kms", region=REGION, endpoint_url=self.url) as kms,
        ):
            key_id = await create_key(kms, alias=self.tenant)
            given = {"tenant": self.tenant, "key_id": key_id, "purpose": FEEDBACK_SECRET_PURPOSE}
            await create_link_secret(ssm=ssm, kms=kms, name=name, **given)

    async def ask(self, environment: Mapping[str, str]) -> None:
        """Record an answer and a question that nothing answered, in the table of a job."""
        (name,) = [value for key, value in environment.items() if key.endswith("RECORDS_TABLE")]
        async with open_client("dynamodb", region=REGION, endpoint_url=self.url) as dynamodb:
            table = DynamoDbTable(dynamodb, name=name)
            records = StoredRecords(table)
            await records.put_answer(samples.answer())
            await records.put_answer(unanswered("a2"))
            await table.close()


def call(job: Job, environment: Mapping[str, str]) -> Any:
    """Run a job once. A task that failed exits with 1."""
    os.environ.update(environment)
    if job.module == make_sets.__name__:
        if not asyncio.run(make_sets.prepare()):
            raise RuntimeError("exit status 1")
        return
    entry = importlib.import_module(job.module).handle
    try:
        entry({}, Context())
    finally:
        entry.close()


def run_once(job: Job, account: Account, *, minute: int, log: io.StringIO) -> Run:
    environment = asyncio.run(account.environment(job))
    if minute >= FIRST_QUESTION and any(name.endswith("RECORDS_TABLE") for name in environment):
        asyncio.run(account.ask(environment))
    written, failed = io.StringIO(), False
    log.seek(0)
    log.truncate()
    with redirect_stdout(written):
        try:
            call(job, environment)
        except Exception:  # noqa: BLE001 - as Lambda, which counts it
            logging.getLogger("lambda").exception("function_failed")
            failed = True
    metrics = [json.loads(line) for line in written.getvalue().splitlines() if "_aws" in line]
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    return Run(account.tenant, job.name, minute, job.every_minutes, failed, metrics, lines)


def moments(every: int) -> list[int]:
    """Return the minutes of a job's runs that are made: the first one, and one in each third of a day."""
    whole = range(every, MINUTES, every)
    return sorted({whole[0], *(next(m for m in whole if m >= at) for at in range(every, whole[-1], SAMPLED_MINUTES))})


def main(folders: Sequence[str]) -> None:
    told, log, clock = sys.stdout, io.StringIO(), sys.modules["sitecustomize"]
    sys.stderr, real_now = log, time.time() - float(os.environ["SHIFTED_CLOCK_S"])
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(AWS_ACCESS_KEY_ID="emulated", AWS_SECRET_ACCESS_KEY="emulated")
    with tempfile.TemporaryDirectory() as folder:
        due: list[tuple[int, Job, Account]] = []
        for stage in map(Path, folders):
            tenant = stage.name.removeprefix("assembly-").lower()
            account = Account(f"http://{host}:{port}", tenant, Path(folder) / tenant, stage.parent)
            jobs = jobs_of(templates_in(stage))
            due += [(minute, job, account) for job in jobs for minute in moments(job.every_minutes)]
        for minute, job, account in sorted(due, key=lambda one: one[0]):
            vars(clock)["_SHIFT_S"] = BEGINS.timestamp() + minute * 60 - real_now
            print(json.dumps(asdict(run_once(job, account, minute=minute, log=log))), file=told, flush=True)
    os._exit(0)  # moto's thread and clients of closed loops


if __name__ == "__main__":
    main(sys.argv[1:])
