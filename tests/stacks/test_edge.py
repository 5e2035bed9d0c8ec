"""The edge stack: one way in, whole TLS to the ALB and again to the tasks, streams that nothing cuts."""

from __future__ import annotations

from typing import Any

import pytest

from stacks.edge import EdgeStack
from stacks.network import HEALTH_PORT
from stacks.tenant import DeployedTenant
from tests.stacks.values import DATA, NETWORK, deployed, resources_of, stack_with, template_of, with_sections

Template = dict[str, Any]


def edge_of(tenant: DeployedTenant) -> EdgeStack:
    return stack_with(EdgeStack, tenant)


@pytest.fixture(scope="module")
def stack() -> EdgeStack:
    return edge_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def template(stack: EdgeStack) -> Template:
    return template_of(stack)


@pytest.fixture(scope="module")
def with_client_certificates() -> Template:
    tenant = deployed("pharmacy")
    section = tenant.edge.model_dump(mode="json") | {"client_certificates": "s3://company-cas/care/ca.pem"}
    return template_of(edge_of(with_sections(tenant, edge=section)))


def properties(template: Template, logical_id: str) -> dict[str, Any]:
    return template["Resources"][logical_id]["Properties"]


def attributes(template: Template, logical_id: str, name: str = "LoadBalancerAttributes") -> dict[str, str]:
    return {item["Key"]: item["Value"] for item in properties(template, logical_id).get(name, [])}


# --- mistakes 1 to 3: groups ------------------------------------------------------------------------------


def test_the_stack_has_no_security_group_rule(template: Template) -> None:
    kinds = {body["Type"] for body in template["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith("AWS::EC2::SecurityGroup")]


def test_security_group_rules_apply_to_private_link_traffic(template: Template) -> None:
    enforced = properties(template, "NetworkLoadBalancer")[
        "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"
    ]
    assert enforced == "on"


@pytest.mark.parametrize("balancer", ["NetworkLoadBalancer", "ApplicationLoadBalancer"])
def test_a_balancer_is_internal_and_in_every_zone(template: Template, balancer: str) -> None:
    assert properties(template, balancer)["Scheme"] == "internal"
    assert properties(template, balancer)["Subnets"] == list(NETWORK.subnet_ids)


# --- certificates -----------------------------------------------------------------------------------------
def test_tls_ends_at_the_alb_with_the_tenant_s_certificate(template: Template) -> None:
    listener = properties(template, "TlsListener")
    assert listener["Protocol"] == "HTTPS"
    assert listener["Certificates"] == [{"CertificateArn": deployed("pharmacy").edge.certificate_arn}]
    assert "MutualAuthentication" not in listener


def test_tls_1_2_is_accepted(template: Template) -> None:
    """Health checks of an NLB do not speak 1.3."""
    assert properties(template, "TlsListener")["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-Res")


# --- what the ALB takes, and what it writes ---------------------------------------------------------------
def test_invalid_and_forwarded_headers_are_removed(template: Template) -> None:
    alb = attributes(template, "ApplicationLoadBalancer")
    assert alb["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert alb["routing.http.xff_header_processing.mode"] == "remove"


def test_access_logs_go_to_the_logs_bucket_whose_policy_is_not_touched(template: Template) -> None:
    alb = attributes(template, "ApplicationLoadBalancer")
    assert (alb["access_logs.s3.enabled"], alb["access_logs.s3.bucket"]) == ("true", DATA.logs_bucket)
    assert not resources_of(template, "AWS::S3::BucketPolicy")


# --- the endpoint service ---------------------------------------------------------------------------------
def test_only_listed_principals_may_request_a_connection_and_each_needs_acceptance(
    template: Template,
) -> None:
    assert properties(template, "EndpointService")["AcceptanceRequired"] is True
    (permissions,) = resources_of(template, "AWS::EC2::VPCEndpointServicePermissions").values()
    allowed = list(deployed("pharmacy").edge.allowed_principals)
    assert permissions["Properties"]["AllowedPrincipals"] == allowed


def test_the_endpoint_service_has_no_private_dns_name_at_first(template: Template) -> None:
    assert "PrivateDnsName" not in properties(template, "EndpointService")


def test_the_stack_is_protected(stack: EdgeStack, template: Template) -> None:
    assert stack.termination_protection
    for balancer in ("NetworkLoadBalancer", "ApplicationLoadBalancer"):
        assert attributes(template, balancer)["deletion_protection.enabled"] == "true"


# --- client certificates ----------------------------------------------------------------------------------
def test_the_main_listener_verifies_client_certificates(with_client_certificates: Template) -> None:
    asked = properties(with_client_certificates, "TlsListener")["MutualAuthentication"]
    assert asked["Mode"] == "verify"
    assert asked["TrustStoreArn"] == {"Fn::GetAtt": ["ClientAuthorities", "TrustStoreArn"]}
    store = properties(with_client_certificates, "ClientAuthorities")
    assert store["CaCertificatesBundleS3Bucket"] == "company-cas"
    assert store["CaCertificatesBundleS3Key"] == "care/ca.pem"


def test_the_health_check_needs_no_client_certificate(with_client_certificates: Template) -> None:
    target = with_client_certificates["Resources"]["TlsFrontTargets"]
    health = properties(with_client_certificates, "HealthListener")
    assert target["Properties"]["HealthCheckPort"] == str(HEALTH_PORT) == str(health["Port"])
    assert "MutualAuthentication" not in health
    assert {"TlsListener", "HealthListener"} <= set(target["DependsOn"])


def test_the_listener_without_client_certificates_serves_only_health(
    with_client_certificates: Template,
) -> None:
    (default,) = properties(with_client_certificates, "HealthListener")["DefaultActions"]
    assert default["FixedResponseConfig"]["StatusCode"] == "404"
    (rule,) = resources_of(with_client_certificates, "AWS::ElasticLoadBalancingV2::ListenerRule").values()
    (condition,) = rule["Properties"]["Conditions"]
    assert condition["PathPatternConfig"]["Values"] == ["/healthz"]


def test_without_client_certificates_there_is_one_listener(template: Template) -> None:
    assert "HealthListener" not in template["Resources"]


# --- every tenant -----------------------------------------------------------------------------------------


def test_the_endpoint_service_gets_the_certificate_s_name_in_the_second_phase() -> None:
    tenant = deployed("pharmacy")
    section = tenant.edge.model_dump(mode="json") | {"service_private_dns": True}
    template = template_of(edge_of(with_sections(tenant, edge=section)))
    assert properties(template, "EndpointService")["PrivateDnsName"] == tenant.edge.host_name
