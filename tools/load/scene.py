"""The processes of one load and what they share: one tenant, tokens, a port each."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
from joserfc.jwk import ECKey

from assistant.aws.clients import open_client
from assistant.aws.dynamodb_states import DynamoDbDocumentStates
from assistant.aws.opensearch_schema import PassageSchema
from assistant.domain.clock import SystemClock
from assistant.local.tokens import Grant, TokenSigner, public_key_set
from assistant.model_artifacts import read_model_facts
from assistant.model_server.artifact import ARTIFACT_FILE, TOKENIZER_FILE, ensure_artifact
from assistant.settings.model_artifacts import WRITER
from assistant.settings.process import ModelServerSettings, ServiceSettings
from assistant.settings.tenant import load_tenant
from tools.load.stand_ins import RECORDS_TABLE
from tools.load.workload import ANSWER_TOKENS, READ_DOCUMENTS, LoadOutcome, LoadPlan, live_status
from tools.processes import Started, read_line, running, started

TENANT = "load"
_STATES_TABLE = "load-states"
_ALIAS = "load-passages"
_REGION = "us-east-1"
_AGENTS = 512
_ISSUER = "http://issuer.load"
_MODELS = "models"
_BUILT_MODELS = Path(__file__).parents[2] / "build" / "load-models"
_OUTCOME_TIMEOUT_S = 180.0
_WARMING: dict[str, Any] = {"streams": 16, "ramp_s": 1.0, "tokens": 10}
_MOST_QUESTIONS = 1_000_000
"""Of one run: every question is asked once, whatever is asked before or after it."""
_CONTEXT_TOKENS = 8_192
"""As the shipped manifests have it: an answer's documents are read whole."""
_TENANT_FILE = f"""
schema_version = 1
name = "{TENANT}"
display_name = "Load"
[embedding]
endpoint = "load-embedding"
[generation]
endpoint = "load-llm"
context_tokens = {_CONTEXT_TOKENS}
[gate]
hopeless_cosine = -1.0
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
    """A run of the load generator."""

    outcome: LoadOutcome
    cpu_s: float
    """Of the processes that were asked."""
    stand_ins_cpu_s: float

    @property
    def cpu_an_answer_ms(self) -> float:
        return self.cpu_s / self.outcome.answers * 1000 if self.outcome.answers else float("inf")


class Scene:
    """The processes of a load. Services are started as they are needed; all share the stand-ins."""

    def __init__(self, processes: ExitStack, folder: Path) -> None:
        self._processes = processes
        self._folder = folder
        self._logs = 0
        self._questions = 0
        self.answered = 0
        """Answers of the service so far, each of which has a record."""
        key = ECKey.generate_key("P-256", {"kid": "load"})
        signer = TokenSigner(key, _ISSUER, "assistant", SystemClock())
        self._bearers = [signer.access_token(Grant(TENANT, f"agent-{n}")) for n in range(_AGENTS)]
        _write_tenant(folder)
        plan = {"jwks": public_key_set(key), "index": _index(folder)}
        self.stand_ins = self._start("tools.load.stand_ins", plan=plan)
        asyncio.run(_keep_states(self.stand_ins.url))
        self.bare = self._start("tools.load.bare", plan={"upstream": self.stand_ins.url})

    def start_warm_service(self) -> Started:
        """Start the service by its production command, with all that AWS gives it from the stand-ins, and let
        it answer a little: what it imports and connects on first use is there."""
        service = self._start("assistant.api", environment=self._settings().environment() | _CREDENTIALS)
        self.load(service, **_WARMING)
        return service

    def load(self, *targets: Started, delayed: bool = True, tokens: int = ANSWER_TOKENS, **plan: Any) -> Run:
        """Let the load generator work a plan off against one or more processes of a service; ``plan`` are
        fields of LoadPlan. Raises SystemExit when it ends without an outcome."""
        self._control({"delayed": delayed, "tokens": tokens})
        urls, bearers = [target.url for target in targets], [] if self.bare in targets else self._bearers
        whole = LoadPlan(urls, bearers, first_question=self._questions, tokens=tokens, **plan)
        self._questions += _MOST_QUESTIONS
        before_s, stand_ins_s = sum(target.cpu_s() for target in targets), self.stand_ins.cpu_s()
        with running("tools.load.generator", log=self._log("generator"), plan=whole) as popen:
            line = read_line(popen, timeout_s=_OUTCOME_TIMEOUT_S)
        if not line:
            raise SystemExit("The load generator ended without an outcome.")
        outcome = LoadOutcome(**orjson.loads(line))
        if self.bare not in targets:
            self.answered += outcome.answers
        cpu_s = sum(target.cpu_s() for target in targets) - before_s
        return Run(outcome, cpu_s, self.stand_ins.cpu_s() - stand_ins_s)

    def state(self) -> dict[str, Any]:
        """Return the count of records that the stand-ins keep, and the calls that they did not know."""
        return self._control(None)

    def _start(self, module: str, **options: Any) -> Started:
        return self._processes.enter_context(started(module, log=self._log(module), **options))

    def _log(self, module: str) -> Path:
        self._logs += 1
        return self._folder / f"{module.rpartition('.')[2]}-{self._logs}.log"

    def _control(self, body: Any) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=30.0) as client:
            return client.post(f"{self.stand_ins.url}/control", json=body).raise_for_status().json()

    def _settings(self) -> ServiceSettings:
        url = self.stand_ins.url
        return ServiceSettings(
            port=0,
            tenants_dir=self._folder / "tenants",
            state_dir=self._folder / "state",
            model_artifacts_dir=self._folder / _MODELS,
            sagemaker_endpoint_url=url,
            region=_REGION,
            issuer=_ISSUER,
            jwks_url=f"{url}/jwks.json",
            stores="aws",
            search="opensearch",
            aws_endpoint_url=url,
            documents_bucket="load-documents",
            states_table=_STATES_TABLE,
            records_table=RECORDS_TABLE,
            events_table="load-events",
            desk_table="load-desk",
            ingestion_queue_url=f"{url}/queue/ingestion",
            withdrawals_queue_url=f"{url}/queue/withdrawals",
            opensearch_url=url,
            opensearch_index=_ALIAS,
        )


async def _keep_states(url: str) -> None:
    """Write that the documents of every answer's sources are live: who comes back is shown no others."""
    async with open_client("dynamodb", region=_REGION, endpoint_url=url) as client:
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
            artifact = artifact.model_copy(update={"answering": WRITER, "max_input_tokens": _CONTEXT_TOKENS})
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
