"""The care side: one DNS name for the assistant in one VPC, and a probe that may only ask questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from assistant.domain.errors import ConfigurationError
from assistant.tenant.care_app import CareApp, load_care_app
from assistant.tenant.deployed_names import NAMESPACE, PROBE_DEGRADED, PROBE_DIMENSION, PROBE_FAILED
from stacks.application import build
from stacks.care_app import CareAppStack, CareAppStage, on_care_side
from stacks.tenant import ROOT
from tests.stacks.synthesized import FIXTURES
from tests.stacks.values import deployed, resources_of, stage_for, template_of, with_sections

Template = dict[str, Any]
IN_A_VPC_THAT_IS_THERE, IN_A_VPC_OF_ITS_OWN = "pharmacy", "sandbox"


def care_of(name: str) -> CareApp:
    return load_care_app(ROOT / "tests/care_app" / f"{name}.toml", tenant=deployed(name).config)


def stack_of(name: str, care: CareApp) -> CareAppStack:
    tenant = on_care_side(deployed(name), care)
    return CareAppStack(stage_for(tenant), "Link", tenant=tenant, care=care)


@pytest.fixture(scope="module")
def template() -> Template:
    return template_of(stack_of(IN_A_VPC_THAT_IS_THERE, care_of(IN_A_VPC_THAT_IS_THERE)))


@pytest.fixture(scope="module")
def in_own_vpc() -> Template:
    return template_of(stack_of(IN_A_VPC_OF_ITS_OWN, care_of(IN_A_VPC_OF_ITS_OWN)))


def only(template: Template, kind: str) -> dict[str, Any]:
    (found,) = resources_of(template, kind).values()
    return found["Properties"]


def link_endpoint(template: Template) -> dict[str, Any]:
    endpoints = resources_of(template, "AWS::EC2::VPCEndpoint").values()
    (link,) = [one for one in endpoints if "vpce-svc" in one["Properties"]["ServiceName"]]
    return link["Properties"]


# --- mistake 7: one phase ---------------------------------------------------------------------------------
def test_the_link_needs_no_private_dns_of_the_service(template: Template) -> None:
    link = link_endpoint(template)
    assert link["ServiceName"] == care_of(IN_A_VPC_THAT_IS_THERE).config.link.service_name
    assert link["PrivateDnsEnabled"] is False


def test_the_certificate_s_name_resolves_to_the_endpoint_in_this_vpc_only(template: Template) -> None:
    host_name = deployed(IN_A_VPC_THAT_IS_THERE).edge.host_name
    zone = only(template, "AWS::Route53::HostedZone")
    assert zone["Name"] == host_name
    assert [vpc["VPCId"] for vpc in zone["VPCs"]] == [link_endpoint(template)["VpcId"]]
    record = only(template, "AWS::Route53::RecordSet")
    assert (record["Name"], record["Type"]) == (host_name, "A")
    named = str(record["AliasTarget"]["DNSName"])
    assert "DnsEntries" in named


def test_the_probe_connects_to_the_certificate_s_name(template: Template) -> None:
    dialled = only(template, "AWS::Lambda::Function")["Environment"]["Variables"]
    assert dialled["ASSISTANT_PROBE_SERVICE_URL"] == "https://assistant.pharmacy.example.com"


@pytest.mark.parametrize(("names", "enabled"), [("none", False), ("service", True)])
def test_other_kinds_of_dns_create_no_zone(names: str, *, enabled: bool) -> None:
    care = care_of(IN_A_VPC_THAT_IS_THERE)
    link = care.config.link.model_copy(update={"names": names})
    other = replace(care, config=care.config.model_copy(update={"link": link}))
    template = template_of(stack_of(IN_A_VPC_THAT_IS_THERE, other))
    assert not resources_of(template, "AWS::Route53::HostedZone")
    assert link_endpoint(template)["PrivateDnsEnabled"] is enabled


# --- mistakes 3 and 1: who reaches the link ---------------------------------------------------------------
def rules_into(template: Template, group: Any) -> list[dict[str, Any]]:
    rules = resources_of(template, "AWS::EC2::SecurityGroupIngress").values()
    return [rule["Properties"] for rule in rules if rule["Properties"]["GroupId"] == group]


def test_only_named_clients_and_the_probe_may_connect_to_the_link(template: Template) -> None:
    (group,) = link_endpoint(template)["SecurityGroupIds"]
    rules = rules_into(template, group)
    assert {rule.get("CidrIp") for rule in rules} == {"10.32.0.0/18", None}
    assert all(rule["FromPort"] == rule["ToPort"] == 443 for rule in rules)
    assert len(rules) == 2


@pytest.mark.parametrize("name", [IN_A_VPC_THAT_IS_THERE, IN_A_VPC_OF_ITS_OWN])
def test_no_group_has_the_default_egress_rule(template: Template, in_own_vpc: Template, name: str) -> None:
    chosen = template if name == IN_A_VPC_THAT_IS_THERE else in_own_vpc
    for group in resources_of(chosen, "AWS::EC2::SecurityGroup").values():
        (leads_nowhere,) = group["Properties"]["SecurityGroupEgress"]
        assert leads_nowhere["CidrIp"] == "255.255.255.255/32"


def test_the_probe_may_connect_only_to_the_link_and_the_vpc_s_endpoints(template: Template) -> None:
    rules = [r["Properties"] for r in resources_of(template, "AWS::EC2::SecurityGroupEgress").values()]
    (link,) = link_endpoint(template)["SecurityGroupIds"]
    assert {str(rule.get("DestinationSecurityGroupId", rule.get("CidrIp"))) for rule in rules} == {
        str(link),
        "10.32.0.0/18",
    }


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"cidr": "10.99.0.0/24"}, "10.99.0.0/24, where the probe stands"),
        ({"cidr": "10.0.0.0/8"}, "10.0.0.0/8, where the probe stands"),
    ],
)
def test_a_network_that_the_assistant_does_not_accept_is_refused(
    tmp_path: Path, network: dict[str, str], says: str
) -> None:
    text = (ROOT / "tests/care_app/sandbox.toml").read_text().replace("10.32.64.0/24", network["cidr"])
    (tmp_path / "sandbox.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=rf"{says}.*edge.consumer_cidrs \(10.32.0.0/16\)"):
        load_care_app(tmp_path / "sandbox.toml", tenant=deployed("sandbox").config)


def test_zones_of_another_region_are_refused(tmp_path: Path) -> None:
    text = (ROOT / "tests/care_app/sandbox.toml").read_text().replace('"us-east-1b"', '"us-west-2b"')
    (tmp_path / "sandbox.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"deployment\.zones: us-west-2b is not in us-east-1"):
        load_care_app(tmp_path / "sandbox.toml", tenant=deployed("sandbox").config)


# --- its own VPC, and one that is there -------------------------------------------------------------------
def test_a_new_vpc_has_only_the_endpoints_that_the_probe_calls(in_own_vpc: Template) -> None:
    services = [
        one["Properties"]["ServiceName"] for one in resources_of(in_own_vpc, "AWS::EC2::VPCEndpoint").values()
    ]
    assert [name for name in services if "vpce-svc" not in name] == ["com.amazonaws.us-east-1.kms"]
    assert not resources_of(in_own_vpc, "AWS::EC2::Route")
    assert not resources_of(in_own_vpc, "AWS::EC2::InternetGateway")


def test_an_existing_vpc_gets_no_endpoint_with_private_dns(template: Template) -> None:
    """An endpoint with private DNS would take over KMS for every client in that VPC."""
    assert len(resources_of(template, "AWS::EC2::VPCEndpoint")) == 1
    assert not resources_of(template, "AWS::EC2::VPC")


def test_an_existing_vpc_must_name_its_endpoints() -> None:
    care = care_of(IN_A_VPC_THAT_IS_THERE)
    network = care.config.network.model_copy(update={"endpoints": {}})
    unnamed = replace(care, config=care.config.model_copy(update={"network": network}))
    with pytest.raises(ConfigurationError, match=r"network.endpoints must name the VPC's endpoint of kms"):
        stack_of(IN_A_VPC_THAT_IS_THERE, unnamed)


# --- mistake 21: the probe --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [IN_A_VPC_THAT_IS_THERE, IN_A_VPC_OF_ITS_OWN])
def test_the_probe_is_the_only_function_and_runs_in_the_vpc(
    template: Template, in_own_vpc: Template, name: str
) -> None:
    chosen = template if name == IN_A_VPC_THAT_IS_THERE else in_own_vpc
    function = only(chosen, "AWS::Lambda::Function")
    assert function["VpcConfig"]["SubnetIds"] == link_endpoint(chosen)["SubnetIds"]
    assert not [body for body in chosen["Resources"].values() if body["Type"].startswith("Custom::")]


def calls_of_the_probe(template: Template) -> list[dict[str, Any]]:
    """Return what its role allows its code: what is attached by name, Lambda's own part aside."""
    role = only(template, "AWS::Lambda::Function")["Role"]["Fn::GetAtt"][0]
    policies = resources_of(template, "AWS::IAM::ManagedPolicy").values()
    (own,) = [one["Properties"] for one in policies if one["Properties"].get("Roles") == [{"Ref": role}]]
    return own["PolicyDocument"]["Statement"]


