"""docs/from-nothing.md walked by its commands as they stand, for two tenants, on emulated accounts; then for
the second one a delivery by GitHub.

The commands run in a copy of the repository, by the real ``cdk``, ``assistant`` and ``aws``. ``INSTEAD``
names what no emulator has, and what stands for it. Behind a ``*Check:*`` its command runs too. The walk ends
with an answer that a model of Bedrock wrote: a server that speaks its documented frames.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from assistant.process.settings import UPLOADS_PREFIX, ProbeSettings
from assistant.tenant.deployed_names import LINK_SECRET_RESOURCE
from assistant.tenant.tenant import load_tenant
from tests.options.bedrock.frames import ENDPOINT_VARIABLE, copies_a_line
from tests.stacks.delivery_roles import JOBS
from tests.stacks.emulated_account import EmulatedTenant
from tests.stage.lambda_events import custom_resource, object_created, sqs_event
from tests.stage.sagemaker_runtime import start_embedding
from tests.stage.servers import Authority, Exchange, ScriptedServer, scripted_http, tls_front
from tests.stage.tenant_files import FIRST, section
from tests.walk.walking import (
    Walk,
    take,
)

INSTEAD: Mapping[int, str] = {
    1: "the environment that runs this test is what it makes",
    2: "the walk's aws.config has both profiles",
    4: "the certificate is issued by the emulator",
    6: "the emulator's quotas are unlimited",
    8: "no Docker: the registry gets a manifest of each image, the lock its digest",
    13: "the emulator runs no state machine: the deployed definition runs in this process meanwhile",
    14: "the emulator lists AWS's own services alone",
    19: "no event and no function runs: the handlers of receiving and indexing run here, with the "
    "environments of their deployment but for DIFFERS",
    20: "the service is a process, and the probe's handler runs here, as 19",
}
DIFFERS: tuple[str, ...] = ("aws_endpoint_url", "sagemaker_endpoint_url", "search", "tls")
"""Emulators have addresses; the index is in a folder (tests/stacks/test_emulated_tenant.py has a node); TLS
is ended before the service, as the load balancer does it."""
pytestmark = pytest.mark.loopback


ASKING = FIRST[18:]
"""Actions that need a service."""
COMMANDS = re.compile(r"`(assistant ask [^`]+)`")


async def test_the_page_leads_to_a_written_answer(
    walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for action in FIRST[:18]:
        await asyncio.to_thread(take, walk, action)
    power = walk.account.client("ssm").get_parameter(Name=f"/assistant/{walk.tenant}/power")
    assert power["Parameter"]["Value"] == "on"
    tenant = load_tenant(walk.clone / "tenants" / f"{walk.tenant}.toml")
    endpoints = walk.account.client("sagemaker").list_endpoints()["Endpoints"]
    (endpoint,) = [each["EndpointName"] for each in endpoints if each["EndpointName"].startswith(walk.tenant)]
    assert endpoint == tenant.embedding.endpoint

    adding, asking = [walk.told(block) for action in ASKING for block in action.blocks]
    async with answering(walk, tmp_path, monkeypatch) as site:
        said = await site.load(adding)
        files = [path for path in (walk.clone / "knowledge/pharmacy").rglob("*") if path.is_file()]
        told = " ".join(said.split())
        read = re.search(r"([\d,]+) files put, ([\d,]+) read .*: [\d,]+ added, .* 0 refused", told)
        assert read is not None, said
        assert 0 < int(read[1]) == int(read[2]) <= len(files)
        assert f"--function-name {walk.printed['PROBE_FUNCTION_NAME']}" in asking
        assert await site.probe() == {"outcome": "working", "reason": "stop"}
        (called,) = site.bedrock.exchanges
        assert unquote(called.target) == f"/model/{tenant.generation.model}/converse-stream"
        (signed_in,) = COMMANDS.findall(section("Then: people sign in"))
        said = await site.run(walk.told(signed_in), role="agent")
        line = re.search(r"^(.*79.*)\[1\]", said, re.MULTILINE)
        assert line is not None, said
        told = await site.run(
            walk.told(signed_in).replace("assistant ask", "assistant --json ask"), role="agent"
        )
        usage = json.loads(told)["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 2)  # as the frames say
        assert len(site.bedrock.exchanges) == 3
    if walk.tenant == walk.shown:
        return
    variables = {"TENANT": walk.tenant, "REQUIRE": "", "ACCEPT": ""}
    for job in ("diff", "deploy"):
        (command,) = [step for each in JOBS[job]["steps"] if "assistant aws" in (step := each.get("run", ""))]
        said = await asyncio.to_thread(walk.run, command, variables=variables)
    assert "search schema: " in said


@dataclass
class Site:
    """What runs on AWS once the tenant is on."""

    walk: Walk
    deployed: EmulatedTenant
    url: str
    authority: Path
    bedrock: ScriptedServer
    monkeypatch: pytest.MonkeyPatch

    async def run(self, command: str, *, role: str) -> str:
        """Run a command of the page that calls the service, with a token of this role."""
        shown = f"https://assistant.{self.walk.tenant}.northshop.net"
        assert shown in command
        variables = {
            "ASSISTANT_LOCAL_SERVICE_TOKEN": self.deployed.token(role),
            "ASSISTANT_LOCAL_SERVICE_CA_FILE": str(self.authority),
        }
        return await asyncio.to_thread(self.walk.run, command.replace(shown, self.url), variables=variables)

    async def load(self, command: str) -> str:
        """Run the command that pushes files, and meanwhile what reads each; then the worker."""
        s3, inbox, received = self.walk.account.client("s3"), self.deployed.bucket("inbox"), set[str]()
        # The template says so, and the emulator makes a bucket without.
        s3.put_bucket_versioning(Bucket=inbox, VersioningConfiguration={"Status": "Enabled"})
        pushing = asyncio.create_task(asyncio.to_thread(self.walk.run, command))
        while not pushing.done():
            found = (await asyncio.to_thread(s3.list_object_versions, Bucket=inbox)).get("Versions", [])
            for each in found:
                if each["VersionId"] not in received and not each["Key"].startswith(UPLOADS_PREFIX):
                    received.add(each["VersionId"])
                    came = object_created(inbox, each["Key"], version=each["VersionId"])
                    done = await self.deployed.call("receive_documents", sqs_event("inbox", [came]))
                    assert done == {"batchItemFailures": []}
        while (batch := await asyncio.to_thread(self.deployed.messages, "ingestion_queue_url"))["Records"]:
            assert await self.deployed.call("ingest_documents", batch) == {"batchItemFailures": []}
        return await pushing

    async def probe(self) -> dict[str, Any]:
        """Invoke the function of action 20, by its name."""
        name = self.walk.printed["PROBE_FUNCTION_NAME"]
        function = self.walk.care.client("lambda").get_function(FunctionName=name)["Configuration"]
        here = {
            "service_url": self.url,
            "aws_endpoint_url": self.walk.care.url,
            "certificate_authority": self.authority.read_text(),
        }
        named = {ProbeSettings.variable(key): value for key, value in here.items()}
        for variable, value in (function["Environment"]["Variables"] | named).items():
            self.monkeypatch.setenv(variable, value)
        done = await asyncio.to_thread(importlib.import_module("lambdas.ask_probe").handle, {}, None)
        return {name: done[name] for name in ("outcome", "reason")}


@asynccontextmanager
async def answering(walk: Walk, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Site]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "emulated")

    async def taken(exchange: Exchange) -> None:
        assert orjson.loads(exchange.body)["Status"] == "SUCCESS", exchange.body
        await exchange.respond(200, b"")

    authority = Authority.make()
    (folder / "authority.pem").write_text(authority.pem)
    async with AsyncExitStack() as stack:
        gateway = await start_embedding(stack, endpoint=f"{walk.tenant}-embedding")
        bedrock = await stack.enter_async_context(scripted_http(copies_a_line("79")))
        differs = dict(zip(DIFFERS, (walk.account.url, gateway, "embedded", "off"), strict=True))
        deployed = EmulatedTenant(walk.account, walk.tenant, differs, monkeypatch, folder)
        stack.push_async_callback(deployed.close)
        responses = await stack.enter_async_context(scripted_http(taken))
        asked = {"Parameter": f"/assistant/{walk.tenant}/document-links"}
        made = custom_resource(LINK_SECRET_RESOURCE, "Create", response_url=responses.url, **asked)
        await deployed.call("create_link_secret", made)
        service = await stack.enter_async_context(deployed.service(**{ENDPOINT_VARIABLE: bedrock.url}))
        url = await stack.enter_async_context(tls_front(service.url, folder, authority=authority))
        yield Site(walk, deployed, url, folder / "authority.pem", bedrock, monkeypatch)
