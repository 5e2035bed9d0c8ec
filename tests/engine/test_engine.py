"""The assemblies of the example tenants on CloudFormation engines of others (``make check-engine``)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from assistant.cli.aws.templates import facts_of
from assistant.process.settings import inherited_environment
from template_checks.upgrades import templates_by_stack_name
from tests.engine.assembly import Replaced, read_lacks, replace_lacks
from tests.stacks.emulated_account import ACCOUNT, REGION, EmulatedAccount, asked_for, printed
from tests.stacks.mistakes.planted import (
    LISTENER,
    LOAD_BALANCER,
    PLANTED,
    Planted,
    Raw,
    Scene,
    raw_properties,
)
from tests.stacks.synthesized import ROOT, assembly_folder, synthesize
from tests.stage.opensearch_node import search_domain
from tests.stage.programs import require
from tests.stage.servers import Authority, tls_front

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


def no_way_to_the_alb(scene: Scene) -> None:
    for rule in scene.all("AWS::EC2::SecurityGroupIngress", Description="Nlb to Alb"):
        raw_properties(rule)["FromPort"] = raw_properties(rule)["ToPort"] = 80


def nlb_without_a_group(scene: Scene) -> None:
    del scene.properties(LOAD_BALANCER, Type="network")["SecurityGroups"]


def consumers_not_allowed(scene: Scene) -> None:
    rule = scene.properties("AWS::EC2::SecurityGroupIngress", Description="Clients on the care side")
    rule["CidrIp"] = "192.0.2.0/24"


def certificate_that_nobody_has(scene: Scene) -> None:
    arn = "arn:aws:acm:us-east-1:111122223333:certificate/99999999-9999-4999-8999-999999999999"
    scene.properties(LISTENER, Protocol="HTTPS")["Certificates"] = [{"CertificateArn": arn}]


def no_layers_of_images(scene: Scene) -> None:
    statements = raw_properties(scene.endpoint("s3"))["PolicyDocument"]["Statement"]
    statements[:] = [each for each in statements if each["Sid"] != "LayersOfImages"]


def function_outside_the_vpc(scene: Scene) -> None:
    del scene.properties("AWS::Lambda::Function")["VpcConfig"]


_BY_PATHS_OR_TESTS = {
    1: no_way_to_the_alb,
    2: nlb_without_a_group,
    3: consumers_not_allowed,
    7: certificate_that_nobody_has,
    10: no_layers_of_images,
    21: function_outside_the_vpc,
}
MISTAKES = [
    *PLANTED,
    *(
        Planted(number=number, code="", name=change.__name__.replace("_", "-"), change=change)
        for number, change in _BY_PATHS_OR_TESTS.items()
    ),
]
NUMBERS = range(1, 23)


def plant_one(number: int, stage: Scene, stubs: Sequence[str]) -> tuple[Planted, Scene, set[str]]:
    """Return a mistake of that number, the templates with it, and the types of the resources that it changes:
    the first mistake that changes one which is not stubbed, if there is such a one."""
    tried: list[tuple[Planted, Scene, set[str]]] = []
    for mistake in MISTAKES:
        if mistake.number == number:
            scene = stage.copy()
            mistake.change(scene)
            tried.append((mistake, scene, changed_types(stage, scene)))
    return next((each for each in tried if each[2] - set(stubs)), tried[0])


def changed_types(before: Scene, after: Scene) -> set[str]:
    was, now = _resources(before), _resources(after)
    return {
        (now.get(key) or was[key])["Type"] for key in was.keys() | now.keys() if was.get(key) != now.get(key)
    }


def changed_stacks(before: Scene, after: Scene) -> set[str]:
    """Return the stacks' names in their stage (``Network``)."""
    pairs = zip(before.templates, after.templates, strict=True)
    return {now.name.rpartition("-")[2] for was, now in pairs if was.document != now.document}


def write(scene: Scene, stage: Path) -> None:
    """Write the templates into a copy of the stage's folder that they were read from."""
    for template in scene.templates:
        (stage / template.path.name).write_text(json.dumps(template.document), encoding="utf-8")


def _resources(scene: Scene) -> dict[tuple[str, str], Raw]:
    return {
        (template.name, logical_id): resource
        for template in scene.templates
        for logical_id, resource in template.document["Resources"].items()
    }


TENANTS = ("sandbox", "pharmacy", "clinic")
MOST_STUBBED = 59
"""Resources of the sandbox."""
LACKS = read_lacks()
REPLACED = (*LACKS.attributes, *LACKS.properties)
pytestmark = [pytest.mark.loopback, pytest.mark.timeout(1800)]


def tell(*cells: str) -> None:
    """Print a row of the night's figures."""
    sys.stdout.write(f"\n| {' | '.join(cells)} |\n")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assembly of the example tenants, unchanged."""
    out = tmp_path_factory.mktemp("examples") / "cdk.out"
    done = synthesize(out, tenants="tenants")
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture
def stage(examples: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies the assembly; returns the folder of a tenant's stage, to be changed."""

    def copy(tenant: str) -> Path:
        shutil.copytree(examples, tmp_path / "cdk.out")
        return assembly_folder(tmp_path / "cdk.out", tenant)

    return copy


