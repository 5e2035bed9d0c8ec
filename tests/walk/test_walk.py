"""docs/from-nothing.md walked by its commands as they stand, for two tenants, on emulated accounts.

The commands run in a copy of the repository, by the real ``cdk``, ``assistant`` and ``aws``. ``INSTEAD``
names what no emulator has, and what stands for it. Behind a ``*Check:*`` its command runs too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assistant.tenant.manifests import load_images, write_digest
from assistant.tenant.tenant import load_tenant
from tests.fakes.tenant_files import CARE_APP, checkout_tenants
from tests.stacks.emulated_account import EmulatedAccount, emulated_account, log_of
from tests.stacks.synthesized import ROOT
from tests.stacks.test_emulated_power import switched
from tests.unit.test_from_nothing import FIRST, Action

ASSISTANT, CARE = "210987654321", "543210987654"
OF_THE_CARE_TEAM = (14, 16)
"""Actions whose commands run with credentials of the care team's account."""
INSTEAD: Mapping[int, str] = {
    1: "the environment that runs this test is what it makes",
    4: "the certificate is issued by the emulator",
    5: "nobody signs in: assistant aws doctor --token has tests of its own",
    7: "the emulator's quotas are unlimited",
    9: "no Docker: the registry gets a manifest of each image, the lock its digest",
    13: "the emulator runs no state machine: the deployed definition runs in this process meanwhile",
    19: "no task runs: tests/stacks/test_emulated_answer.py loads and asks a deployment's service",
    20: "no function runs: as 19",
}
pytestmark = pytest.mark.loopback


