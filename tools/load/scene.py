"""The processes of one benchmark and what they share: one tenant, tokens, a port each."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import orjson
import psutil
from joserfc import jwt
from joserfc.jwk import ECKey

from assistant.aws.clients import open_client
from assistant.aws.dynamodb_states import DynamoDbDocumentStates
from assistant.aws.opensearch_schema import PassageSchema
from assistant.model_artifacts import read_model_facts
from assistant.model_server.artifact import ARTIFACT_FILE, TOKENIZER_FILE, ensure_artifact
from assistant.settings.model_artifacts import AnsweringTable
from assistant.settings.process import ModelServerSettings, ServiceSettings, inherited_environment
from assistant.settings.tenant import load_tenant
from tools.load.workload import ANSWER_TOKENS, READ_DOCUMENTS, LoadOutcome, LoadPlan, live_status

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_SAID_BYTES = 2_000


@dataclass(slots=True)
class Started:
    """A process that said where it listens."""

    popen: subprocess.Popen[bytes]
    url: str
    stderr: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def cpu_s(self) -> float:
        """Return CPU seconds since it began, of all its threads."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def resident_bytes(self) -> int:
        return psutil.Process(self.pid).memory_info().rss

    def stop(self) -> None:
        """End it in order."""
        _stop(self.popen)

    def kill(self) -> None:
        """End it as the kernel does: it cleans nothing up."""
        self.popen.kill()
        self.popen.wait()


class Processes:
    """Starts processes and stops them all in the end, the youngest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._count = 0

    def close(self) -> None:
        self._stack.close()

    def start(
        self,
        module: str,
        *,
        plan: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Started:
        """Start ``python -m module`` and wait for its ready line. Raises SystemExit with what it said."""
        popen, stderr = self._open(module, environment or {})
        self._stack.callback(_stop, popen)
        assert popen.stdin is not None
        if plan is not None:
            popen.stdin.write(orjson.dumps(plan) + b"\n")
            popen.stdin.flush()
        line = read_line(popen, timeout_s=_READY_TIMEOUT_S)
        if not line:
            _stop(popen)
            raise SystemExit(
                f"{module} did not get ready: {stderr.read_text(errors='replace')[-_SAID_BYTES:]}"
            )
        ready = orjson.loads(line)
        return Started(popen, f"http://{ready['host']}:{ready['port']}", stderr)

    @contextmanager
    def running(self, module: str, plan: bytes) -> Generator[subprocess.Popen[bytes]]:
        """Start a process that works a plan off; what it says is read line by line from its stdout."""
        popen, _ = self._open(module, {})
        try:
            assert popen.stdin is not None
            popen.stdin.write(plan)
            popen.stdin.flush()
            yield popen
        finally:
            _stop(popen)

    def _open(self, module: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Path]:
        self._count += 1
        stderr = self._folder / f"{module.rpartition('.')[2]}-{self._count}.log"
        with stderr.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**inherited_environment(), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        return popen, stderr


def read_line(popen: subprocess.Popen[bytes], *, timeout_s: float) -> bytes:
    """Return the next line on stdout, nothing when none came in time or the process ended."""
    assert popen.stdout is not None
    until_s, line = time.monotonic() + timeout_s, b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([popen.stdout], [], [], max(0.0, until_s - time.monotonic()))
        data = os.read(popen.stdout.fileno(), 1 << 20) if readable else b""
        if not data:
            return b""
        line += data
    return line


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT unwind, so that every process is stopped; also where SIGINT was ignored."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _stop(popen: subprocess.Popen[bytes]) -> None:
    if popen.poll() is None:
        popen.terminate()
        try:
            popen.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
    for pipe in (popen.stdin, popen.stdout):
        if pipe is not None:
            pipe.close()


# --- the scene ------------------------------------------------------------------------------------------


TENANT = "load"
RECORDS_TABLE = "load-records"
_STATES_TABLE = "load-states"
_ALIAS = "load-passages"
REGION = "us-east-1"
_AGENTS = 512
_TOKEN_LIFE_S = 3600
_ISSUER = "http://issuer.load"
_MODELS = "models"
_BUILT_MODELS = Path(__file__).parents[2] / "build" / "load-models"
_WRITER = AnsweringTable(writes_answers=True, prompt="answer/2", passages=5, history_turns=2)
"""What the stand-in's model is trusted with, whose sentences the documents support."""
_OUTCOME_TIMEOUT_S = 180.0
_WARMING_TOKENS = 10
_TENANT_FILE = f"""
schema_version = 1
name = "{TENANT}"
display_name = "Load"
[embedding]
endpoint = "load-embedding"
[generation]
endpoint = "load-llm"
[gate]
answered = 0.0
possibly = 0.0
[limits]
streams = 2000
streams_per_agent = 64
"""
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "load",
    "AWS_SECRET_ACCESS_KEY": "load",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The stand-ins look at no signature, but the service makes each."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the load generator against one process."""

    outcome: LoadOutcome
    cpu_s: float
    """Of the processes that were asked."""
    stand_ins_cpu_s: float

    @property
    def cpu_per_1000_tokens_s(self) -> float:
        return self.cpu_s / self.outcome.tokens * 1000 if self.outcome.tokens else float("inf")


