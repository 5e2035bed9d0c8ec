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
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from tests.fakes.lambda_events import custom_resource, object_created, sqs_event
from tests.fakes.model_processes import start_embedding
from tests.fakes.scripted_http import Exchange, ScriptedServer, scripted_http
from tests.fakes.tls_front import Authority, tls_front
from tests.fakes.tokens import EC_KEY
from tests.options.bedrock.writer import ENDPOINT_VARIABLE, copies_a_line
from tests.stacks.delivery_roles import JOBS
from tests.stacks.emulated_account import EmulatedAccount, push_images
from tests.stacks.emulated_tenant import EmulatedTenant
from tests.stacks.synthesized import ROOT
from tests.unit.test_from_nothing import FIRST, Action, edited_as_told, section
from tests.walk.walking import (
    Walk,
    begin,
    both_accounts,
    edited,
    outputs_of,
    run_the_machine,
)

OF_THE_CARE_TEAM = (14, 16)
"""Actions whose commands run with credentials of the care team's account."""
INSTEAD: Mapping[int, str] = {
    1: "the environment that runs this test is what it makes",
    4: "the certificate is issued by the emulator",
    6: "the emulator's quotas are unlimited",
    8: "no Docker: the registry gets a manifest of each image, the lock its digest",
    13: "the emulator runs no state machine: the deployed definition runs in this process meanwhile",
    19: "no event and no function runs: the handlers of receiving and indexing run here, with the "
    "environments of their deployment but for DIFFERS",
    20: "the service is a process, and the probe's handler runs here, as 19",
}
DIFFERS: tuple[str, ...] = ("aws_endpoint_url", "sagemaker_endpoint_url", "search", "tls")
"""Emulators have addresses; the index is in a folder (tests/stacks/test_emulated_answer.py has a node); TLS
is ended before the service, as the load balancer does it."""
pytestmark = pytest.mark.loopback


OF_SYSTEMS = {
    r"\n\[\[?reach[.\w]*\]\]?\n(.+\n)+": "\n",
    r"\n\[\[sources\]\]\n(.+\n)*kind = \"live\"\n(.+\n)*": "\n",
    r"\n\[care_context\]\n(.+\n)+": "\n",
}
"""A company's own systems, which the tests' pharmacy has."""


# --- edits and what stands for a ticket -------------------------------------------------------------------
def edit_tenant_file(walk: Walk) -> None:
    """The engineer of the first tenant is a user of IAM, of another one a role."""
    iam, name = walk.account.client("iam"), f"platform-engineer-{walk.tenant}"
    if walk.tenant == walk.shown:
        walk.printed["MY_ARN"] = iam.create_user(UserName=name)["User"]["Arn"]
    else:
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        walk.printed["MY_ARN"] = made["Role"]["Arn"]
    file = walk.clone / f"tenants/{walk.tenant}.toml"
    file.write_text(edited_as_told(file.read_text(encoding="utf-8"), FIRST[4], walk.told), encoding="utf-8")
    if walk.tenant == "pharmacy":
        edited(walk, f"tenants/{walk.tenant}.toml", OF_SYSTEMS)


def issuer_publishes_keys(walk: Walk) -> None:
    """The made-up issuer cannot be reached: its keys are put by hand, as the refusal says."""
    keys = json.dumps({"keys": [EC_KEY.as_dict(private=False)]})
    walk.account.put_parameter(f"/assistant/{walk.tenant}/jwks", keys)


def edit_care_file(walk: Walk) -> None:
    """The first tenant's care side has a small VPC of its own, the second's the care team's."""
    file = walk.clone / "care_app" / f"{walk.tenant}.toml"
    if walk.tenant != walk.shown:
        shutil.copy(ROOT / "tests/care_app/pharmacy.toml", file)
        own = {r'tenant = ".*"': f'tenant = "{walk.tenant}"'}
        edited(walk, f"care_app/{walk.tenant}.toml", own | care_network(walk.care))
    file.write_text(edited_as_told(file.read_text(encoding="utf-8"), FIRST[14], walk.told), encoding="utf-8")


def care_network(care: EmulatedAccount) -> dict[str, str]:
    """Make the care team's own network; return the id of each by the one that the shipped file shows."""
    ec2 = care.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.32.0.0/18")["Vpc"]["VpcId"]
    made = {"vpc-0c0c0c0c0c0c0c0c0": vpc}
    for number, zone in enumerate("abc"):
        place = {"VpcId": vpc, "AvailabilityZone": f"us-east-1{zone}", "CidrBlock": f"10.32.{number}.0/24"}
        made[f"subnet-0c0c0c0c0c0c0c0c{zone}"] = ec2.create_subnet(**place)["Subnet"]["SubnetId"]
    made["rtb-0c0c0c0c0c0c0c0ca"] = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    kms = {"VpcId": vpc, "ServiceName": "com.amazonaws.us-east-1.kms", "VpcEndpointType": "Interface"}
    made["vpce-0c0c0c0c0c0c0c0c1"] = ec2.create_vpc_endpoint(**kms)["VpcEndpoint"]["VpcEndpointId"]
    return made