def test_the_probe_may_only_sign_with_its_key(template: Template) -> None:
    (allowed,) = calls_of_the_probe(template)
    key = allowed["Resource"]["Fn::GetAtt"][0]
    assert allowed["Action"] == "kms:Sign"
    assert allowed["Condition"] == {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}
    assert template["Resources"][key]["Properties"]["KeySpec"] == "ECC_NIST_P256"


def test_only_the_probe_may_sign_with_its_key(template: Template) -> None:
    keys = resources_of(template, "AWS::KMS::Key").values()
    (signing,) = [key["Properties"] for key in keys if key["Properties"].get("KeyUsage") == "SIGN_VERIFY"]
    statements = signing["KeyPolicy"]["Statement"]
    signers = [each for each in statements if "kms:Sign" in str(each["Action"])]
    (function,) = resources_of(template, "AWS::Lambda::Function").values()
    assert [each["Condition"]["ArnEquals"] for each in signers] == [
        {"aws:PrincipalArn": function["Properties"]["Role"]}
    ]
    assert not [each for each in statements if each["Action"] == "kms:*"]


def test_the_probe_runs_every_five_minutes_and_after_each_stack_deployment(template: Template) -> None:
    rules = [rule["Properties"] for rule in resources_of(template, "AWS::Events::Rule").values()]
    assert [rule["ScheduleExpression"] for rule in rules if "ScheduleExpression" in rule] == [
        "rate(5 minutes)"
    ]
    (pattern,) = [rule["EventPattern"] for rule in rules if "EventPattern" in rule]
    (stacks,) = pattern["detail"]["stack-id"]
    assert stacks["prefix"].endswith(":444455556666:stack/assistant-pharmacy-")
    assert {"CREATE_COMPLETE", "UPDATE_COMPLETE"} <= set(pattern["detail"]["status-details"]["status"])