class Scene:
    """The processes of a benchmark. Services are started as they are needed; all share the stand-ins."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self._folder = folder
        self._questions = 0
        key = ECKey.generate_key("P-256", {"kid": "load"})
        self._bearers = [_bearer(f"agent-{number}", key) for number in range(_AGENTS)]
        _write_tenant(folder)
        public = key.as_dict(private=False) | {"use": "sig"}
        self.stand_ins = processes.start(
            "tools.load.stand_ins",
            plan={"jwks": {"keys": [public]}, "index": _index(folder)},
        )
        asyncio.run(_keep_states(self.stand_ins.url))
        self.bare = processes.start("tools.load.bare", plan={"upstream": self.stand_ins.url})

    def start_service(self) -> Started:
        """Start the service by its production command, with all that AWS gives it from the stand-ins."""
        environment = self._settings().environment() | _CREDENTIALS
        return self._processes.start("assistant.api", environment=environment)

    def start_warm_service(self) -> Started:
        """Start it and let it answer a little: what it imports and connects on first use is there."""
        service = self.start_service()
        self.pace(tokens=_WARMING_TOKENS)
        self.load(service, run="streams", streams=16, ramp_s=1.0, tokens=_WARMING_TOKENS)
        self.pace()
        return service

    def load(self, target: Started, *more: Started, **plan: Any) -> Run:
        """Let the load generator work a plan off against one or more processes of a service; ``plan`` are
        fields of LoadPlan."""
        targets = (target, *more)
        before_s, stand_ins_s = sum(one.cpu_s() for one in targets), self.stand_ins.cpu_s()
        with self.loading(target, more_urls=[one.url for one in more], **plan) as generator:
            outcome = generator.outcome()
        used_s = sum(one.cpu_s() for one in targets) - before_s
        return Run(outcome, used_s, self.stand_ins.cpu_s() - stand_ins_s)

    @contextmanager
    def loading(self, target: Started, **plan: Any) -> Generator[Generating]:
        """Run the load generator, and do something meanwhile."""
        bearers = [] if target is self.bare else self._bearers
        whole = LoadPlan(url=target.url, bearers=bearers, first_question=self._questions, **plan)
        # every question is asked once, whatever is asked before or after it
        self._questions += 1_000_000 if whole.run == "rate" else whole.streams * whole.answers
        with self._processes.running("tools.load.generator", whole.encode()) as popen:
            yield Generating(popen)

    def pace(self, *, delayed: bool = True, tokens: int = ANSWER_TOKENS) -> None:
        """Switch the stand-ins' delays and the length of answers."""
        self._control("POST", "pace", {"delayed": delayed, "tokens": tokens})

    def state(self) -> dict[str, Any]:
        """Return what the stand-ins did and keep."""
        return self._control("GET", "state", None)

    def _control(self, method: str, what: str, body: Any) -> dict[str, Any]:
        url = f"{self.stand_ins.url}/control/{what}"
        with httpx.Client(trust_env=False, timeout=30.0) as client:
            return client.request(method, url, json=body).raise_for_status().json()

    def _settings(self) -> ServiceSettings:
        url = self.stand_ins.url
        return ServiceSettings(
            port=0,
            tenants_dir=self._folder / "tenants",
            state_dir=self._folder / "state",
            model_artifacts_dir=self._folder / _MODELS,
            sagemaker_endpoint_url=url,
            region=REGION,
            issuer=_ISSUER,
            jwks_url=f"{url}/jwks.json",
            stores="aws",
            search="opensearch",
            aws_endpoint_url=url,
            documents_bucket="load-documents",
            states_table=_STATES_TABLE,
            records_table=RECORDS_TABLE,
            events_table="load-events",
            ingestion_queue_url=f"{url}/queue/ingestion",
            withdrawals_queue_url=f"{url}/queue/withdrawals",
            opensearch_url=url,
            opensearch_index=_ALIAS,
        )


