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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, redirect_stdout
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from assistant.domain.documents import IndexModel
from assistant.options.models_lab import make_sets
from assistant.process.aws import AwsService, create_link_secret, open_client
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.index.opensearch_schema import PassageSchema, index_body
from assistant.stores.records import StoredRecords
from assistant.tenant.deployed_names import FEEDBACK_SECRET_PURPOSE, RECORDS, TABLES
from tests.contracts import samples
from tests.emulated_aws import create_documents_bucket, create_queue, create_table
from tests.fakes.aws_server import REGION, create_key
from tests.fakes.lambda_events import Context
from tests.options.desk.moving import unanswered
from tests.stacks.synthesized import templates_in
from tests.stacks.values import resources_of

BEGINS = datetime(2026, 11, 2, 15, 7, tzinfo=UTC)
"""The end of the deployment: a Monday morning in New York."""
MINUTES = 7 * 24 * 60
SAMPLED_MINUTES = 8 * 60
"""Between two runs of a job: what it publishes is taken to be the same until the next one."""
SUNDAY = 7
FIRST_QUESTION = 30 * 60
"""Minute of the first question, on the second day."""
MODEL = IndexModel("all-MiniLM-L6-v2", 384, "d" * 64)
SCHEMA = PassageSchema(model=MODEL)
FACTS = {"model": MODEL.name, "digest": MODEL.digest, "dimensions": MODEL.dimensions}
ARTIFACT = {
    "artifact.json": json.dumps({"schema_version": 1, "max_input_tokens": 256, **FACTS}),
    "tokenizer.json": Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).to_str(),
}
_PREFIX = re.compile("ASSISTANT_[A-Z]+_")
"""Of the variables of a class of settings."""
_UNITS = {"minute": 1, "hour": 60, "day": 24 * 60}


class EmptyDomain(BaseHTTPRequestHandler):
    """A search domain whose index has its schema and no passage."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        alias = self.path.strip("/").partition("/")[0].removesuffix("-v*")
        mapping = {SCHEMA.index_name(alias): {"mappings": index_body(SCHEMA, alias=alias)["mappings"]}}
        body = json.dumps(mapping if "/_mapping" in self.path else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


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
    fault: bool
    """Whether no service of AWS could be reached."""
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

    clients: Mapping[str, Any]
    tenant: str
    here: Mapping[str, str]
    """Settings that differ: addresses and folders of this machine."""
    assets: Path
    made: dict[str, str] = field(default_factory=dict[str, str])
    records: set[str] = field(default_factory=set[str])
    """Names of tables."""

    async def environment(self, job: Job) -> dict[str, str]:
        given = {name: await self._value(name, value) for name, value in job.environment.items()}
        (prefix,) = {match[0] for match in map(_PREFIX.match, given) if match}
        taken = {"AWS_ENDPOINT_URL"}
        taken |= {"TENANTS_DIR"} if f"{prefix}TENANT_FILE_S3" in given else set()
        taken |= (
            {"STATE_DIR", "MODEL_ARTIFACTS_DIR", "OPENSEARCH_URL"} if f"{prefix}SEARCH" in given else set()
        )
        return given | {f"{prefix}{name}": self.here[name] for name in taken}

    async def _value(self, name: str, value: Any) -> str:
        written = json.dumps(value)
        if written not in self.made:
            self.made[written] = await self._make(name, value)
        return self.made[written]

    async def _make(self, name: str, value: Any) -> str:
        s3, named = self.clients["s3"], f"{self.tenant}-{sha256(json.dumps(value).encode()).hexdigest()[:12]}"
        if name.endswith("_QUEUE_URL"):
            return await create_queue(self.clients["sqs"], name=named)
        if name.endswith("_PARAMETER"):
            await self._make_secret(value)
        elif name.endswith("_TENANT_FILE_S3"):
            bucket, _, key = str(value).removeprefix("s3://").partition("/")
            await create_documents_bucket(s3, bucket=bucket)
            await s3.put_object(Bucket=bucket, Key=key, Body=(self.assets / f"asset.{key}").read_bytes())
        elif name.endswith("_TABLE"):
            (table,) = [one for one in TABLES if name.lower().endswith(f"_{one.role}_table")]
            await create_table(self.clients["dynamodb"], table, name=named)
            self.records |= {named} if table is RECORDS else set()
            return named
        elif not isinstance(value, str):
            await create_documents_bucket(s3, bucket=named)
            if name.endswith("_MODEL_ARTIFACTS_S3"):
                for file, content in ARTIFACT.items():
                    key = f"{MODEL.name}/{file}"
                    await s3.put_object(Bucket=named, Key=key, Body=content)
            return f"s3://{named}/" if name.endswith("_S3") else named
        return str(value)

    async def _make_secret(self, name: str) -> None:
        ssm, kms = self.clients["ssm"], self.clients["kms"]
        key_id = await create_key(kms, alias=self.tenant)
        given = {"tenant": self.tenant, "key_id": key_id, "purpose": FEEDBACK_SECRET_PURPOSE}
        await create_link_secret(ssm=ssm, kms=kms, name=name, **given)

    async def ask(self) -> None:
        """Record an answer, and a question that nothing answered."""
        for name in self.records:
            table = DynamoDbTable(self.clients["dynamodb"], name=name)
            records = StoredRecords(table)
            await records.put_answer(samples.answer())
            await records.put_answer(unanswered("a2"))
            await table.close()


def call(job: Job) -> None:
    """Run a job once, in the execution environment of its first run. A task that failed exits with 1."""
    if job.module == make_sets.__name__:
        if not asyncio.run(make_sets.prepare()):
            raise RuntimeError("exit status 1")
    else:
        importlib.import_module(job.module).handle({}, Context())


def run_once(job: Job, *, tenant: str, minute: int, log: io.StringIO, fault: bool = False) -> Run:
    written, failed = io.StringIO(), False
    log.seek(0)
    log.truncate()
    with redirect_stdout(written):
        try:
            call(job)
        except Exception:
            logging.getLogger("lambda").exception("function_failed")  # as Lambda, which counts it
            failed = True
    metrics = [json.loads(line) for line in written.getvalue().splitlines() if "_aws" in line]
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    return Run(tenant, job.name, minute, job.every_minutes, failed, fault, metrics, lines)


def moments(every: int) -> list[int]:
    """Return the minutes in which a job is run: the first one, and one in each third of a day."""
    return [-(-at // every) * every for at in range(every, MINUTES - every, max(every, SAMPLED_MINUTES))]


@dataclass(slots=True)
class Week:
    """The jobs of a stage's templates, with what they need."""

    account: Account
    jobs: Sequence[Job]
    runner: asyncio.Runner
    move: Callable[[int], None]
    """Moves every clock to a minute of the week."""
    log: io.StringIO = field(default_factory=io.StringIO)

    def runs(self) -> Iterator[Run]:
        """Run the jobs in the order of their moments."""
        due = [(minute, job) for job in self.jobs for minute in moments(job.every_minutes)]
        asked = 0
        for minute, job in sorted(due, key=lambda one: one[0]):
            now = BEGINS + timedelta(minutes=minute)
            self.move(minute)
            self._environ(job)
            if minute >= FIRST_QUESTION and now.isoweekday() not in {SUNDAY, asked}:
                self.runner.run(self.account.ask())
                asked = now.isoweekday()
            yield run_once(job, tenant=self.account.tenant, minute=minute, log=self.log)
        self._close()

    def failing(self) -> Iterator[Run]:
        """Run each job once more, when nothing can be reached."""
        for job in self.jobs:
            self._environ(job)
            yield run_once(job, tenant=self.account.tenant, minute=MINUTES, log=self.log, fault=True)
        self._close()

    def _environ(self, job: Job) -> None:
        os.environ.update(self.runner.run(self.account.environment(job)))
        sys.stderr = self.log  # functions log to what this is at their first event

    def _close(self) -> None:
        for job in self.jobs:
            if job.module != make_sets.__name__:
                importlib.import_module(job.module).handle.close()