def test_lambda_does_not_retry_a_failed_probe(template: Template) -> None:
    assert only(template, "AWS::Lambda::EventInvokeConfig")["MaximumRetryAttempts"] == 0


def test_the_probe_gets_the_certificate_of_a_private_authority() -> None:
    care = care_of(IN_A_VPC_THAT_IS_THERE)
    with_authority = replace(care, certificate_authority="-----BEGIN CERTIFICATE-----")
    function = only(template_of(stack_of(IN_A_VPC_THAT_IS_THERE, with_authority)), "AWS::Lambda::Function")
    assert function["Environment"]["Variables"]["ASSISTANT_PROBE_CERTIFICATE_AUTHORITY"].startswith("-----")


def test_a_client_certificate_is_read_from_one_parameter() -> None:
    care = care_of(IN_A_VPC_OF_ITS_OWN)
    probe = care.config.probe.model_copy(update={"client_certificate_parameter": "/care/probe/certificate"})
    shown = replace(care, config=care.config.model_copy(update={"probe": probe}))
    template = template_of(stack_of(IN_A_VPC_OF_ITS_OWN, shown))
    read = [each["Resource"] for each in calls_of_the_probe(template) if each["Action"] != "kms:Sign"]
    assert read == ["arn:aws:ssm:us-east-1:111122223333:parameter/care/probe/certificate"]
    assert "com.amazonaws.us-east-1.ssm" in str(resources_of(template, "AWS::EC2::VPCEndpoint"))


