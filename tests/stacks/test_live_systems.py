"""The internal systems that the service calls: their address, their secret and who may read it."""

from __future__ import annotations

import json
from typing import Any

from stacks.data import DataStack
from stacks.keys import KeysStack
from stacks.network import NetworkStack
from stacks.observability import ObservabilityStack
from stacks.tenant import DeployedTenant
from tests.stacks.values import (
    KEYS,
    deployed,
    entry_of,
    resources_of,
    stack_with,
    stage_for,
    template_of,
    with_sections,
)

SERVICE = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
RESOURCE = "arn:aws:vpc-lattice:us-east-1:111122223333:resourceconfiguration/rcfg-0123456789abcdef0"
ORDERS: dict[str, Any] = {
    "name": "orders",
    "port": 443,
    "service_name": SERVICE,
    "live": {"connector": "connectors/orders.toml"},
    "auth": "token",
}


def reaching(*entries: dict[str, Any]) -> DeployedTenant:
    return with_sections(deployed("pharmacy"), reach=list(entries))


def test_a_system_s_secret_is_created_empty_under_the_tenant_s_key() -> None:
    data = template_of(stack_with(DataStack, reaching(ORDERS)))
    (secret,) = resources_of(data, "AWS::SecretsManager::Secret").values()
    made = secret["Properties"]
    assert (made["Name"], made["KmsKeyId"]) == ("assistant/pharmacy/reach/orders", KEYS.data_key_arn)
    assert {"SecretString", "GenerateSecretString"} & made.keys() == set()
    assert secret["DeletionPolicy"] == "RetainExceptOnCreate"


def test_who_may_put_a_secret_may_use_the_key_for_that_alone() -> None:
    def uses(tenant: DeployedTenant) -> list[dict[str, Any]]:
        template = template_of(KeysStack(stage_for(tenant), tenant=tenant))
        keys = resources_of(template, "AWS::KMS::Key")
        (key,) = [body for name, body in keys.items() if name == "DataKey"]
        statements = key["Properties"]["KeyPolicy"]["Statement"]
        return [one for one in statements if one.get("Sid") == "PutSystemSecrets"]

    (statement,) = uses(reaching(ORDERS))
    secrets = statement["Condition"]["ArnLike"]["kms:EncryptionContext:SecretARN"]
    assert "assistant/pharmacy/reach/orders-??????" in json.dumps(secrets)
    assert statement["Condition"]["StringEquals"] == {
        "kms:ViaService": ["secretsmanager.us-east-1.amazonaws.com"]
    }
    assert uses(reaching({**ORDERS, "auth": "none"})) == []


def test_a_resource_s_own_name_is_the_only_one_that_the_vpc_resolves() -> None:
    entry = {**ORDERS, "service_name": None, "resource_configuration_arn": RESOURCE}
    tenant = reaching({**entry, "host_name": "orders.example.com"})
    stack = stack_with(NetworkStack, tenant)
    endpoints = resources_of(template_of(stack), "AWS::EC2::VPCEndpoint").values()
    (made,) = [one["Properties"] for one in endpoints if one["Properties"]["VpcEndpointType"] == "Resource"]
    assert made["DnsOptions"] == {
        "PrivateDnsPreference": "SPECIFIED_DOMAINS_ONLY",
        "PrivateDnsSpecifiedDomains": ["orders.example.com"],
    }
    assert stack.outputs.reach_addresses == {"orders": "https://orders.example.com:443"}


OTHER_FORM = "a-system-answers-in-another-form"
OTHER_CUSTOMER = "a-system-answers-for-another-customer"


def observed(tenant: DeployedTenant, kind: str) -> list[dict[str, Any]]:
    stack = stack_with(ObservabilityStack, tenant)
    return [one["Properties"] for one in resources_of(template_of(stack), kind).values()]


def alarms(tenant: DeployedTenant, anchor: str) -> list[dict[str, Any]]:
    found = observed(tenant, "AWS::CloudWatch::Alarm")
    return [one for one in found if entry_of(one) == anchor]


def test_a_system_that_decides_by_the_agent_may_refuse_agents() -> None:
    by_agent = reaching({**ORDERS, "live": {**ORDERS["live"], "whose": "agent"}})
    assert alarms(by_agent, OTHER_CUSTOMER) == []
    assert len(alarms(by_agent, OTHER_FORM)) == 1
