"""The reference desk on a sandbox's care side: who reaches it, what it may call, and its page of actions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.helpdesk.settings import CONTEXT_KEY_ID, HelpdeskSettings
from assistant.process.settings import ServiceSettings
from assistant.tenant.care_app import CareApp, load_care_app
from assistant.tenant.deployment import CareContextSection
from stacks.network import NetworkStack
from stacks.tenant import ROOT
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.test_care_app import care_of, stack_of
from tests.stacks.values import deployed, resources_of, stack_with, template_of
from tests.unit.test_from_nothing import Action, actions, commands, known

Template = dict[str, Any]
PAGE = (ROOT / "assistant/options/helpdesk/deployed.md").read_text(encoding="utf-8")
SECRET = "arn:aws:secretsmanager:us-east-1:111122223333:secret:care/sandbox/helpdesk-AbCdEf"


@pytest.fixture(scope="module")
def template() -> Template:
    return template_of(stack_of("sandbox", care_of("sandbox")))


def only(template: Template, kind: str, *, below: str = "Helpdesk") -> tuple[str, dict[str, Any]]:
    ((name, body),) = [each for each in resources_of(template, kind).items() if each[0].startswith(below)]
    return name, body["Properties"]


# --- who reaches whom -------------------------------------------------------------------------------------
def group_names(template: Template) -> Mapping[str, str]:
    groups = resources_of(template, "AWS::EC2::SecurityGroup")
    return {name: str(body["Properties"]["GroupDescription"]) for name, body in groups.items()}


def paths_of(template: Template) -> tuple[set[tuple[str, str, int]], set[tuple[str, str, int]]]:
    """Return (source, target, port) of every rule in, and of every rule out."""
    names = group_names(template)

    def end(properties: Mapping[str, Any], *keys: str) -> str:
        value = next(properties[key] for key in keys if properties.get(key) is not None)
        return value if isinstance(value, str) else names[value["Fn::GetAtt"][0]]

    into, out = set[tuple[str, str, int]](), set[tuple[str, str, int]]()
    for body in resources_of(template, "AWS::EC2::SecurityGroupIngress").values():
        rule = body["Properties"]
        source = end(rule, "SourceSecurityGroupId", "CidrIp")
        into.add((source, end(rule, "GroupId"), rule["FromPort"]))
    for body in resources_of(template, "AWS::EC2::SecurityGroupEgress").values():
        rule = body["Properties"]
        target = end(rule, "DestinationSecurityGroupId", "CidrIp")
        out.add((end(rule, "GroupId"), target, rule["FromPort"]))
    return into, out


AGENTS, ASSISTANT = "10.32.64.0/24", "10.66.0.0/20"
DESK, TASK = "Reference desk", "Task of the reference desk"
LINK, AWS = "Private link to the assistant", "Interface endpoints of AWS services"
PROBE = "Asks one question through the link"


def test_agents_reach_the_desk_the_desk_the_link_and_nothing_else(template: Template) -> None:
    into, out = paths_of(template)
    assert into == {
        (AGENTS, DESK, 443),
        (ASSISTANT, DESK, 443),
        (DESK, TASK, 8443),
        (TASK, LINK, 443),
        (TASK, AWS, 443),
        (AGENTS, LINK, 443),
        (PROBE, LINK, 443),
        (PROBE, AWS, 443),
    }
    assert out == {
        (DESK, TASK, 8443),
        (TASK, LINK, 443),
        (TASK, AWS, 443),
        (TASK, "0.0.0.0/0", 443),
        (PROBE, LINK, 443),
        (PROBE, AWS, 443),
    }


def test_route_tables_lead_to_gateway_endpoints_alone(template: Template) -> None:
    assert not resources_of(template, "AWS::EC2::Route")
    assert not resources_of(template, "AWS::EC2::InternetGateway")


def test_the_assistant_s_addresses_pass_the_network_acl_both_ways(template: Template) -> None:
    entries = [body["Properties"] for body in resources_of(template, "AWS::EC2::NetworkAclEntry").values()]
    assert {
        (one["Egress"], one["PortRange"]["From"]) for one in entries if one["CidrBlock"] == ASSISTANT
    } == {
        (False, 443),
        (True, 1024),
    }


def test_the_way_of_a_reply_leads_to_the_task(template: Template) -> None:
    """Assistant's endpoint, endpoint service, balancer, listener, targets, service."""
    balancer, properties = only(template, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert properties["Scheme"] == "internal"
    assert properties["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] == "on"
    service, offered = only(template, "AWS::EC2::VPCEndpointService")
    assert offered == {
        "AcceptanceRequired": True,
        "NetworkLoadBalancerArns": [{"Ref": balancer}],
        **{key: value for key, value in offered.items() if key == "Tags"},
    }
    _, allowed = only(template, "AWS::EC2::VPCEndpointServicePermissions")
    assert allowed["ServiceId"] == {"Ref": service}
    (principal,) = allowed["AllowedPrincipals"]
    assert ":iam::111122223333:root" in str(principal)
    _, listener = only(template, "AWS::ElasticLoadBalancingV2::Listener")
    targets, _ = only(template, "AWS::ElasticLoadBalancingV2::TargetGroup")
    assert (listener["LoadBalancerArn"], listener["Protocol"], listener["Port"]) == (
        {"Ref": balancer},
        "TCP",
        443,
    )
    assert listener["DefaultActions"] == [{"TargetGroupArn": {"Ref": targets}, "Type": "forward"}]
    _, running = only(template, "AWS::ECS::Service")
    assert [one["TargetGroupArn"] for one in running["LoadBalancers"]] == [{"Ref": targets}]
    network = running["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"


def test_the_assistant_of_the_sandbox_sends_orders_and_replies_there() -> None:
    sandbox = deployed("sandbox")
    (entry,) = sandbox.config.reach
    section = care_of("sandbox").config.model_dump()["helpdesk"]
    assert entry.host_name == section["host_name"]
    assert entry.model_dump()["replies"] == "/v1/replies"
    assert sandbox.edge.frame_ancestors == sandbox.edge.cors_origins == (f"https://{entry.host_name}",)
    network = template_of(stack_with(NetworkStack, sandbox))
    into, _ = paths_of(network)
    assert ("Orchestrator of the assistant", "Endpoint of the system orders", 443) in into


def test_the_desk_s_name_leads_to_the_balancer_in_this_vpc_only(template: Template) -> None:
    balancer, _ = only(template, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    _, zone = only(template, "AWS::Route53::HostedZone")
    _, record = only(template, "AWS::Route53::RecordSet")
    assert zone["Name"] == record["Name"] == "desk.sandbox.example.com"
    assert record["AliasTarget"]["DNSName"] == {"Fn::GetAtt": [balancer, "DNSName"]}


# --- rights -----------------------------------------------------------------------------------------------
def test_the_task_may_use_its_table_sign_contexts_and_read_the_issuer_s_keys(template: Template) -> None:
    name, _ = only(template, "AWS::IAM::ManagedPolicy", below="HelpdeskCalls")
    statements = statements_of(template, name)
    table, _ = only(template, "AWS::DynamoDB::Table")
    assert {action for each in statements for action in each["Action"]} == {
        *("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"),
        *("kms:Decrypt", "kms:GenerateDataKey", "kms:Sign", "ssm:GetParameter"),
    }
    assert allowed_on(statements, "dynamodb:Query") == {f"${{{table}.Arn}}"}
    parameters = allowed_on(statements, "ssm:GetParameter")
    assert {one.rpartition("/sandbox/")[2] for one in parameters} == {"jwks", "care-jwks"}
    assert not [one for each in statements for one in each["Resource"] if "*" in one]


def test_its_start_pulls_one_image_and_reads_one_secret(template: Template) -> None:
    name, _ = only(template, "AWS::IAM::ManagedPolicy", below="HelpdeskStarts")
    statements = statements_of(template, name)
    assert allowed_on(statements, "secretsmanager:GetSecretValue") == {SECRET}
    (repository,) = allowed_on(statements, "ecr:BatchGetImage")
    assert repository.endswith("repository/private-care-assistant/helpdesk")
    with_wildcard = {
        str(each["Action"]) for each in statements if any("*" in one for one in each["Resource"])
    }
    assert with_wildcard == {"['ecr:GetAuthorizationToken']"}


def test_both_roles_have_no_other_policy(template: Template) -> None:
    assert not resources_of(template, "AWS::IAM::Policy")


def test_only_the_task_signs_contexts(template: Template) -> None:
    _, key = only(template, "AWS::KMS::Key", below="HelpdeskContextsKey")
    role, _ = only(template, "AWS::IAM::Role", below="HelpdeskRole")
    signers = [one for one in key["KeyPolicy"]["Statement"] if "kms:Sign" in str(one["Action"])]
    assert key["KeySpec"] == "ECC_NIST_P256"
    assert [one["Condition"]["ArnEquals"] for one in signers] == [
        {"aws:PrincipalArn": {"Fn::GetAtt": [role, "Arn"]}}
    ]


def test_the_vpc_has_endpoints_of_exactly_what_the_roles_call(template: Template) -> None:
    named = [
        str(one["Properties"]["ServiceName"])
        for one in resources_of(template, "AWS::EC2::VPCEndpoint").values()
    ]
    called = ["dynamodb", "ecr.api", "ecr.dkr", "kms", "logs", "s3", "secretsmanager", "ssm"]
    found = {re.split(r"us-east-1\.|'\.", name)[1].rstrip("']}") for name in named if "vpce-svc" not in name}
    assert sorted(found) == called


def test_chats_are_under_a_key_of_their_own_can_be_restored_and_expire(template: Template) -> None:
    _, table = only(template, "AWS::DynamoDB::Table")
    key, _ = only(template, "AWS::KMS::Key", below="HelpdeskTableKey")
    assert table["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": [key, "Arn"]}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


# --- the task ---------------------------------------------------------------------------------------------
def test_the_task_is_closed_and_its_settings_are_whole(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, definition = only(template, "AWS::ECS::TaskDefinition")
    (container,) = definition["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["User"] == "10001:10001"
    assert container["LinuxParameters"]["Capabilities"]["Drop"] == ["ALL"]
    for pair in container["Environment"]:
        monkeypatch.setenv(pair["Name"], pair["Value"] if isinstance(pair["Value"], str) else "made-later")
    for secret in container["Secrets"]:
        assert secret["ValueFrom"].startswith(f"{SECRET}:")
        monkeypatch.setenv(secret["Name"], "from-the-secret")
    HelpdeskSettings.read().require_whole()


def test_contexts_are_signed_as_the_tenant_file_says() -> None:
    care = deployed("sandbox").config.care_context
    assert isinstance(care, CareContextSection)
    template = template_of(stack_of("sandbox", care_of("sandbox")))
    _, definition = only(template, "AWS::ECS::TaskDefinition")
    given = {pair["Name"]: pair["Value"] for pair in definition["ContainerDefinitions"][0]["Environment"]}
    assert given["ASSISTANT_HELPDESK_CARE_ISSUER"] == care.issuer
    assert given["ASSISTANT_HELPDESK_CARE_AUDIENCE"] == care.audience
    assert given["ASSISTANT_HELPDESK_JWKS_PARAMETER"] == deployed("sandbox").jwks_parameter
    assert given["ASSISTANT_HELPDESK_CARE_JWKS_PARAMETER"] == deployed("sandbox").care_jwks_parameter
    assert ServiceSettings.model_fields["audience"].default in given["ASSISTANT_HELPDESK_AUDIENCE"]


# --- where it does not belong -----------------------------------------------------------------------------
def without_the_desk(care: CareApp) -> CareApp:
    return replace(care, config=care.config.model_copy(update={"helpdesk": None}))


def test_without_its_table_nothing_of_it_is_deployed() -> None:
    template = template_of(stack_of("sandbox", without_the_desk(care_of("sandbox"))))
    assert [name for name in template["Resources"] if "Helpdesk" in name] == []
    assert not resources_of(template, "AWS::ECS::Service")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('profile = "dev"', 'profile = "hipaa"'),
        ('cidr = "10.32.64.0/24"', 'cidr = "10.32.64.0/24"\nvpc = { vpc_id = "vpc-0c0c0c0c0c0c0c0c0" }'),
    ],
)
def test_a_care_team_s_vpc_or_patients_data_get_no_reference(tmp_path: Path, before: str, after: str) -> None:
    text = (ROOT / "tests/care_app/sandbox.toml").read_text(encoding="utf-8")
    (tmp_path / "sandbox.toml").write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"helpdesk|network"):
        load_care_app(tmp_path / "sandbox.toml", tenant=deployed("sandbox").config)


def test_another_account_and_a_tenant_without_contexts_are_refused() -> None:
    care = care_of("sandbox")
    place = care.config.deployment.model_copy(update={"account": "444455556666"})
    elsewhere = replace(care, config=care.config.model_copy(update={"deployment": place}))
    with pytest.raises(ConfigurationError, match=r"\[helpdesk\]: deployment.account must be the tenant's"):
        stack_of("sandbox", elsewhere)
    unsigned = replace(care, assistant=care.assistant.model_copy(update={"care_context": None}))
    with pytest.raises(ConfigurationError, match=r"\[helpdesk\]: the tenant file needs \[care_context\]"):
        stack_of("sandbox", unsigned)


# --- the page ---------------------------------------------------------------------------------------------
WAY = actions(PAGE.split("\n## What only an account shows")[0])
NUMBERED = pytest.mark.parametrize("action", WAY, ids=lambda action: f"{action.number}-{action.kind}")


def test_all_actions_to_the_first_reply_are_counted() -> None:
    assert [action.number for action in WAY] == list(range(1, 15))
    assert "Fourteen actions" in PAGE
    assert "```sh" not in PAGE.split("**1 · ")[0]


@NUMBERED
def test_each_action_is_one_and_has_its_check(action: Action) -> None:
    assert len(action.checks) == 1
    done = [command for block in action.blocks for command in commands(block)]
    assert len(done) == (1 if action.kind == "command" else 0)
    for command in done:
        words = shlex.split(command)
        if words[0] == "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        elif words[0] == "assistant":
            known(words[1:])


def test_what_an_action_reads_was_printed_before(template: Template) -> None:
    printed = {name for name in template["Outputs"] if name.startswith("Helpdesk")}
    assert printed == {"HelpdeskServiceName", "HelpdeskContextsKeyId"}
    (deploys,) = [one.number for one in WAY if "stage=care_app" in "".join(one.blocks)]
    assert set(re.findall(r"`(Helpdesk\w+)`", WAY[deploys - 1].text)) == printed
    uses = [
        one.number for one in WAY for block in one.blocks if re.search(r"CONTEXTS_KEY_ID|SERVICE_ID", block)
    ]
    assert min(uses) > deploys


def test_the_page_publishes_the_key_by_the_name_that_the_desk_signs_with() -> None:
    (publishes,) = [one for one in WAY if "published_key" in "".join(one.blocks)]
    assert f'.kid = "{CONTEXT_KEY_ID}"' in publishes.blocks[0]
    assert f'`"{CONTEXT_KEY_ID}"`' in publishes.checks[0]