async def _clients(stack: AsyncExitStack, url: str) -> dict[str, Any]:
    services: Sequence[AwsService] = ("s3", "dynamodb", "sqs", "ssm", "kms")
    opening = {name: open_client(name, region=REGION, endpoint_url=url) for name in services}
    return {name: await stack.enter_async_context(client) for name, client in opening.items()}


def main(folders: Sequence[str]) -> None:
    shifted, begun = vars(sys.modules["sitecustomize"]), time.time()
    told = sys.stdout
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server, stack = ThreadedMotoServer("127.0.0.1", 0, verbose=False), AsyncExitStack()
    domain = ThreadingHTTPServer(("127.0.0.1", 0), EmptyDomain)
    threading.Thread(target=domain.serve_forever, daemon=True).start()
    server.start()
    aws_url, domain_url = (
        f"http://127.0.0.1:{port}" for port in (server.get_host_and_port()[1], domain.server_port)
    )
    os.environ.update(AWS_ACCESS_KEY_ID="emulated", AWS_SECRET_ACCESS_KEY="emulated")

    def move(minute: int) -> None:
        shifted["_SHIFT_S"] = BEGINS.timestamp() + minute * 60 - begun

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        clients = runner.run(_clients(stack, aws_url))
        weeks: list[Week] = []
        for stage in map(Path, folders):
            tenant = stage.name.removeprefix("assembly-").lower()
            names = ("TENANTS", "STATE", "MODEL_ARTIFACTS")
            here = {f"{name}_DIR": f"{folder}/{tenant}/{name}" for name in names}
            here |= {"AWS_ENDPOINT_URL": aws_url, "OPENSEARCH_URL": domain_url}
            account = Account(clients, tenant, here, stage.parent)
            weeks.append(Week(account, list(jobs_of(templates_in(stage))), runner, move))
        for run in (run for week in weeks for run in week.runs()):
            print(json.dumps(asdict(run)), file=told)
        server.stop()
        domain.shutdown()
        domain.server_close()
        for run in (run for week in weeks for run in week.failing()):
            print(json.dumps(asdict(run)), file=told)
        runner.run(stack.aclose())


if __name__ == "__main__":
    main(sys.argv[1:])