def test_a_missing_client_certificate_is_refused_where_the_tenant_requires_one() -> None:
    tenant = deployed(IN_A_VPC_OF_ITS_OWN)
    section = tenant.edge.model_dump(mode="json") | {"client_certificates": "s3://company-cas/ca.pem"}
    with pytest.raises(ConfigurationError, match=r"probe.client_certificate_parameter is needed"):
        load_care_app(ROOT / "tests/care_app/sandbox.toml", tenant=with_sections(tenant, edge=section).config)


# --- alarms -----------------------------------------------------------------------------------------------
def alarm_on(template: Template, metric: str) -> dict[str, Any]:
    alarms = [alarm["Properties"] for alarm in resources_of(template, "AWS::CloudWatch::Alarm").values()]
    (found,) = [alarm for alarm in alarms if alarm["MetricName"] == metric]
    return found


@pytest.mark.parametrize("metric", [PROBE_FAILED, PROBE_DEGRADED])
def test_alarms_use_the_metrics_that_the_probe_emits(template: Template, metric: str) -> None:
    alarm = alarm_on(template, metric)
    assert alarm["Namespace"] == NAMESPACE
    assert alarm["Dimensions"] == [{"Name": PROBE_DIMENSION, "Value": "pharmacy"}]
    assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmsTopic3A2DFEBA"}]


def test_alarms_may_publish_to_their_topic(template: Template) -> None:
    statements = only(template, "AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    (told,) = [statement for statement in statements if statement["Effect"] == "Allow"]
    assert told["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert told["Action"] == "sns:Publish"
    assert told["Condition"] == {"StringEquals": {"aws:SourceAccount": "444455556666"}}


@pytest.mark.parametrize("metric", [PROBE_FAILED, PROBE_DEGRADED])
def test_an_alarm_names_its_entry_on_the_page(template: Template, metric: str) -> None:
    document, entry = alarm_on(template, metric)["AlarmDescription"].split(". ")[-1].split(", ")
    assert f"**{entry}** · " in (ROOT / document).read_text(encoding="utf-8")


def test_a_probe_that_does_not_run_raises_an_alarm(template: Template) -> None:
    assert alarm_on(template, PROBE_FAILED)["TreatMissingData"] == "breaching"


def test_one_failure_raises_no_alarm(template: Template) -> None:
    assert alarm_on(template, PROBE_FAILED)["DatapointsToAlarm"] == 2


def test_the_file_s_bootstrap_qualifier_is_used() -> None:
    care = care_of(IN_A_VPC_THAT_IS_THERE)
    place = care.config.deployment.model_copy(update={"bootstrap_qualifier": "acme"})
    care = replace(care, config=care.config.model_copy(update={"deployment": place}))
    stage = CareAppStage(cdk.App(), tenant=deployed(IN_A_VPC_THAT_IS_THERE), care=care)
    (stack,) = stage.synth().stacks
    assert stack.template["Parameters"]["BootstrapVersion"]["Default"] == "/cdk-bootstrap/acme/version"


# --- which stages there are -------------------------------------------------------------------------------
def stages(**context: str) -> list[str]:
    app = build({"stage": "care_app", **FIXTURES, **context})
    return [child.node.id for child in app.node.children if child.node.id.endswith("Care")]


def test_tenants_without_a_file_are_skipped() -> None:
    assert stages() == ["PharmacyCare", "SandboxCare"]


def test_a_chosen_tenant_must_have_a_file() -> None:
    with pytest.raises(ConfigurationError, match=r"care_app/clinic.toml: no such file"):
        stages(tenant="clinic")


def test_an_invalid_file_of_another_tenant_is_ignored(tmp_path: Path) -> None:
    for name in ("pharmacy", "sandbox"):
        text = (ROOT / "tests/care_app" / f"{name}.toml").read_text()
        (tmp_path / f"{name}.toml").write_text(text if name == "sandbox" else "no toml")
    assert stages(tenant="sandbox", care_app=str(tmp_path)) == ["SandboxCare"]


def test_a_folder_without_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no file of a care side"):
        stages(care_app=str(tmp_path))


def test_a_file_without_a_tenant_is_named(tmp_path: Path) -> None:
    (tmp_path / "bakery.toml").write_text("")
    with pytest.raises(ConfigurationError, match=r"bakery.toml: there is no tenant of this name"):
        stages(care_app=str(tmp_path))
