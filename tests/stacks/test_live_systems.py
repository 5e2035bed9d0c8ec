"""The internal systems that the service calls: their address, their secret, who may read it, and its age."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.process.settings import ServiceSettings
from assistant.tenant import deployed_names
from assistant.tenant.deployment_checks import contradictions
from stacks.data import DataStack
from stacks.keys import KeysStack
from stacks.network import NetworkStack
from stacks.observability import ObservabilityStack
from stacks.processes import effective_tenant_file
from stacks.tenant import DeployedTenant
from stacks.validators import templates_of
from tests.stacks.orchestrator_template import environment, orchestrator_of
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.synthesized import ROOT, synthesize
from tests.stacks.values import (
    DATA,
    KEYS,
    NETWORK,
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
API = "arn:aws:execute-api:us-east-1:111122223333:a1b2c3/prod/GET/*"
SECRETS = "arn:aws:secretsmanager:us-east-1:111122223333:secret:"
PARAMETERS = "arn:aws:ssm:us-east-1:111122223333:parameter/assistant/pharmacy/"
ORDERS: dict[str, Any] = {
    "name": "orders",
    "port": 443,
    "service_name": SERVICE,
    "connector": "connectors/orders.toml",
    "auth": "token",
}


def reaching(*entries: dict[str, Any]) -> DeployedTenant:
    return with_sections(deployed("pharmacy"), reach=list(entries))


def data_of(tenant: DeployedTenant) -> dict[str, Any]:
    return template_of(stack_with(DataStack, tenant))


def task_rights(tenant: DeployedTenant) -> list[dict[str, Any]]:
    template = orchestrator_of(tenant)
    policies = resources_of(template, "AWS::IAM::Policy")
    (name,) = [name for name in policies if name.startswith("TaskRoleDefault")]
    return statements_of(template, name)


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return data_of(reaching(ORDERS))


def test_a_system_s_secret_is_created_empty_under_the_tenant_s_key(data: Mapping[str, Any]) -> None:
    (secret,) = resources_of(data, "AWS::SecretsManager::Secret").values()
    made = secret["Properties"]
    assert (made["Name"], made["KmsKeyId"]) == ("assistant/pharmacy/reach/orders", KEYS.data_key_arn)
    assert {"SecretString", "GenerateSecretString"} & made.keys() == set()
    assert secret["DeletionPolicy"] == "RetainExceptOnCreate"


def test_only_the_tenant_s_roles_read_its_value(data: Mapping[str, Any]) -> None:
    (policy,) = resources_of(data, "AWS::SecretsManager::ResourcePolicy").values()
    reading, anything = policy["Properties"]["ResourcePolicy"]["Statement"]
    assert (reading["Effect"], reading["Action"]) == ("Deny", "secretsmanager:GetSecretValue")
    assert (anything["Effect"], anything["Action"]) == ("Deny", "secretsmanager:*")
    for refused in (reading, anything):
        assert refused["Condition"]["StringNotEquals"] == {"aws:PrincipalTag/tenant": "pharmacy"}
    assert policy["Properties"]["BlockPublicPolicy"] is True


@pytest.mark.parametrize(
    "change",
    [
        {"auth": "none"},
        {"auth": "sigv4", "invoke_arn": API},
        {"secret": "secretsmanager:company/orders-token"},
        {"connector": None},
    ],
    ids=["open", "signed", "the company's", "not called"],
)
def test_no_secret_is_created_where_none_is_needed(change: dict[str, Any]) -> None:
    template = data_of(reaching({**ORDERS, **change}))
    assert resources_of(template, "AWS::SecretsManager::Secret") == {}


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


def test_a_system_that_takes_replies_has_a_secret_rights_and_its_entry_in_the_task_s_file() -> None:
    care = {**ORDERS, "connector": None, "replies": "/v1/replies"}
    tenant = reaching(care)
    (secret,) = resources_of(data_of(tenant), "AWS::SecretsManager::Secret").values()
    assert secret["Properties"]["Name"] == "assistant/pharmacy/reach/orders"
    rights = task_rights(tenant)
    assert f"{PARAMETERS}systems/orders" in allowed_on(rights, "ssm:GetParameter")
    (entry,) = tomllib.loads(effective_tenant_file(tenant))["reach"]
    assert (entry["replies"], entry["secret"]) == (
        "/v1/replies",
        "secretsmanager:assistant/pharmacy/reach/orders",
    )
    assert "orders" in environment(orchestrator_of(tenant))["ASSISTANT_SERVICE_REACH_ADDRESSES"]


def test_a_task_reads_the_secret_switch_and_keys_of_its_systems_and_no_others() -> None:
    rights = task_rights(reaching(ORDERS))
    assert allowed_on(rights, "secretsmanager:GetSecretValue") == {DATA.system_secrets["orders"]}
    read = allowed_on(rights, "ssm:GetParameter")
    assert {f"{PARAMETERS}systems/orders", f"{PARAMETERS}care-jwks"} <= read


def test_a_company_s_own_secret_is_read_by_its_name() -> None:
    tenant = reaching({**ORDERS, "secret": "secretsmanager:company/wiki"})
    template = orchestrator_of(tenant, data=replace(DATA, system_secrets={}))
    policies = resources_of(template, "AWS::IAM::Policy")
    (name,) = [name for name in policies if name.startswith("TaskRoleDefault")]
    read = allowed_on(statements_of(template, name), "secretsmanager:GetSecretValue")
    assert read == {f"{SECRETS}company/wiki-??????"}


def test_a_task_is_told_the_address_and_the_switch_of_each_system() -> None:
    told = environment(orchestrator_of(reaching(ORDERS)))
    addresses = json.loads(told[ServiceSettings.variable("reach_addresses")])
    assert addresses == dict(NETWORK.reach_addresses)
    assert told[ServiceSettings.variable("system_switches")] == "/assistant/pharmacy/systems"


def test_a_task_without_systems_reads_no_secret() -> None:
    rights = task_rights(reaching({**ORDERS, "connector": None}))
    assert allowed_on(rights, "secretsmanager:GetSecretValue") == set()
    assert not any("systems/" in name for name in allowed_on(rights, "ssm:GetParameter"))


def test_a_task_reads_the_care_application_s_keys_of_a_tenant_without_systems_too() -> None:
    """A context is verified wherever the tenant file names who signs it."""
    rights = task_rights(reaching({**ORDERS, "connector": None}))
    assert f"{PARAMETERS}care-jwks" in allowed_on(rights, "ssm:GetParameter")


def test_a_task_invokes_the_api_that_wants_a_signature() -> None:
    rights = task_rights(reaching({**ORDERS, "auth": "sigv4", "invoke_arn": API}))
    assert allowed_on(rights, "execute-api:Invoke") == {API}


def test_a_tenant_is_synthesized_with_every_way_to_prove_who_calls_and_both_kinds_of_endpoint(
    tmp_path: Path,
) -> None:
    """As a whole: the network is made of what all other stacks may call."""
    shutil.copytree(ROOT / "tests/tenants", tmp_path / "tenants")
    file = tmp_path / "tenants/pharmacy.toml"
    text = re.sub(r"\n\[\[reach\]\]\n(.+\n)+", "\n", file.read_text(encoding="utf-8"))
    ways: dict[str, dict[str, Any]] = {
        "token": {},
        "oauth": {},
        "sigv4": {"invoke_arn": API},
        "none": {"connector": None},
    }
    kinds = {
        "service": {"service_name": SERVICE},
        "resource": {"service_name": None, "resource_configuration_arn": RESOURCE},
    }
    for auth, way in ways.items():
        for kind, endpoint in kinds.items():
            name = "orders" if (auth, kind) == ("token", "service") else f"{auth}-{kind}"
            entry = {**ORDERS, "name": name, "auth": auth, "host_name": f"{name}.northshop.net"}
            lines = {key: value for key, value in {**entry, **way, **endpoint}.items() if value is not None}
            text += "\n[[reach]]\n" + "".join(f"{key} = {json.dumps(lines[key])}\n" for key in lines)
    file.write_text(text, encoding="utf-8")

    done = synthesize(tmp_path / "out", tenant="pharmacy", tenants=str(tmp_path / "tenants"))

    assert done.returncode == 0, done.stderr[-2000:]
    (network,) = [one.body for one in templates_of(tmp_path / "out") if one.stack == "Network"]
    endpoints = [one["Properties"] for one in resources_of(network, "AWS::EC2::VPCEndpoint").values()]
    assert [one.get("ServiceName") for one in endpoints].count(SERVICE) == len(ways)
    assert [one["VpcEndpointType"] for one in endpoints].count("Resource") == len(ways)
    assert not any("execute-api" in json.dumps(one.get("ServiceName")) for one in endpoints)


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


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"caller": "connectors"}, "caller"),
        ({"service_name": None, "resource_configuration_arn": RESOURCE}, "host_name"),
        ({"auth": "sigv4"}, "invoke_arn"),
        ({"secret": "file:token"}, "secret"),
    ],
)
def test_an_entry_that_cannot_be_called_is_refused_with_its_key(change: dict[str, Any], key: str) -> None:
    tenant = reaching({**ORDERS, **change})
    found = contradictions(tenant.config, place=tenant.place, edge=tenant.edge, models=tenant.models)
    assert ("reach", 0, key) in {tuple(one.place) for one in found}


# --- alarms -----------------------------------------------------------------------------------------------
NO_ANSWER = "a-system-does-not-answer"
OTHER_FORM = "a-system-answers-in-another-form"
OTHER_CUSTOMER = "a-system-answers-for-another-customer"
OF_A_SYSTEM = (NO_ANSWER, OTHER_FORM, OTHER_CUSTOMER)


def observed(tenant: DeployedTenant, kind: str) -> list[dict[str, Any]]:
    stack = stack_with(ObservabilityStack, tenant)
    return [one["Properties"] for one in resources_of(template_of(stack), kind).values()]


def alarms(tenant: DeployedTenant, anchor: str) -> list[dict[str, Any]]:
    found = observed(tenant, "AWS::CloudWatch::Alarm")
    return [one for one in found if entry_of(one) == anchor]


def watched(alarm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = [one["MetricStat"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
    return [part["Metric"] for part in parts] or [alarm]


def systems_of(alarm: Mapping[str, Any]) -> set[str]:
    dimensions = [{each["Name"]: each["Value"] for each in one["Dimensions"]} for one in watched(alarm)]
    assert {one[deployed_names.DIMENSION] for one in dimensions} == {"assistant-pharmacy"}
    return {one[deployed_names.SYSTEM_DIMENSION] for one in dimensions}


def test_an_old_secret_raises_the_alarm_of_its_runbook_entry() -> None:
    (alarm,) = alarms(reaching(ORDERS), "system-secret-old")
    assert (alarm["MetricName"], alarm["Threshold"]) == (deployed_names.SYSTEM_CREDENTIAL_AGE, 90)
    assert alarms(reaching({**ORDERS, "auth": "none"}), "system-secret-old") == []


@pytest.mark.parametrize("anchor", OF_A_SYSTEM)
def test_each_system_that_is_called_has_an_alarm_of_its_own(anchor: str) -> None:
    two = reaching(ORDERS, {**ORDERS, "name": "stores"}, {**ORDERS, "name": "fax", "connector": None})
    made = [systems_of(alarm) for alarm in alarms(two, anchor)]
    assert sorted(map(sorted, made)) == [["orders"], ["stores"]]
    assert alarms(reaching({**ORDERS, "connector": None}), anchor) == []


@pytest.mark.parametrize("anchor", OF_A_SYSTEM)
def test_a_system_that_nobody_calls_raises_no_alarm(anchor: str) -> None:
    """Off on purpose or paused, it has no data: tests of the service's metrics prove that."""
    (alarm,) = alarms(reaching(ORDERS), anchor)
    assert alarm["TreatMissingData"] == "notBreaching"
    emitted = {one["MetricName"] for one in watched(alarm)}
    assert all(name.startswith(deployed_names.LIVE_READS) for name in emitted)


def test_a_system_fails_by_the_share_of_its_calls_and_only_with_enough_of_them() -> None:
    (alarm,) = alarms(reaching(ORDERS), NO_ANSWER)
    by_id = {one["Id"]: one for one in alarm["Metrics"]}
    (expression,) = [one["Expression"] for one in by_id.values() if "Expression" in one]
    assert expression == "IF(calls >= 5, 100 * failed / calls, 0)"
    names = {key: by_id[key]["MetricStat"]["Metric"]["MetricName"] for key in ("calls", "failed")}
    assert names == {"calls": deployed_names.LIVE_READS, "failed": deployed_names.LIVE_READS_FAILED}
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (50, 2)
    assert {one["MetricStat"]["Period"] for one in by_id.values() if "MetricStat" in one} == {300}


def test_a_system_that_decides_by_the_agent_may_refuse_agents() -> None:
    by_agent = reaching({**ORDERS, "whose": "agent"})
    assert alarms(by_agent, OTHER_CUSTOMER) == []
    assert len(alarms(by_agent, OTHER_FORM)) == 1
