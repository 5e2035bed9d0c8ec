"""The assemblies of the example tenants on CloudFormation engines of others (``make check-engine``)."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from assistant.cli.aws.templates import facts_of
from tests.engine.assembly import Replaced, read_lacks, replace_lacks
from tests.engine.engines import AWS_ACCOUNT, aws_emulator, deploy_tenant, ministack
from tests.engine.mistakes import NUMBERS, changed_stacks, plant_one, write
from tests.stacks.emulated_account import ACCOUNT
from tests.stacks.mistakes.scene import Scene
from tests.stacks.synthesized import ROOT, assembly_folder, synthesize

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