@dataclass
class Walk:
    """A clone that a platform engineer works in, with the two accounts."""

    tenant: str
    clone: Path
    account: EmulatedAccount
    care: EmulatedAccount
    printed: dict[str, str] = field(default_factory=dict[str, str])
    """What stands for a name in capitals: it was printed by an earlier action."""

    def run(self, command: str, *, by: EmulatedAccount | None = None, status: int = 0) -> str:
        """Run a command in the page's shell; return what it wrote."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.clone,
            env=self._environment(by or self.account, by_profile="--profile" in command),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}" + log_of(
            by or self.account
        )
        return done.stdout + done.stderr

    def told(self, text: str) -> str:
        """Put this tenant's values in place of the page's."""
        for shown, meant in {
            "111122223333": ASSISTANT,
            "444455556666": CARE,
            "pharmacy": self.tenant,
        }.items():
            text = text.replace(shown, meant)
        for name, value in self.printed.items():
            text = re.sub(rf"\b{name}\b", value, text)
        return text

    def _environment(self, account: EmulatedAccount, *, by_profile: bool) -> dict[str, str]:
        python = Path(sys.executable).parent
        folders = [self.clone / "node_modules/.bin", python, ROOT / "build/awscli/bin", os.environ["PATH"]]
        environment = account.environment | {
            "PATH": os.pathsep.join(map(str, folders)),
            "PYTHONPATH": str(self.clone),
            "AWS_CONFIG_FILE": str(self.clone / "aws.config"),
            "CDK_VALIDATION": "false",  # make synth judges the templates
        }
        if by_profile:
            del environment["AWS_ENDPOINT_URL"]  # it would stand over each profile's own
        return environment


# --- edits and what stands for a ticket -------------------------------------------------------------------
def edit_tenant_file(walk: Walk) -> None:
    walk.account.client("iam").create_role(
        RoleName=f"platform-engineer-{walk.tenant}", AssumeRolePolicyDocument="{}"
    )
    path = walk.clone / "tenants" / f"{walk.tenant}.toml"
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"\n\[\[reach\]\]\n(.+\n)+", "\n", text)
    text = re.sub(r"\n\[\[sources\]\]\n(.+\n)*kind = \"live\"\n(.+\n)*", "\n", text)
    text = re.sub(r"\n\[care_context\]\n(.+\n)+", "\n", text)
    role = f"arn:aws:iam::{ASSISTANT}:role/platform-engineer-{walk.tenant}"
    values = {
        r'certificate_arn = ".*"': f'certificate_arn = "{walk.printed["ARN"]}"',
        r"allowed_principals = .*": f'allowed_principals = ["arn:aws:iam::{CARE}:root"]',
        r"artifact_publishers = .*": f'artifact_publishers = ["{role}"]',
        r'accelerator = ".*"': 'accelerator = "cpu"',
        r'llm = ".*"': 'llm = "smollm2-135m-cpu"',
        r"111122223333": ASSISTANT,
        r"example\.com": "northshop.net",
    }
    for pattern, value in values.items():
        text, count = re.subn(pattern, value, text)
        assert count, pattern
    path.write_text(text, encoding="utf-8")


def push_manifests(walk: Walk) -> None:
    lock, ecr = walk.clone / "images.lock.toml", walk.account.client("ecr")
    for name, image in load_images(lock).images.items():
        digest = f"sha256:{'d' * 64}"
        if image.is_own:
            manifest = json.dumps({"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []})
            named = {"repositoryName": image.repository}
            with suppress(ecr.exceptions.ImageAlreadyExistsException):  # the other tenant's walk put it
                ecr.put_image(**named, imageTag=image.tag, imageManifest=manifest)
            (there,) = ecr.describe_images(**named, imageIds=[{"imageTag": image.tag}])["imageDetails"]
            digest = there["imageDigest"]
        write_digest(lock, name=name, digest=digest)


def issuer_publishes_keys(walk: Walk) -> None:
    """The made-up issuer cannot be reached: its keys are put by hand, as the refusal says."""
    walk.account.put_parameter(f"/assistant/{walk.tenant}/jwks", '{"keys": []}')


def run_the_machine(walk: Walk) -> None:
    """Run the deployed definition once the command has started an execution."""
    machine = outputs_of(walk.account, f"assistant-{walk.tenant}-Models")["ResumeMachine"]
    client, ends = walk.account.client("stepfunctions"), time.monotonic() + 300
    while not client.list_executions(stateMachineArn=machine)["executions"]:
        assert time.monotonic() < ends, "no execution was started"
        time.sleep(0.2)
    switched(walk.account, "Resume", tenant=walk.tenant)


def edit_care_file(walk: Walk) -> None:
    path = walk.clone / "care_app" / f"{walk.tenant}.toml"
    text = (ROOT / "tests/care_app/pharmacy.toml").read_text(encoding="utf-8")
    for shown, value in care_network(walk.care).items():
        text = text.replace(shown, value)
    service = outputs_of(walk.account, f"assistant-{walk.tenant}-Edge")["EndpointServiceName"]
    text = re.sub(r'service_name = ".*"', f'service_name = "{service}"', text)
    text = text.replace("444455556666", CARE).replace('"pharmacy"', f'"{walk.tenant}"')
    path.write_text(text, encoding="utf-8")


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


def outputs_of(account: EmulatedAccount, stack: str) -> dict[str, str]:
    described = account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


BEFORE: Mapping[int, Callable[[Walk], None]] = {10: issuer_publishes_keys}
MEANWHILE: Mapping[int, Callable[[Walk], None]] = {13: run_the_machine}
AFTER: Mapping[int, Callable[[Walk], None]] = {
    6: edit_tenant_file,
    9: push_manifests,
    15: edit_care_file,
}
NOT_RUN = (1, 9, 19, 20)
CHECKS_NOT_RUN = (1, 5, 7, 9, 10, 15)
"""Of what does not run; 9 and 10 look at git and at the command's own output, 15 runs as action 16 begins."""
STATUS = {10: 1}
SAYS = {10: "Keys, Network, Data stand", 12: "search schema: "}
"""Action 10 ends with 1 and says what it waits for."""


@pytest.fixture(scope="module")
def accounts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EmulatedAccount, EmulatedAccount]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_ACM_VALIDATION_WAIT", "0")  # seconds until a certificate is issued
        yield from both_accounts(tmp_path_factory)


