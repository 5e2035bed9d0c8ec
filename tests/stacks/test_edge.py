"""The edge stack: one way in, whole TLS to the ALB and again to the tasks, streams that nothing cuts."""

from __future__ import annotations

from typing import Any

import pytest

from stacks.edge import EdgeStack
from stacks.tenant import DeployedTenant
from tests.stacks.values import deployed, resources_of, stack_with, template_of, with_sections

Template = dict[str, Any]


def edge_of(tenant: DeployedTenant) -> Template:
    return template_of(stack_with(EdgeStack, tenant))


@pytest.fixture(scope="module")
def template() -> Template:
    return edge_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def with_client_certificates() -> Template:
    tenant = deployed("pharmacy")
    section = tenant.edge.model_dump(mode="json") | {"client_certificates": "s3://company-cas/care/ca.pem"}
    return edge_of(with_sections(tenant, edge=section))


def properties(template: Template, logical_id: str) -> dict[str, Any]:
    return template["Resources"][logical_id]["Properties"]


def attributes(template: Template, logical_id: str, name: str = "LoadBalancerAttributes") -> dict[str, str]:
    return {item["Key"]: item["Value"] for item in properties(template, logical_id).get(name, [])}


def test_security_group_rules_apply_to_private_link_traffic(template: Template) -> None:
    enforced = properties(template, "NetworkLoadBalancer")[
        "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"
    ]
    assert enforced == "on"


def test_tls_ends_at_the_alb_with_the_tenant_s_certificate(template: Template) -> None:
    listener = properties(template, "TlsListener")
    assert listener["Protocol"] == "HTTPS"
    assert listener["Certificates"] == [{"CertificateArn": deployed("pharmacy").edge.certificate_arn}]
    assert "MutualAuthentication" not in listener


def test_invalid_and_forwarded_headers_are_removed(template: Template) -> None:
    alb = attributes(template, "ApplicationLoadBalancer")
    assert alb["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert alb["routing.http.xff_header_processing.mode"] == "remove"


def test_only_listed_principals_may_request_a_connection_and_each_needs_acceptance(
    template: Template,
) -> None:
    assert properties(template, "EndpointService")["AcceptanceRequired"] is True
    (permissions,) = resources_of(template, "AWS::EC2::VPCEndpointServicePermissions").values()
    allowed = list(deployed("pharmacy").edge.allowed_principals)
    assert permissions["Properties"]["AllowedPrincipals"] == allowed


def test_the_main_listener_verifies_client_certificates(with_client_certificates: Template) -> None:
    asked = properties(with_client_certificates, "TlsListener")["MutualAuthentication"]
    assert asked["Mode"] == "verify"
    assert asked["TrustStoreArn"] == {"Fn::GetAtt": ["ClientAuthorities", "TrustStoreArn"]}
    store = properties(with_client_certificates, "ClientAuthorities")
    assert store["CaCertificatesBundleS3Bucket"] == "company-cas"
    assert store["CaCertificatesBundleS3Key"] == "care/ca.pem"


def test_the_listener_without_client_certificates_serves_only_health(
    with_client_certificates: Template,
) -> None:
    (default,) = properties(with_client_certificates, "HealthListener")["DefaultActions"]
    assert default["FixedResponseConfig"]["StatusCode"] == "404"
    (rule,) = resources_of(with_client_certificates, "AWS::ElasticLoadBalancingV2::ListenerRule").values()
    (condition,) = rule["Properties"]["Conditions"]
    assert condition["PathPatternConfig"]["Values"] == ["/healthz"]
