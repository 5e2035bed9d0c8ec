"""A tenant that was deployed to an emulated account: its functions' handlers and its task, with the
environments of their deployment. Handlers run in this process, the service is a process of its own."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.options.desk.settings import MovingSettings
from assistant.process.settings import (
    IngestingSettings,
    LinkSecretSettings,
    ProcessSettings,
    ReceivingSettings,
    RedactingSettings,
    RemovingSettings,
    SchemaSettings,
    ServiceSettings,
)
from assistant.service.function import FunctionEntry
from tests.stacks.emulated_account import EmulatedAccount, resources_of
from tests.stacks.synthesized import ROOT
from tests.stage.lambda_events import Context, sqs_event
from tests.stage.processes import RunningProcess, process
from tests.stage.running_service import events_of
from tests.stage.tokens import claims, token

FUNCTIONS: Mapping[str, type[ProcessSettings]] = {
    "apply_search_schema": SchemaSettings,
    "create_link_secret": LinkSecretSettings,
    "receive_documents": ReceivingSettings,
    "ingest_documents": IngestingSettings,
    "withdraw_documents": RemovingSettings,
    "move_feedback": MovingSettings,
    "redact_capture": RedactingSettings,
}


@dataclass
class EmulatedTenant:
    """The tenant's functions and task, with the addresses of this machine."""

    account: EmulatedAccount
    name: str
    differs: Mapping[str, str]
    """Settings that are not those of the deployment."""
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    entries: list[FunctionEntry[Any, Any]] = field(default_factory=list[FunctionEntry[Any, Any]])

    async def call(self, name: str, event: Mapping[str, Any], **differs: str) -> Any:
        """Run a function's handler, with the environment that its deployment gave it."""
        settings = FUNCTIONS[name]
        function = self._deployed(settings)
        here = {key: value for key, value in self._here(differs).items() if key in settings.model_fields}
        given = function["Environment"]["Variables"] | {
            settings.variable(key): value for key, value in here.items()
        }
        for variable, value in given.items():
            self.monkeypatch.setenv(variable, value)
        entry: FunctionEntry[Any, Any] = importlib.import_module(f"lambdas.{name}").handle
        self.entries.append(entry)
        return await asyncio.to_thread(entry, event, Context())

    async def close(self) -> None:
        for entry in self.entries:
            await asyncio.to_thread(entry.close)

    def _here(self, differs: Mapping[str, str]) -> dict[str, str]:
        folders = {"tenants_dir": "tenants", "state_dir": "state", "model_artifacts_dir": "models"}
        # The emulator runs no function: a child parses. tests/integration/aws has the parser itself.
        own = {"parser_function": ""} | {key: str(self.folder / part) for key, part in folders.items()}
        return {**self.differs, **differs, **own}

    def _deployed(self, settings: type[ProcessSettings]) -> dict[str, Any]:
        """Return the deployed function with an environment of this class; two share that of removing."""
        prefix, functions = settings.variable(""), f"assistant-{self.name}-"
        return next(
            each
            for each in self.account.client("lambda").list_functions()["Functions"]
            if each["FunctionName"].startswith(functions)
            and any(name.startswith(prefix) for name in each.get("Environment", {}).get("Variables", {}))
        )

    def task_environment(self) -> dict[str, str]:
        """The environment of the service's container, with what differs here."""
        (task,) = resources_of(
            self.account, f"assistant-{self.name}-Orchestrator", "AWS::ECS::TaskDefinition"
        )
        found = self.account.client("ecs").describe_task_definition(taskDefinition=task)
        (container,) = [
            each for each in found["taskDefinition"]["containerDefinitions"] if each["name"] == "Service"
        ]
        given = {pair["name"]: pair["value"] for pair in container["environment"]}
        given.pop(ServiceSettings.variable("otlp_endpoint"), None)
        here = self._here({"host": "127.0.0.1", "port": "0", "operations_port": "0"})
        return given | {ServiceSettings.variable(key): value for key, value in here.items()}

    @asynccontextmanager
    async def service(self, **more: str) -> AsyncGenerator[RunningProcess]:
        """Start the service with its task's environment and ``more`` variables."""
        own = {"PYTHONPATH": str(ROOT), "AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated"}
        async with process("service", self.task_environment() | own | more) as service:
            yield service

    def token(self, *roles: str) -> str:
        """Return a token of the tenant's issuer, whose key is that of the tests."""
        issuer = self.task_environment()[ServiceSettings.variable("issuer")]
        return token(
            claims(datetime.now(UTC), iss=issuer, aud="assistant", tenant=self.name, roles=list(roles))
        )

    async def asked(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Start the service, ask once, and return the answer's events by name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the task's certificate is made at its start
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        headers = {"authorization": f"Bearer {self.token('agent')}", "accept": "text/event-stream"}
        async with (
            self.service() as service,
            httpx.AsyncClient(
                base_url=service.url, headers=headers, verify=context, trust_env=False, timeout=60
            ) as agent,
        ):
            return dict(events_of((await agent.post("/v1/answers", json=question)).text))

    def queue(self, name: str) -> str:
        """The URL of a queue, as the environment of its function has it."""
        function = self._deployed(IngestingSettings)
        return str(function["Environment"]["Variables"][IngestingSettings.variable(name)])

    def messages(self, name: str, *, wait_s: int = 0) -> dict[str, Any]:
        """Take what is in a queue, as the event that Lambda would make of it; wait as long for the first."""
        sqs, url = self.account.client("sqs"), self.queue(name)
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s).get(
            "Messages", []
        )
        for each in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        return sqs_event(url.rpartition("/")[2], [each["Body"] for each in found])

    def bucket(self, name: str) -> str:
        buckets = resources_of(self.account, f"assistant-{self.name}-Data", "AWS::S3::Bucket")
        return next(bucket for bucket in buckets if name in bucket)