@dataclass(frozen=True, slots=True)
class Generating:
    """The load generator at work."""

    popen: subprocess.Popen[bytes]

    def begun(self) -> None:
        """Wait until it says that all streams have begun."""
        read_line(self.popen, timeout_s=_OUTCOME_TIMEOUT_S)

    def outcome(self) -> LoadOutcome:
        """Wait for what it saw. Raises SystemExit when it ended without."""
        line = read_line(self.popen, timeout_s=_OUTCOME_TIMEOUT_S)
        if not line:
            raise SystemExit("The load generator ended without an outcome.")
        return LoadOutcome(**orjson.loads(line)["outcome"])


async def _keep_states(url: str) -> None:
    """Write that the documents of every answer's sources are live: who comes back is shown no others."""
    async with open_client("dynamodb", region=REGION, endpoint_url=url) as client:
        states = DynamoDbDocumentStates(client, table=_STATES_TABLE)
        try:
            await states.put_many([live_status(number) for number in range(READ_DOCUMENTS)])
        finally:
            await states.close()


def _write_tenant(folder: Path) -> None:
    """Write the tenant file, and of each model the facts and the tokenizer; these are built once."""
    tenants = folder / "tenants"
    tenants.mkdir(parents=True)
    (tenants / f"{TENANT}.toml").write_text(_TENANT_FILE, encoding="utf-8")
    for task in ("embedding", "generation"):
        artifact = ensure_artifact(ModelServerSettings(task=task, artifacts_dir=_BUILT_MODELS))
        if task == "generation":
            artifact = artifact.model_copy(update={"answering": _WRITER})
        model = folder / _MODELS / artifact.model
        model.mkdir(parents=True)
        (model / ARTIFACT_FILE).write_bytes(artifact.model_dump_json().encode())
        (model / TOKENIZER_FILE).symlink_to(_BUILT_MODELS / artifact.model / TOKENIZER_FILE)


def _index(folder: Path) -> str:
    """Return the name of the index version that the service expects behind its alias."""
    embedding = load_tenant(folder / "tenants" / f"{TENANT}.toml").embedding
    facts = read_model_facts(folder / _MODELS, embedding.model)
    schema = PassageSchema(
        embedding_model=facts.model, dimensions=embedding.dimensions, model_digest=facts.digest
    )
    return schema.index_name(_ALIAS)


def _bearer(agent: str, key: ECKey) -> str:
    issued = int(time.time())
    claims: dict[str, Any] = {
        "iss": _ISSUER,
        "aud": "assistant",
        "iat": issued,
        "exp": issued + _TOKEN_LIFE_S,
        "sub": agent,
        "tenant": TENANT,
        "roles": ["agent"],
        "labels": [],
    }
    return jwt.encode({"alg": "ES256", "kid": "load"}, claims, key, algorithms=["ES256"])
