"""The real ``cdk bootstrap`` and ``cdk deploy`` against an emulated account, for two tenants in one account.

It proves that the templates fit together: every reference, order and name. It does not prove that AWS accepts
each property (``tests/fakes/cloudformation_server.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.tenant.tenant import load_tenant
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.emulated_account import EmulatedAccount, emulated_account, resources_of
from tests.stacks.synthesized import ROOT, assembly_folder

TENANTS = ("pharmacy", "clinic")
pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def account(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    with emulated_account(tmp_path_factory.mktemp("account")) as account:
        account.bootstrap(assembly)
        for tenant in TENANTS:
            account.put_parameter(f"/assistant/{tenant}/power", "on")
            account.put_parameter(f"/assistant/{tenant}/jwks", '{"keys": []}')
            account.deploy(assembly_folder(assembly, tenant))
        yield account


def stack(tenant: str, name: str) -> str:
    return f"assistant-{tenant}-{name}"


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_stack_is_created(account: EmulatedAccount, assembly: Path, tenant: str) -> None:
    found = account.client("cloudformation").describe_stacks()["Stacks"]
    states = {each["StackName"]: each["StackStatus"] for each in found}
    for name in templates_by_stack_name(assembly_folder(assembly, tenant)):
        assert states[name] == "CREATE_COMPLETE"


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_endpoints_have_the_names_that_the_service_calls(account: EmulatedAccount, tenant: str) -> None:
    config = load_tenant(ROOT / "tests/tenants" / f"{tenant}.toml")
    sagemaker = account.client("sagemaker")
    for name in (config.embedding.endpoint, config.generation.endpoint):
        assert sagemaker.describe_endpoint(EndpointName=name)["EndpointName"] == name


@pytest.mark.parametrize("tenant", TENANTS)
def test_tables_have_the_keys_that_the_adapters_write(account: EmulatedAccount, tenant: str) -> None:
    dynamodb = account.client("dynamodb")
    tables = resources_of(account, stack(tenant, "Data"), "AWS::DynamoDB::Table")
    assert len(tables) == 4
    for table in tables:
        schema = dynamodb.describe_table(TableName=table)["Table"]["KeySchema"]
        assert [key["AttributeName"] for key in schema] == ["pk", "sk"]


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_service_runs_the_image_by_its_digest(account: EmulatedAccount, tenant: str) -> None:
    ecs = account.client("ecs")
    (task,) = resources_of(account, stack(tenant, "Orchestrator"), "AWS::ECS::TaskDefinition")
    containers = ecs.describe_task_definition(taskDefinition=task)["taskDefinition"]["containerDefinitions"]
    assert containers
    assert all("@sha256:" in container["image"] for container in containers)


def owned(account: EmulatedAccount, assembly: Path, tenant: str) -> set[str]:
    """Return the physical ids of all that the tenant's stacks made."""
    cloudformation = account.client("cloudformation")
    return {
        resource["PhysicalResourceId"]
        for name in templates_by_stack_name(assembly_folder(assembly, tenant))
        for resource in cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        if "PhysicalResourceId" in resource
    }


def test_two_tenants_share_nothing(account: EmulatedAccount, assembly: Path) -> None:
    first, second = (owned(account, assembly, tenant) for tenant in TENANTS)
    assert first & second == set()
    assert min(len(first), len(second)) > 200
