"""Proof of reachability: our templates open the declared paths and no other, and the proof finds each change
that opens or closes one."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.cli.aws.templates import facts_of, prove, refuse_paths
from assistant.domain.errors import DeploymentError
from template_checks.facts import Facts
from template_checks.reachability import Report
from template_checks.templates import Templates
from tests.stacks.synthesized import ROOT, assembly_folder
from tests.stage.tenant_files import committed_tenant
from tools.pages import with_reach

NETWORK = "assistant-pharmacy-Network"
FACTS = Facts(consumer_cidrs=("10.32.0.0/16",))
Resources = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def pharmacy(assembly: Path) -> Templates:
    """The templates while the tenant's endpoints are on. While paused, no other path is open."""
    read = Templates.read([assembly_folder(assembly, "pharmacy")])
    return next(world for world in read.worlds() if world.of("AWS::SageMaker::Endpoint"))


def changed(templates: Templates, change: Callable[[Resources], object], *, stack: str = NETWORK) -> Report:
    """Return the proof's findings after a change to a stack's resources."""
    made = [copy.copy(template) for template in templates.templates]
    for index, template in enumerate(made):
        if template.name == stack:
            document = copy.deepcopy(dict(template.document))
            change(document["Resources"])
            made[index] = replace(template, document=document)
    world = Templates(made, world=templates._world)
    return prove(world, facts=FACTS)


def refused(report: Report) -> set[str]:
    return {finding.code for finding in report.findings if finding.status == "refused"}


@pytest.mark.parametrize("tenant", ["pharmacy", "clinic", "sandbox"])
def test_our_templates_open_only_declared_paths_and_every_required_path(assembly: Path, tenant: str) -> None:
    report = prove(Templates.read([assembly_folder(assembly, tenant)]), facts=FACTS)

    assert report.findings == ()
    assert {row.judged for row in report.rows} == {"declared"}
    assert {row.judged for row in report.calls} == {"reachable"}
    ways_in = [row for row in report.rows if row.by not in ("VPC", "gateway endpoint")]
    assert [(row.source, row.target, row.port, row.by) for row in ways_in] == [
        ("care side 10.32.0.0/16", "network load balancer", "tcp 443", "PrivateLink")
    ], "one path in, and none to the internet"


def test_a_deployment_is_refused_if_the_rules_do_not_allow_a_consumer(assembly: Path, tmp_path: Path) -> None:
    folder, ours = assembly_folder(assembly, "pharmacy"), ROOT / "tests/tenants/pharmacy.toml"
    moved = tmp_path / "pharmacy.toml"
    moved.write_text(committed_tenant("pharmacy").replace("10.32.0.0/16", "10.33.0.0/16"))

    refuse_paths(folder, tenant_file=ours, root=ROOT)
    with pytest.raises(DeploymentError, match=r"care side 10\.33\.0\.0/16 must reach"):
        refuse_paths(folder, tenant_file=moved, root=ROOT)


def of_type(templates: Templates, *kinds: str) -> list[str]:
    return [r.logical_id for r in templates.of(*kinds) if r.template.name == NETWORK]


def to_a_prefix_list(resources: Resources) -> None:
    """Point rules for any address at one prefix list, because any address includes the other groups'."""
    for resource in resources.values():
        if resource["Properties"].get("CidrIp") == "0.0.0.0/0":
            del resource["Properties"]["CidrIp"]
            resource["Properties"]["DestinationPrefixListId"] = "pl-11111111"


def test_every_rule_of_a_security_group_is_needed(pharmacy: Templates) -> None:
    """Each change takes away every fourth, the night all."""
    rules = of_type(pharmacy, "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")

    def taken_away(name: str) -> Callable[[Resources], object]:
        return lambda resources: (to_a_prefix_list(resources), resources.pop(name))

    assert len(rules) > 25
    drawn = rules if os.environ.get("EXAMPLES") == "new" else rules[::4]
    unneeded = [name for name in drawn if not refused(changed(pharmacy, taken_away(name)))]
    # The parser reads by addresses that others sign: no right of its role shows the way (test_network.py).
    assert {name.partition("443")[0] for name in unneeded} <= {"SecurityGroupsParserToGateways"}


def test_every_entry_of_the_network_acl_is_needed(pharmacy: Templates) -> None:
    entries = of_type(pharmacy, "AWS::EC2::NetworkAclEntry")

    assert len(entries) == 6
    # Answers to the care side pass by the rule for the balancer's own addresses on the way out of the VPC.
    for name in entries:
        assert refused(changed(pharmacy, lambda resources, name=name: resources.pop(name))), name