BEFORE: Mapping[int, Callable[[Walk], None]] = {10: issuer_publishes_keys}
MEANWHILE: Mapping[int, Callable[[Walk], None]] = {13: run_the_machine}
AFTER: Mapping[int, Callable[[Walk], None]] = {
    5: edit_tenant_file,
    8: lambda walk: push_images(walk.clone / "images.lock.toml", walk.account),
    15: edit_care_file,
}
NOT_RUN = (1, 8)
CHECKS_NOT_RUN = (1, 6, 8, 10, 15, 19, 20)
"""Of what does not run; 8 and 10 look at git and at the command's own output, 15 runs as action 16 begins,
and 19 and 20 have their own."""
STATUS = {10: 1}
SAYS = {10: "Keys, Network, Data stand", 12: "search schema: "}
"""Action 10 ends with 1 and says what it waits for."""
ASKING = FIRST[18:]
"""Actions that need a service."""
COMMANDS = re.compile(r"`(assistant ask [^`]+)`")


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmulatedAccount, EmulatedAccount]]:
    with both_accounts(tmp_path_factory) as made:
        yield made


@pytest.fixture(params=["sandbox", "northcare"])
def walk(
    request: pytest.FixtureRequest, tmp_path: Path, accounts: tuple[EmulatedAccount, EmulatedAccount]
) -> Walk:
    account, care = accounts
    walk = begin(request.param, tmp_path / "clone", account, account if request.param == "sandbox" else care)
    for folder in ("tenants", "care_app"):  # as they ship
        shutil.copy(ROOT / folder / f"{walk.shown}.toml", walk.clone / folder)
    walk.run("git commit --all --quiet --allow-empty --message Shipped")
    if walk.tenant != walk.shown:
        walk.run(f"assistant tenant new {walk.tenant} --from {walk.shown} --knowledge knowledge/pharmacy")
    return walk


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


def take(walk: Walk, action: Action) -> None:
    """Do what an action says, then what its check says."""
    if action.number in BEFORE:
        BEFORE[action.number](walk)
    by = walk.care if action.number in OF_THE_CARE_TEAM else walk.account
    if action.number not in NOT_RUN:
        with ThreadPoolExecutor() as beside:
            meanwhile = [
                beside.submit(run, walk) for number, run in MEANWHILE.items() if number == action.number
            ]
            for block in action.blocks:
                wrote = walk.run(walk.told(block), by=by, status=STATUS.get(action.number, 0))
                assert SAYS.get(action.number, "") in wrote, wrote
                remember(walk, action, wrote)
        for future in meanwhile:
            future.result()
    if action.number in AFTER:
        AFTER[action.number](walk)
    if action.number not in CHECKS_NOT_RUN + NOT_RUN:
        check(walk, action, by)


# --- the deployed service, its worker, its models and its probe -------------------------------------------
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


def remember(walk: Walk, action: Action, wrote: str) -> None:
    """Keep what the action printed and a later one names."""
    if action.number == 3:
        walk.printed["ARN"] = wrote.strip()
    if action.number == 12:
        edge = outputs_of(walk.account, f"assistant-{walk.tenant}-Edge")
        walk.printed["SERVICE_NAME"] = edge["EndpointServiceName"]
        walk.printed["SERVICE_ID"] = walk.printed["SERVICE_NAME"].rpartition(".")[2]
    if action.number == 16:
        outputs = outputs_of(walk.care, f"assistant-{walk.tenant}-care-Link")
        names = {"EndpointId": "ENDPOINT_ID", "ProbeKeyId": "PROBE_KEY_ID"}
        names["ProbeFunctionName"] = "PROBE_FUNCTION_NAME"
        walk.printed |= {name: outputs[output] for output, name in names.items()}


def check(walk: Walk, action: Action, by: EmulatedAccount) -> None:
    """Run the command of the action's check; what it says follows in the same line of the page."""
    (text,) = action.checks
    command = re.match(r"(?:within [a-z]+ minutes )?`((?:aws|assistant|git|openssl) [^`]+)`(.*)", text)
    if command is None:
        return
    wrote = walk.run(walk.told(command[1]), by=by)
    said = re.match(r" (?:says|lists) `([^`]+)`", command[2])
    assert said is None or walk.told(said[1]) in wrote, wrote
