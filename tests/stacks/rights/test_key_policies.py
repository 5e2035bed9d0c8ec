"""Each key lets CloudFormation make what it encrypts, by the KMS actions that its own schema names for each
type. cfn-lint carries the schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stacks.rights.isolation import ANYTHING
from tests.stacks.rights.model import Account, Policy, Resolver, Store, read_stacks, without
from tests.stacks.rights.requests import ACCOUNT, EXECUTION_ROLE, REGION, Request, judge, schema_actions

NO_USE_OF_A_KEY = {
    "kms:CreateAlias": "for a key that the service makes where the template names none",
    "kms:CreateKey": "likewise",
    "kms:DeleteAlias": "likewise",
    "kms:ListAliases": "it takes no key",
    "kms:ListKeys": "it takes no key",
    "kms:UpdateAlias": "as CreateAlias",
}
SERVICES = {"emrserverless": "emr-serverless"}
"""Service of a type, in lower case = its name in ``kms:ViaService``, where they differ."""


@dataclass(frozen=True, slots=True)
class Use:
    """A resource that a key of the tenant encrypts."""

    kind: str
    stack: str
    key: Store

    def __str__(self) -> str:
        return f"{self.key} for {self.kind} of {self.stack}"


def texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for each in value.values():
                yield from texts(each)
        case list():
            for each in value:
                yield from texts(each)
        case _:
            pass


@pytest.fixture(scope="module")
def uses(stages: Path, _as_deployed: Account) -> list[Use]:
    """What names a key of its tenant in a property; policies name it too, and are encrypted by none."""
    stacks = list(read_stacks(stages))
    resolver = Resolver([stack for _, _, stack in stacks])
    keys = {store.arn: store for store in _as_deployed.stores if store.kind == "key"}
    keys |= {arn.rpartition("/")[2]: store for arn, store in keys.items()}
    return [
        Use(resource["Type"], stack.name, keys[text])
        for _, _, stack in stacks
        for resource in stack.resources.values()
        if not resource["Type"].startswith(("AWS::IAM::", "AWS::ECS::TaskDefinition", "Custom::"))
        for text in set(texts(resolver.value(resource.get("Properties", {}), stack))) & keys.keys()
    ]


def requests_of(use: Use, policy: Policy | None) -> list[Request]:
    """Return what KMS is asked in the name of CloudFormation's role, which itself may do anything."""
    service = use.kind.split("::")[1].lower()
    context = {
        "aws:PrincipalArn": EXECUTION_ROLE,
        "aws:PrincipalAccount": ACCOUNT,
        "kms:GrantIsForAWSResource": "true",
        "kms:ViaService": f"{SERVICES.get(service, service)}.{REGION}.amazonaws.com",
    }
    return [
        Request(
            principal=EXECUTION_ROLE,
            action=action,
            resource=use.key.arn,
            account=ACCOUNT,
            context=context,
            identity=(ANYTHING,),
            resource_policy=policy,
        )
        for action in schema_actions(use.kind)
        if action.startswith("kms:") and action not in NO_USE_OF_A_KEY
    ]


def test_each_key_allows_what_the_schema_of_each_type_that_it_encrypts_names(uses: list[Use]) -> None:
    asked = [(use, request) for use in uses for request in requests_of(use, use.key.policy)]
    judged = judge(request for _, request in asked)
    assert {use.kind for use, _ in asked} >= {
        "AWS::Backup::BackupVault",
        "AWS::DynamoDB::Table",
        "AWS::EMRServerless::Application",
        "AWS::Lambda::Function",
        "AWS::SageMaker::EndpointConfig",
    }
    refused = {
        f"{use}: {judgement}"
        for (use, _), judgement in zip(asked, judged, strict=True)
        if not judgement.is_allowed
    }
    assert refused == set()


def test_a_vault_whose_key_has_no_statement_for_deployments_is_named(uses: list[Use]) -> None:
    (use,) = (use for use in uses if use.kind == "AWS::Backup::BackupVault")
    assert use.key.policy
    asked = requests_of(use, without(use.key.policy, sids=["UseByDeployment"]))
    refused = [judgement.request.action for judgement in judge(asked) if not judgement.is_allowed]
    assert refused == ["kms:Decrypt", "kms:GenerateDataKey", "kms:RetireGrant"]