def test_every_endpoints_policy_allows_all_actions_and_is_needed(pharmacy: Templates) -> None:
    def narrowed(name: str) -> Callable[[Resources], object]:
        def narrow(resources: Resources) -> None:
            document = resources[name]["Properties"]["PolicyDocument"]
            for statement in document["Statement"]:
                statement["Action"] = statement["Action"][:-1] or ["kms:None"]

        return narrow

    endpoints = [name for name in of_type(pharmacy, "AWS::EC2::VPCEndpoint") if name[:5] != "Reach"]

    missed = {name: refused(changed(pharmacy, narrowed(name))) for name in endpoints}
    assert missed == {name: {"reach-endpoint-policy"} for name in endpoints}


def rule(direction: str, group: str, **peer: Any) -> dict[str, Any]:
    properties = {"GroupId": {"Fn::GetAtt": [group, "GroupId"]}, "IpProtocol": "tcp", **peer}
    return {"Type": f"AWS::EC2::SecurityGroup{direction}", "Properties": properties}


OPENINGS: dict[str, Resources] = {
    "an internet gateway without a route": {"Internet": {"Type": "AWS::EC2::InternetGateway"}},
    "a door for another company": {
        "Door": rule("Ingress", "NlbGroup", CidrIp="10.33.0.0/16", FromPort=443, ToPort=443)
    },
    "a second endpoint service": {
        "Second": {
            "Type": "AWS::EC2::VPCEndpointService",
            "Properties": {"AcceptanceRequired": True, "NetworkLoadBalancerArns": ["arn"]},
        }
    },
    "a function's address on the internet": {
        "Address": {"Type": "AWS::Lambda::Url", "Properties": {"AuthType": "NONE"}}
    },
}


@pytest.mark.parametrize("name", OPENINGS)
def test_a_resource_that_opens_a_path_is_found(pharmacy: Templates, name: str) -> None:
    assert refused(changed(pharmacy, lambda resources: resources.update(copy.deepcopy(OPENINGS[name]))))


@pytest.mark.parametrize(
    ("stack", "kind", "name", "value"),
    [
        ("Network", "AWS::EC2::Subnet", "MapPublicIpOnLaunch", True),
        ("Network", "AWS::EC2::VPCEndpoint", "PrivateDnsEnabled", False),
        ("Edge", "AWS::ElasticLoadBalancingV2::LoadBalancer", "Scheme", "internet-facing"),
        ("Edge", "AWS::EC2::VPCEndpointService", "AcceptanceRequired", False),
        ("Data", "AWS::OpenSearchService::Domain", "VPCOptions", {"Ref": "AWS::NoValue"}),
    ],
)
def test_a_property_that_opens_or_closes_is_found(
    pharmacy: Templates, stack: str, kind: str, name: str, value: Any
) -> None:
    def change(resources: Resources) -> None:
        for resource in resources.values():
            if resource["Type"] == kind:
                resource["Properties"][name] = value

    assert refused(changed(pharmacy, change, stack=f"assistant-pharmacy-{stack}"))


@pytest.fixture(scope="module")
def in_existing_vpc(company_assembly: Path) -> Report:
    """The company's VPC, with client certificates, prefix lists and endpoints of theirs."""
    facts = facts_of(ROOT / "tests/company/tenants/company.toml", root=ROOT)
    return prove(Templates.read([assembly_folder(company_assembly, "company")]), facts=facts)


def test_in_an_existing_vpc_routes_are_not_proven_and_no_rule_is_refused(in_existing_vpc: Report) -> None:
    assert refused(in_existing_vpc) == set()
    assert in_existing_vpc.status == "not proven"
    said = [finding.message for finding in in_existing_vpc.findings]
    assert "vpc-0a1b2c3d4e5f60718: routes not in template: not proven." in said
    codes = {f"reach-{what}-untold" for what in ("routes", "endpoint", "addresses")}
    assert {finding.code for finding in in_existing_vpc.findings} == codes


def test_client_certificates_open_the_port_of_health_checks(in_existing_vpc: Report) -> None:
    ports = {row.port for row in in_existing_vpc.rows if row.target == "application load balancer"}

    assert ports == {"tcp 443", "tcp 8443"}


def test_the_page_s_tables_match_the_templates(assembly: Path) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert page == with_reach(page, Templates.read([assembly_folder(assembly, "pharmacy")])), (
        "run: make synth && python -m tools.pages"
    )