@pytest.mark.parametrize("tenant", TENANTS)
async def test_ministack_creates_every_stack(
    tenant: str, stage: Callable[[str], Path], tmp_path: Path, opensearch_url: str
) -> None:
    folder = stage(tenant)
    counts = replace_lacks(folder, LACKS)

    async with ministack(tmp_path, node_url=opensearch_url) as account:
        outcome = await deploy_tenant(account, folder, tenant, tenants=ROOT / "tenants")

    tell(
        f"{LACKS.engine}: stacks of {tenant}",
        "all",
        f"{len(outcome.created)} of {len(outcome.stacks)}; of {counts.resources} resources {counts.stubbed} "
        f"stubbed, {counts.changed} partly replaced, {counts.custom} made by a function",
    )
    assert sorted(outcome.created) == sorted(outcome.stacks), outcome.refusal
    assert tenant != "sandbox" or counts.stubbed <= MOST_STUBBED


async def test_ministack_knows_none_of_the_stubbed_types(tmp_path: Path, opensearch_url: str) -> None:
    template = json.dumps({"Resources": {f"R{at}": {"Type": name} for at, name in enumerate(LACKS.stubs)}})

    async with ministack(tmp_path, node_url=opensearch_url) as account:
        with pytest.raises(ClientError) as refused:
            account.client("cloudformation").create_stack(StackName="stubs", TemplateBody=template)

    assert set(re.findall(r"\w+::\w+::\w+", str(refused.value))) == set(LACKS.stubs)


@pytest.mark.parametrize("row", REPLACED, ids=lambda row: row.name)
async def test_ministack_refuses_a_stack_without_that_row(
    row: Replaced, stage: Callable[[str], Path], tmp_path: Path, opensearch_url: str
) -> None:
    folder = stage("pharmacy")
    replace_lacks(folder, LACKS.without(row))

    async with ministack(tmp_path, node_url=opensearch_url) as account:
        outcome = await deploy_tenant(account, folder, "pharmacy", tenants=ROOT / "tenants")

    stacks = f"{len(outcome.created)} of {len(outcome.stacks)}"
    tell(f"{LACKS.engine}: stacks of pharmacy without {row.name}", "", f"{stacks}: {outcome.refusal}")
    assert row.refusal in outcome.refusal


async def test_how_many_of_the_mistakes_ministack_refuses_is_told(
    stage: Callable[[str], Path], tmp_path: Path, opensearch_url: str
) -> None:
    folder, file = stage("pharmacy"), ROOT / "tenants/pharmacy.toml"
    right = Scene.read([folder], facts=facts_of(file, root=ROOT))
    ended: dict[str, list[int]] = {"refused": [], "created": [], "in what is stubbed": []}
    for number in NUMBERS:
        mistake, scene, types = plant_one(number, right, LACKS.stubs)
        if types <= set(LACKS.stubs):
            ended["in what is stubbed"].append(number)
            continue
        write(scene, folder)
        replace_lacks(folder, LACKS)
        home = tmp_path / str(mistake)
        home.mkdir()
        async with ministack(home, node_url=opensearch_url) as account:
            names = changed_stacks(right, scene)
            outcome = await deploy_tenant(account, folder, "pharmacy", tenants=file.parent, names=names)
        shutil.rmtree(home)
        ended["refused" if outcome.refusal else "created"].append(number)
        sys.stdout.write(f"\n{mistake}: {outcome.refusal or 'created'}\n")
    for how, numbers in ended.items():
        listed = ", ".join(map(str, numbers))
        tell(f"{LACKS.engine}: of 22 mistakes {how}", "", f"{len(numbers)}{f': {listed}' * bool(numbers)}")
    assert sum(map(len, ended.values())) == len(NUMBERS)


async def test_what_awss_own_emulator_creates_of_the_sandbox_is_told(tmp_path: Path) -> None:
    """Without a list: nobody has seen yet what it lacks."""
    with aws_emulator(tmp_path) as account:
        files = shutil.copytree(ROOT / "tenants", tmp_path / "company/tenants")
        (tmp_path / "company/knowledge").symlink_to(ROOT / "knowledge")
        for file in files.glob("*.toml"):
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(ACCOUNT, AWS_ACCOUNT), encoding="utf-8")
        out = tmp_path / "cdk.out"
        done = synthesize(out, tenants=str(files), tenant="sandbox")
        assert done.returncode == 0, done.stderr[-3000:]
        folder = assembly_folder(out, "sandbox")
        outcome = await deploy_tenant(account, folder, "sandbox", tenants=files)

    tell(
        "aws-emulator: stacks of sandbox",
        "",
        f"{len(outcome.created)} of {len(outcome.stacks)}, nothing stubbed. {outcome.refusal}",
    )
