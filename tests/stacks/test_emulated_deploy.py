"""The real ``cdk bootstrap`` and ``cdk deploy`` against an emulated account, for two tenants in one account.

It proves that the templates fit together: every reference, order and name. It does not prove that AWS accepts
each property (``tests/fakes/cloudformation_server.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.tenant.tenant import load_tenant
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.emulated_account import ACCOUNT, REGION, EmulatedAccount, emulated_account, resources_of
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
def test_every_bucket_is_encrypted_with_its_tenant_s_key(account: EmulatedAccount, tenant: str) -> None:
    s3 = account.client("s3")
    buckets = resources_of(account, stack(tenant, "Data"), "AWS::S3::Bucket")
    encryption = {
        bucket: s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0][
            "ApplyServerSideEncryptionByDefault"
        ]
        for bucket in buckets
    }
    keys = {
        place.get("KMSMasterKeyID") for place in encryption.values() if place["SSEAlgorithm"] == "aws:kms"
    }
    own = {f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}" for key in keys_of(account, tenant)}
    assert len(buckets) == 9
    assert keys <= own
    assert keys


def keys_of(account: EmulatedAccount, tenant: str) -> list[str]:
    return resources_of(account, stack(tenant, "Keys"), "AWS::KMS::Key")


@pytest.mark.parametrize("tenant", TENANTS)
def test_tables_have_the_keys_that_the_adapters_write(account: EmulatedAccount, tenant: str) -> None:
    dynamodb = account.client("dynamodb")
    tables = resources_of(account, stack(tenant, "Data"), "AWS::DynamoDB::Table")
    assert len(tables) == 4
    for table in tables:
        schema = dynamodb.describe_table(TableName=table)["Table"]["KeySchema"]
        assert [key["AttributeName"] for key in schema] == ["pk", "sk"]


@pytest.mark.parametrize("tenant", TENANTS)
def test_messages_that_fail_go_to_a_queue_of_the_same_stack(account: EmulatedAccount, tenant: str) -> None:
    sqs = account.client("sqs")
    arns: set[str] = set()
    targets: set[str] = set()
    for url in resources_of(account, stack(tenant, "Ingestion"), "AWS::SQS::Queue"):
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        arns.add(attributes["QueueArn"])
        if "RedrivePolicy" in attributes:
            targets.add(json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"])
    assert targets
    assert targets < arns


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_service_runs_the_image_by_its_digest(account: EmulatedAccount, tenant: str) -> None:
    ecs = account.client("ecs")
    (task,) = resources_of(account, stack(tenant, "Orchestrator"), "AWS::ECS::TaskDefinition")
    containers = ecs.describe_task_definition(taskDefinition=task)["taskDefinition"]["containerDefinitions"]
    assert containers
    assert all("@sha256:" in container["image"] for container in containers)


@pytest.mark.parametrize("tenant", TENANTS)
def test_no_subnet_of_the_tenant_has_a_route_to_the_internet(account: EmulatedAccount, tenant: str) -> None:
    ec2 = account.client("ec2")
    (vpc,) = resources_of(account, stack(tenant, "Network"), "AWS::EC2::VPC")
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    assert len(ec2.describe_subnets(Filters=of_vpc)["Subnets"]) == 3
    routes = [
        route
        for table in ec2.describe_route_tables(Filters=of_vpc)["RouteTables"]
        for route in table["Routes"]
    ]
    assert [route for route in routes if "NatGatewayId" in route] == []
    assert [route for route in routes if str(route.get("GatewayId", "")).startswith("igw-")] == []
    attached = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
    assert ec2.describe_internet_gateways(Filters=attached)["InternetGateways"] == []


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
