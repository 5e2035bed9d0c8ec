"""A second tenant is deployed and upgraded in an account: all that stood before stays as it was.

By the emulated account, whose answers are compared whole. What it does not keep (``UnknownType`` of
``tests/stage/cloudformation_server.py``) is compared by its stack alone. It deletes no whole stack:
``test_destroy`` shows what a destruction leaves of other tenants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assistant.terminal.account import AwsAccount
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.emulated_account import ACCOUNT, REGION, EmulatedAccount, emulated_account
from tests.stacks.synthesized import assembly_folder, synthesize
from tests.stage.tenant_files import committed_tenant

FIRST, SECOND = "pharmacy", "clinic"
LISTED = (
    ("cloudtrail", "describe_trails", "trailList"),
    ("cloudwatch", "describe_alarms", "MetricAlarms"),
    ("ec2", "describe_route_tables", "RouteTables"),
    ("ec2", "describe_security_groups", "SecurityGroups"),
    ("ec2", "describe_subnets", "Subnets"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints"),
    ("ec2", "describe_vpcs", "Vpcs"),
    ("ecr", "describe_repositories", "repositories"),
    ("ecs", "list_clusters", "clusterArns"),
    ("ecs", "list_task_definitions", "taskDefinitionArns"),
    ("elbv2", "describe_load_balancers", "LoadBalancers"),
    ("elbv2", "describe_target_groups", "TargetGroups"),
    ("events", "list_rules", "Rules"),
    ("iam", "list_roles", "Roles"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings"),
    ("lambda", "list_functions", "Functions"),
    ("logs", "describe_log_groups", "logGroups"),
    ("logs", "describe_metric_filters", "metricFilters"),
    ("logs", "describe_resource_policies", "resourcePolicies"),
    ("opensearch", "list_domain_names", "DomainNames"),
    ("sagemaker", "list_endpoints", "Endpoints"),
    ("scheduler", "list_schedules", "Schedules"),
    ("secretsmanager", "list_secrets", "SecretList"),
    ("sns", "list_subscriptions", "Subscriptions"),
    ("sns", "list_topics", "Topics"),
    ("stepfunctions", "list_state_machines", "stateMachines"),
)
"""What is listed whole: service, call, key."""
pytestmark = [pytest.mark.loopback, pytest.mark.timeout(900)]


def stood(account: EmulatedAccount) -> set[str]:
    """Return all that stands in the account, each as the JSON of what its service says."""
    found: set[str] = set()

    def add(what: str, said: Mapping[str, Any] | str) -> None:
        found.add(f"{what} {json.dumps(said, sort_keys=True, default=str)}")

    for service, call, key in LISTED:
        client = account.client(service)
        pages = (
            client.get_paginator(call).paginate() if client.can_paginate(call) else [getattr(client, call)()]
        )
        for page in pages:
            for each in page[key]:
                add(call, each)
    _add_by_name(account, add)
    cloudformation = account.client("cloudformation")
    for stack in cloudformation.describe_stacks()["Stacks"]:
        name = stack["StackName"]
        add("stack", stack)
        add(f"template of {name}", cloudformation.get_template(StackName=name)["TemplateBody"])
        for each in cloudformation.describe_stack_resources(StackName=name)["StackResources"]:
            add("resource", each)
    return found


def _add_by_name(account: EmulatedAccount, add: Any) -> None:
    """What no call lists whole."""
    iam, aws = account.client("iam"), AwsAccount(account=ACCOUNT, region=REGION)
    for policy in iam.get_paginator("list_policies").paginate(Scope="Local").build_full_result()["Policies"]:
        version = {"PolicyArn": policy["Arn"], "VersionId": policy["DefaultVersionId"]}
        add("managed policy", policy | iam.get_policy_version(**version)["PolicyVersion"])
    for role in iam.get_paginator("list_roles").paginate().build_full_result()["Roles"]:
        for name in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
            add(f"policy {name} of {role['RoleName']}", document)
    s3, kms, sqs, dynamodb = map(account.client, ("s3", "kms", "sqs", "dynamodb"))
    for bucket in s3.list_buckets()["Buckets"]:
        name = {"Bucket": bucket["Name"]}
        for version in s3.list_object_versions(**name).get("Versions", ()):
            add(f"object of {bucket['Name']}", version)
        add(
            f"encryption of {bucket['Name']}",
            s3.get_bucket_encryption(**name)["ServerSideEncryptionConfiguration"],
        )
        policy = aws.call("s3", "get_bucket_policy", missing="NoSuchBucketPolicy", **name)
        add(f"policy of {bucket['Name']}", policy and policy["Policy"])
    for key in kms.get_paginator("list_keys").paginate().build_full_result()["Keys"]:
        add("key", kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"])
        add(
            f"policy of {key['KeyId']}",
            kms.get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"],
        )
    for url in sqs.list_queues().get("QueueUrls", ()):
        add(f"queue {url}", sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])
    for table in dynamodb.list_tables()["TableNames"]:
        add("table", dynamodb.describe_table(TableName=table)["Table"])
    parameters = account.client("ssm").get_paginator("get_parameters_by_path")
    for each in parameters.paginate(Path="/", Recursive=True).build_full_result()["Parameters"]:
        add("parameter", each)


def deployed(account: EmulatedAccount, folder: Path) -> set[str]:
    """Deploy a tenant's stacks; return their names, which all stand."""
    account.deploy(folder)
    standing = account.client("cloudformation").describe_stacks()["Stacks"]
    states = {each["StackName"]: each["StackStatus"] for each in standing}
    names = set(templates_by_stack_name(folder))
    assert {states[name] for name in names} <= {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
    return names


def test_nothing_of_the_first_tenant_changes_while_a_second_is_deployed_and_upgraded(
    assembly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tenants").mkdir()
    text = committed_tenant(SECOND).replace('"The clinician on call"', '"The doctor on call"')
    (tmp_path / "tenants" / f"{SECOND}.toml").write_text(text)
    newer = tmp_path / "newer"
    done = synthesize(newer, tenant=SECOND, tenants=str(tmp_path / "tenants"))
    assert done.returncode == 0, done.stderr[-2000:]
    with emulated_account(tmp_path) as account:
        for name, value in account.environment.items():
            if name.startswith("AWS_"):
                monkeypatch.setenv(name, value)
        account.bootstrap(assembly)
        for tenant in (FIRST, SECOND):
            account.put_parameter(f"/assistant/{tenant}/power", "on")
            account.put_parameter(f"/assistant/{tenant}/jwks", '{"keys": []}')
        deployed(account, assembly_folder(assembly, FIRST))
        before = stood(account)
        assert len(before) > 500
        before = {each for each in before if f"/assistant/{SECOND}/" not in each}

        stacks = deployed(account, assembly_folder(assembly, SECOND))
        assert sorted(before - (both := stood(account))) == []
        deployed(account, assembly_folder(newer, SECOND))
        assert sorted(before - (upgraded := stood(account))) == []
        assert len(upgraded - both) > len(stacks)

        account.put_parameter(f"/assistant/{FIRST}/power", "paused")  # the comparison would see it
        assert len(before - stood(account)) == 1
