"""Other people's CloudFormation, each a process of this machine that is one account, and the real ``cdk``
on it.

``ministack`` is locked in ``requirements/engine.txt`` and lies in an environment of its own under Lambda's
Python, by which it runs functions without Docker. AWS's own emulator comes as a Debian or RPM package and is
in no registry of Python's, so a machine has it or has not.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Collection, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from assistant.process.settings import inherited_environment
from template_checks.upgrades import templates_by_stack_name
from tests.fakes.opensearch_domain import search_domain
from tests.fakes.tls_front import Authority, tls_front
from tests.programs import require
from tests.stacks.emulated_account import ACCOUNT, REGION, EmulatedAccount, asked_for, printed
from tests.stacks.synthesized import ROOT

MINISTACK = ROOT / "build/engine/bin/ministack"
AWS_ACCOUNT = "000000000000"
"""The only account of AWS's own emulator."""
_START_LIMIT_S = 60
_BEFORE_MODELS = {"Keys", "Network", "Data"}


@asynccontextmanager
async def ministack(home: Path, *, node_url: str) -> AsyncGenerator[EmulatedAccount]:
    """Start ministack on a free port. ``node_url``: an OpenSearch node, which its search domains lead to."""
    program, authority = require(MINISTACK), Authority.make()
    certificate = home / "authority.pem"
    certificate.write_text(authority.pem)
    async with (
        search_domain(node_url) as domain,
        tls_front(domain.url, home, authority=authority) as front,
    ):
        port = _free_port()
        variables = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "LAMBDA_EXECUTOR": "local",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_OPENSEARCH_ENDPOINT": front.removeprefix("https://"),
            "SSL_CERT_FILE": str(certificate),  # functions inherit it
            "TMPDIR": str(home),
        }
        account = EmulatedAccount(url=f"http://127.0.0.1:{port}", account=ACCOUNT, home=home)
        with _running([program], account, variables):
            yield account


@contextmanager
def aws_emulator(home: Path) -> Generator[EmulatedAccount]:
    """Start AWS's own emulator on a free port, or skip the test. Never run here: by its command reference."""
    program = shutil.which("aws-emulator")
    if program is None:
        pytest.skip("needs aws-emulator")  # also in CI, which cannot fetch it
    port = _free_port()
    account = EmulatedAccount(
        url=f"https://127.0.0.1:{port}",
        account=AWS_ACCOUNT,
        home=home,
        certificate=home / f".aws/emulator/{port}/ca.pem",
    )
    with _running(
        [program, "--port", str(port), "--auth", "off"],
        account,
        {"HOME": str(home), "EMULATOR_TELEMETRY": "off"},
    ):
        yield account


@contextmanager
def _running(
    command: Sequence[str], account: EmulatedAccount, variables: Mapping[str, str]
) -> Generator[None]:
    environment = {**inherited_environment(), **variables}
    environment.pop("PYTHONPATH", None)  # a function would import from there what its package lacks
    with (account.home / "emulator.log").open("w") as log:
        process = subprocess.Popen(command, cwd=account.home, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + _START_LIMIT_S
        while not _answers(account):
            assert process.poll() is None, (account.home / "emulator.log").read_text()[-2000:]
            assert time.monotonic() < until, "The engine does not answer."
            time.sleep(0.3)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(account: EmulatedAccount) -> bool:
    try:
        return account.client("sts").get_caller_identity()["Account"] == account.account
    except (BotoCoreError, ClientError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# --- deployments ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a deployment."""

    stacks: list[str]
    created: list[str]
    refusal: str
    """What was said of the first resource or stack that was refused; empty where none was."""


async def deploy_tenant(
    account: EmulatedAccount, stage: Path, tenant: str, *, tenants: Path, names: Collection[str] = ()
) -> Outcome:
    """Bootstrap the account and deploy a tenant's stage, or the named stacks with all that they build on, in
    the order of docs/from-nothing.md: models are put once their bucket stands. ``tenants``: the folder of the
    tenant files."""
    bootstrap = ("bootstrap", f"aws://{account.account}/{REGION}", "--app", stage)
    done = await asyncio.to_thread(account.cdk, *bootstrap)
    assert done.returncode == 0, printed(done)
    account.put_parameter(f"/assistant/{tenant}/power", "on")
    account.put_parameter(f"/assistant/{tenant}/jwks", '{"keys": []}')
    if names and not set(names) - _BEFORE_MODELS:
        return await _deploy(account, stage, names)
    outcome = await _deploy(account, stage, _BEFORE_MODELS)
    if outcome.refusal:
        return outcome
    command = [Path(sys.executable).parent / "assistant", "aws", "put-artifacts"]
    done = await asyncio.to_thread(account.run, *command, "--tenants", tenants, "--tenant", tenant)
    # It ends with 1 for an LLM, whose artifacts no package contains.
    assert "/artifact.json" in done.stderr, printed(done)
    return await _deploy(account, stage, names or ("*",))


async def _deploy(account: EmulatedAccount, stage: Path, names: Collection[str]) -> Outcome:
    options = ["--require-approval=never", "--progress=events", *asked_for(stage)]
    patterns = [f"*/{name}" for name in names]
    done = await asyncio.to_thread(account.cdk, "deploy", "--app", stage, *options, *patterns)
    (account.home / "cdk.log").write_text(done.stdout + done.stderr)
    stacks = list(templates_by_stack_name(stage))
    standing = account.client("cloudformation").describe_stacks()["Stacks"]
    created = [
        each["StackName"]
        for each in standing
        if each["StackName"] in stacks and each["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    ]
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    refused = [line for line in said if re.search("_FAILED|fail: |❌|‣", line)] or said[-1:]
    return Outcome(stacks, created, refused[0].rpartition(" | ")[2] if done.returncode else "")