def both_accounts(
    factory: pytest.TempPathFactory,
) -> Iterator[tuple[EmulatedAccount, EmulatedAccount]]:
    with (
        emulated_account(factory.mktemp("assistant"), account=ASSISTANT) as account,
        emulated_account(factory.mktemp("care"), account=CARE) as care,
    ):
        yield account, care


@pytest.fixture(params=["pharmacy", "northcare"])
def walk(
    request: pytest.FixtureRequest, tmp_path: Path, accounts: tuple[EmulatedAccount, EmulatedAccount]
) -> Walk:
    account, care = accounts
    walk = Walk(request.param, tmp_path / "clone", account, care)
    copy_repository(walk.clone)
    (walk.clone / "aws.config").write_text(
        "".join(
            f"[profile {name}]\nregion = us-east-1\nendpoint_url = {each.url}\n"
            "aws_access_key_id = emulated\naws_secret_access_key = emulated\n"
            for name, each in (("ASSISTANT", account), ("CARE", care))
        )
    )
    if walk.tenant != "pharmacy":
        walk.run(f"assistant tenant new {walk.tenant} --from pharmacy")
    return walk


def copy_repository(clone: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "tenants/", "care_app/")):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    checkout_tenants(clone)
    shutil.copytree(CARE_APP, clone / "care_app")
    (clone / ".venv").symlink_to(ROOT / ".venv")
    (clone / "build").mkdir()
    (clone / "build/functions").symlink_to(ROOT / "build/functions")
    (clone / "node_modules/.bin").mkdir(parents=True)
    for entry in (ROOT / "node_modules").iterdir():
        if entry.name != ".bin":
            (clone / "node_modules" / entry.name).symlink_to(entry)
    command = clone / "node_modules/.bin/cdk"
    # The emulator has no change sets; nobody is there to approve.
    command.write_text(
        f'#!/bin/bash\n[ "$1" != deploy ] || set -- "$@" --method=direct --require-approval=never\n'
        f'exec {ROOT}/node_modules/.bin/cdk "$@"\n'
    )
    command.chmod(0o755)


def test_the_page_leads_to_a_deployed_tenant(walk: Walk) -> None:
    for action in FIRST:
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
    power = walk.account.client("ssm").get_parameter(Name=f"/assistant/{walk.tenant}/power")
    assert power["Parameter"]["Value"] == "on"
    tenant = load_tenant(walk.clone / "tenants" / f"{walk.tenant}.toml")
    names = {each["EndpointName"] for each in walk.account.client("sagemaker").list_endpoints()["Endpoints"]}
    assert {tenant.embedding.endpoint, tenant.generation.endpoint} <= names


def remember(walk: Walk, action: Action, wrote: str) -> None:
    """Keep what the action printed and a later one names."""
    if action.number == 3:
        walk.printed["ARN"] = wrote.strip()
    if action.number == 16:
        outputs = outputs_of(walk.care, f"assistant-{walk.tenant}-care-Link")
        walk.printed["ENDPOINT_ID"], walk.printed["PROBE_KEY_ID"] = (
            outputs["EndpointId"],
            outputs["ProbeKeyId"],
        )
        services = walk.account.client("cloudformation").describe_stack_resources(
            StackName=f"assistant-{walk.tenant}-Edge"
        )["StackResources"]
        (walk.printed["SERVICE_ID"],) = [
            each["PhysicalResourceId"]
            for each in services
            if each["ResourceType"] == "AWS::EC2::VPCEndpointService"
        ]


def check(walk: Walk, action: Action, by: EmulatedAccount) -> None:
    """Run the command of the action's check; what it says follows in the same line of the page."""
    (text,) = action.checks
    command = re.match(r"(?:within [a-z]+ minutes )?`((?:aws|assistant|git) [^`]+)`(.*)", text)
    if command is None:
        return
    wrote = walk.run(walk.told(command[1]), by=by)
    said = re.match(r" (?:says|lists) `([^`]+)`", command[2])
    assert said is None or walk.told(said[1]) in wrote, wrote
