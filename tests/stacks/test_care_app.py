"""The care side: one DNS name for the assistant in one VPC, and a probe that may only ask questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.tenant.care_app import CareApp, load_care_app
from stacks.application import build
from stacks.care_app import CareAppStack, on_care_side
from stacks.tenant import ROOT
from tests.stacks.synthesized import FIXTURES, templates_in
from tests.stacks.values import deployed, only, resources_of, stage_for, with_sections

Template = dict[str, Any]
IN_A_VPC_THAT_IS_THERE, IN_A_VPC_OF_ITS_OWN = "pharmacy", "sandbox"


def care_of(name: str) -> CareApp:
    return load_care_app(ROOT / "tests/care_app" / f"{name}.toml", tenant=deployed(name).config)


def stack_of(name: str, care: CareApp) -> CareAppStack:
    tenant = on_care_side(deployed(name), care)
    return CareAppStack(stage_for(tenant), "Link", tenant=tenant, care=care)


@pytest.fixture(scope="module")
def template(assembly: Path) -> Template:
    return dict(templates_in(assembly / "assembly-PharmacyCare")["Link"])


def link_endpoint(template: Template) -> dict[str, Any]:
    endpoints = resources_of(template, "AWS::EC2::VPCEndpoint").values()
    (link,) = [one for one in endpoints if "vpce-svc" in one["Properties"]["ServiceName"]]
    return link["Properties"]


def test_the_certificate_s_name_resolves_to_the_endpoint_in_this_vpc_only(template: Template) -> None:
    host_name = deployed(IN_A_VPC_THAT_IS_THERE).edge.host_name
    zone = only(template, "AWS::Route53::HostedZone")
    assert zone["Name"] == host_name
    assert [vpc["VPCId"] for vpc in zone["VPCs"]] == [link_endpoint(template)["VpcId"]]
    record = only(template, "AWS::Route53::RecordSet")
    assert (record["Name"], record["Type"]) == (host_name, "A")
    named = str(record["AliasTarget"]["DNSName"])
    assert "DnsEntries" in named


def test_a_network_that_the_assistant_does_not_accept_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "tests/care_app/sandbox.toml").read_text().replace("10.32.64.0/24", "10.0.0.0/8")
    (tmp_path / "sandbox.toml").write_text(text)
    says = r"10.0.0.0/8, where the probe stands.*edge.consumer_cidrs \(10.32.0.0/16\)"
    with pytest.raises(ConfigurationError, match=says):
        load_care_app(tmp_path / "sandbox.toml", tenant=deployed("sandbox").config)


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


def test_a_missing_client_certificate_is_refused_where_the_tenant_requires_one() -> None:
    tenant = deployed(IN_A_VPC_OF_ITS_OWN)
    section = tenant.edge.model_dump(mode="json") | {"client_certificates": "s3://company-cas/ca.pem"}
    with pytest.raises(ConfigurationError, match=r"probe.client_certificate_parameter is needed"):
        load_care_app(ROOT / "tests/care_app/sandbox.toml", tenant=with_sections(tenant, edge=section).config)


@pytest.mark.parametrize(
    ("file", "chosen", "said"),
    [
        (None, {"tenant": "clinic"}, r"care_app/clinic.toml: no such file"),
        (None, {"care_app": ""}, r"there is no file of a care side"),
        ("bakery.toml", {"care_app": ""}, r"bakery.toml: there is no tenant of this name"),
    ],
)
def test_a_stage_needs_the_file_of_its_tenant(
    file: str | None, chosen: dict[str, str], said: str, tmp_path: Path
) -> None:
    if file:
        (tmp_path / file).write_text("")
    context = {name: value or str(tmp_path) for name, value in chosen.items()}
    with pytest.raises(ConfigurationError, match=said):
        build({"stage": "care_app", **FIXTURES, **context})
