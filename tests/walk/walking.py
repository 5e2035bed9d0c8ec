"""Clones that a platform engineer works in, with the emulated accounts that the commands of a page act on."""

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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.stacks.emulated_account import EmulatedAccount, emulated_account, log_of, push_images, switched
from tests.stacks.synthesized import ROOT
from tests.stage.tenant_files import CARE_APP, FIRST, Action, checkout_tenants, edited_as_told
from tests.stage.tokens import EC_KEY

ASSISTANT, CARE = "210987654321", "543210987654"


@dataclass
class Walk:
    """A clone that a platform engineer works in, with the two accounts."""

    tenant: str
    clone: Path
    account: EmulatedAccount
    care: EmulatedAccount
    printed: dict[str, str] = field(default_factory=dict[str, str])
    """What stands for a name in capitals: it was printed by an earlier action."""
    shown: str = "sandbox"
    """The tenant of the page."""

    def run(
        self,
        command: str,
        *,
        by: EmulatedAccount | None = None,
        status: int = 0,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command in the page's shell; return what it wrote."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.clone,
            env=self._environment(by or self.account, by_profile="--profile" in command)
            | dict(variables or {}),
            capture_output=True,
            text=True,
            timeout=1200,
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
            "444455556666": self.care.account,
            self.shown: self.tenant,
        }.items():
            text = text.replace(shown, meant)
        for name, value in self.printed.items():
            text = re.sub(rf"(?<!\w){re.escape(name)}\b", value, text)
        return text

    def _environment(self, account: EmulatedAccount, *, by_profile: bool) -> dict[str, str]:
        python = Path(sys.executable).parent
        folders = [self.clone / "node_modules/.bin", python, ROOT / "build/awscli/bin", os.environ["PATH"]]
        environment = account.environment | {
            "PATH": os.pathsep.join(map(str, folders)),
            "PYTHONPATH": str(self.clone),
            "AWS_CONFIG_FILE": str(self.clone / "aws.config"),
            "CDK_VALIDATION": "false",  # make synth judges the templates
            **{
                f"GIT_{role}_{key}": "engineer"
                for role in ("AUTHOR", "COMMITTER")
                for key in ("NAME", "EMAIL")
            },
        }
        if by_profile:
            del environment["AWS_ENDPOINT_URL"]  # it would stand over each profile's own
            environment["AWS_PROFILE"] = "ASSISTANT"
        return environment


def run_the_machine(walk: Walk) -> None:
    """Run the deployed definition once the command has started an execution."""
    machine = outputs_of(walk.account, f"assistant-{walk.tenant}-Models")["ResumeMachine"]
    client, ends = walk.account.client("stepfunctions"), time.monotonic() + 300
    while not client.list_executions(stateMachineArn=machine)["executions"]:
        assert time.monotonic() < ends, "no execution was started"
        time.sleep(0.2)
    switched(walk.account, "Resume", tenant=walk.tenant)


def outputs_of(account: EmulatedAccount, stack: str) -> dict[str, str]:
    described = account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


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
    # The emulator has no change sets. Nobody is there to approve, also where a page does not say so. Of a
    # profile cdk takes the keys, and not the address of its emulator.
    command.write_text(
        "#!/bin/bash\nfor name in ASSISTANT CARE; do\n"
        '[[ " $* " != *" --profile $name "* ]] ||'
        ' export AWS_ENDPOINT_URL="$(aws configure get endpoint_url --profile $name)"\ndone\n'
        '[[ "$1" != deploy || " $* " == *" --method="* ]] || set -- "$@" --method=direct\n'
        '[[ "$1" != deploy || " $* " == *" --require-approval "* ]] || set -- "$@" --require-approval=never\n'
        f'exec {ROOT}/node_modules/.bin/cdk "$@"\n'
    )
    command.chmod(0o755)


def edited(walk: Walk, file: str, values: Mapping[str, str]) -> None:
    """Replace patterns in a file of the clone, each of which is there."""
    path = walk.clone / file
    text = path.read_text(encoding="utf-8")
    for pattern, value in values.items():
        text, count = re.subn(pattern, value, text)
        assert count, pattern
    path.write_text(text, encoding="utf-8")


@contextmanager
def both_accounts(factory: pytest.TempPathFactory) -> Iterator[tuple[EmulatedAccount, EmulatedAccount]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_ACM_VALIDATION_WAIT", "0")  # seconds until a certificate is issued
        with (
            emulated_account(factory.mktemp("assistant"), account=ASSISTANT) as account,
            emulated_account(factory.mktemp("care"), account=CARE) as care,
        ):
            yield account, care


def begin(tenant: str, clone: Path, account: EmulatedAccount, care: EmulatedAccount) -> Walk:
    """Return a walk in a new clone."""
    walk = Walk(tenant, clone, account, care)
    copy_repository(walk.clone)
    walk.run("git init -q && git add tenants care_app images.lock.toml && git commit -qm Begin")
    (walk.clone / "aws.config").write_text(
        "".join(
            f"[profile {name}]\nregion = us-east-1\nendpoint_url = {each.url}\n"
            "aws_access_key_id = emulated\naws_secret_access_key = emulated\n"
            for name, each in (("ASSISTANT", account), ("CARE", care))
        )
    )
    return walk


OF_THE_CARE_TEAM = (16,)
"""Actions whose stacks are in the care team's account."""


OF_SYSTEMS = {
    r"\n\[\[?reach[.\w]*\]\]?\n(.+\n)+": "\n",
    r"\n\[\[sources\]\]\n(.+\n)*kind = \"live\"\n(.+\n)*": "\n",
    r"\n\[care_context\]\n(.+\n)+": "\n",
}
"""A company's own systems, which the tests' pharmacy has."""


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


NOT_RUN = (1, 6, 8, 14)


CHECKS_NOT_RUN = (10, 15, 19, 20)
"""Beside NOT_RUN: 10 looks at the command's own output, 15 runs as action 16 begins, and 19 and 20 have their
own."""


STATUS = {10: 1}


SAYS = {10: "Keys, Network, Data stand", 12: "search schema: "}
"""Action 10 ends with 1 and says what it waits for."""


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


def remember(walk: Walk, action: Action, wrote: str) -> None:
    """Keep what the action printed and a later one names."""
    if action.number == 3:
        (walk.printed["ARN"],) = set(re.findall(r"arn:aws:acm:[\w:/-]+", wrote))
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
    command = re.match(r"(?:within [a-z]+ minutes )?`((?:aws|assistant|git|openssl|until) [^`]+)`(.*)", text)
    if command is None:
        return
    wrote = walk.run(walk.told(command[1]), by=by)
    said = re.match(r" (?:says|lists) `([^`]+)`", command[2])
    assert said is None or walk.told(said[1]) in wrote, wrote
