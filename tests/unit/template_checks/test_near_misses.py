"""Templates that only look like a mistake, and templates that only look right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from template_checks.findings import Status
from template_checks.mistakes.plaintext import plaintext_in
from tests.unit.template_checks.small_templates import ABSENT, OPEN, PASSED, REFUSED, verdict

TASK = """
T:
  Type: AWS::ECS::TaskDefinition
  Properties:
    RequiresCompatibilities: [FARGATE]
    RuntimePlatform: {{CpuArchitecture: {cpu}}}
    ContainerDefinitions: [{{Name: app, Image: "{image}", {more}}}]
"""


def task(*, image: str = "app:1.2.3-amd64", cpu: str = "X86_64", more: str = "Memory: 1") -> str:
    return TASK.format(image=image, cpu=cpu, more=more)


@pytest.mark.parametrize(
    ("image", "status"),
    [
        ("app:1.2.3", PASSED),
        ("app@sha256:" + "a" * 64, PASSED),
        ("app:4f1c2d9", PASSED),
        ("localhost:5000/app:20260101", PASSED),
        ("localhost:5000/app", REFUSED),
        ("app:v2", REFUSED),
        ("app:main", REFUSED),
        ("app:latest-arm64", REFUSED),
    ],
)
def test_a_tag_is_pinned_when_it_is_not_moved(tmp_path: Path, image: str, status: Status) -> None:
    assert verdict(tmp_path, 12, task(image=image)) is status


TABLE = [{"repository": "other"}]


@pytest.mark.parametrize(
    ("image", "cpu", "images", "status"),
    [
        ("app:1.0-arm64", "ARM64", [], PASSED),
        ("app:1.0-arm64", "X86_64", [], REFUSED),
        ("app:1.0", "X86_64", [], OPEN),
        ("app:1.0", "X86_64", TABLE, PASSED),
        ("app:1.0", "ARM64", TABLE, OPEN),
        ("app:1.0", "X86_64", [{"repository": "app", "architecture": "ARM64"}], REFUSED),
        ("charm:1.0-amd64", "X86_64", [], PASSED),
    ],
)
def test_an_architecture_is_known_by_table_or_name(
    tmp_path: Path, image: str, cpu: str, images: list[dict[str, str]], status: Status
) -> None:
    assert verdict(tmp_path, 20, task(image=image, cpu=cpu), images=images) is status


READ_ONLY = "ReadonlyRootFilesystem: true"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (READ_ONLY, REFUSED),
        (f"{READ_ONLY}, MountPoints: [{{ContainerPath: /tmp/, SourceVolume: v}}]", PASSED),
        (f"{READ_ONLY}, MountPoints: [{{ContainerPath: /tmp, SourceVolume: v, ReadOnly: true}}]", REFUSED),
        (f"{READ_ONLY}, MountPoints: [{{ContainerPath: /var/tmp, SourceVolume: v}}]", REFUSED),
        (f"{READ_ONLY}, LinuxParameters: {{Tmpfs: [{{ContainerPath: /tmp, Size: 8}}]}}", PASSED),
        (f"{READ_ONLY}, Essential: false", PASSED),
        ("ReadonlyRootFilesystem: false", PASSED),
    ],
)
def test_a_read_only_root_needs_a_writable_tmp(tmp_path: Path, more: str, status: Status) -> None:
    assert verdict(tmp_path, 20, task(more=more)) is status


DOMAIN = """
G:
  Type: AWS::EC2::SecurityGroup
  Properties: {{SecurityGroupIngress: [{{IpProtocol: "-1", CidrIp: 10.0.0.0/8}}]}}
D:
  Type: AWS::OpenSearchService::Domain
  Properties:
    VPCOptions: {{SubnetIds: [a], SecurityGroupIds: [!Ref G]}}
    AccessPolicies: {policy}
"""


ANYBODY = 'Principal: "*", Condition: {IpAddress: {aws:SourceIp: BLOCK}}'


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ('{Statement: [{Effect: Allow, Principal: "*", Action: "es:*"}]}', REFUSED),
        ('{Statement: {Effect: Allow, Principal: {AWS: ["*"]}, Action: "es:*"}}', REFUSED),
        ("""'{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "es:*"}]}'""", REFUSED),
        ('{Statement: [{Effect: Allow, Principal: {AWS: "arn:aws:iam::1:root"}, Action: "es:*"}]}', PASSED),
        ("{Statement: [{Effect: Allow, " + ANYBODY.replace("BLOCK", "10.0.0.0/8") + "}]}", PASSED),
        ("{Statement: [{Effect: Allow, " + ANYBODY.replace("BLOCK", "0.0.0.0/0") + "}]}", REFUSED),
        ('{Statement: [{Effect: Deny, Principal: "*", Action: "es:*"}]}', PASSED),
    ],
)
def test_an_access_policy_is_open_without_a_condition(tmp_path: Path, policy: str, status: Status) -> None:
    assert verdict(tmp_path, 18, DOMAIN.format(policy=policy)) is status


@pytest.mark.parametrize(
    ("zone", "facts", "status"),
    [
        ("eu-west-1a", {}, PASSED),
        ("us-gov-west-1b", {}, PASSED),
        ("us-west-2-lax-1a", {}, PASSED),
        ("dummy1a", {}, REFUSED),
        ("eu-west-1z", {}, REFUSED),
        ("eu-west-1", {}, REFUSED),
        ("eu-west-1a", {"region": "eu-west-2"}, REFUSED),
        ("eu-west-1c", {"zones": ("eu-west-1a", "eu-west-1b")}, REFUSED),
        ("!Select [0, !GetAZs '']", {}, PASSED),
        ("!Select [0, {'Fn::GetAZs': !Ref 'AWS::Region'}]", {}, PASSED),
        ("!Select [0, !GetAZs eu-west-1]", {"region": "eu-west-1"}, PASSED),
        ("!Select [0, !GetAZs eu-west-2]", {"region": "eu-west-1"}, REFUSED),
        ("!Select [0, !GetAZs eu-west-2]", {}, OPEN),
    ],
)
def test_a_zone_is_one_that_the_region_has(
    tmp_path: Path, zone: str, facts: dict[str, Any], status: Status
) -> None:
    resources = f"S: {{Type: AWS::EC2::Subnet, Properties: {{AvailabilityZone: {zone}}}}}"
    assert verdict(tmp_path, 8, resources, **facts) is status


LISTENER = """
B:
  Type: AWS::ElasticLoadBalancingV2::LoadBalancer
  Properties: {{Type: {kind}, SecurityGroups: [sg-1]}}
L:
  Type: AWS::ElasticLoadBalancingV2::Listener
  Properties:
    LoadBalancerArn: !Ref B
    Port: {port}
    Protocol: {protocol}
    DefaultActions: [{{Type: {action}}}]
"""


@pytest.mark.parametrize(
    ("kind", "port", "protocol", "action", "status"),
    [
        ("application", 80, "HTTP", "redirect", PASSED),
        ("application", 80, "HTTP", "forward", REFUSED),
        ("application", 443, "HTTPS", "forward", PASSED),
        ("network", 443, "TCP", "forward", PASSED),
        ("network", 80, "TCP", "forward", REFUSED),
    ],
)
def test_a_listener_forwards_encrypted_traffic(
    tmp_path: Path, kind: str, port: int, protocol: str, action: str, status: Status
) -> None:
    resources = LISTENER.format(kind=kind, port=port, protocol=protocol, action=action)
    assert verdict(tmp_path, 22, resources) is status


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("http://wiki.internal", REFUSED),
        ("http://localhost:4318", PASSED),
        ("http://127.0.0.1:9/x", PASSED),
        ("https://wiki.internal", PASSED),
        ("see http://wiki.internal", PASSED),
    ],
)
def test_an_address_in_an_environment_has_tls(tmp_path: Path, address: str, status: Status) -> None:
    resources = task(more=f'Environment: [{{Name: A, Value: "{address}"}}]')
    assert verdict(tmp_path, 22, resources) is status


MODEL = """
M:
  Type: AWS::SageMaker::Model
  Properties:
    EnableNetworkIsolation: {isolated}
    PrimaryContainer: {{Environment: {{HF_MODEL_ID: {model}}}}}
"""


@pytest.mark.parametrize(
    ("isolated", "model", "status"),
    [
        ("true", "org/name", REFUSED),
        ("true", "gpt2", REFUSED),
        ("true", "/opt/ml/model", PASSED),
        ("true", "s3://bucket/prefix/", PASSED),
        ("false", "org/name", PASSED),
    ],
)
def test_a_hub_is_unreachable_only_in_isolation(
    tmp_path: Path, isolated: str, model: str, status: Status
) -> None:
    assert verdict(tmp_path, 13, MODEL.format(isolated=isolated, model=model)) is status


NAMED = "M: {{Type: AWS::SageMaker::Model, Properties: {{ModelName: {name}, ExecutionRoleArn: r}}}}"


@pytest.mark.parametrize(
    ("name", "status"),
    [("llm", REFUSED), ('!Sub "${AWS::StackName}-llm"', REFUSED), ('!Sub "llm-${ReleaseHash}"', PASSED)],
)
def test_a_name_is_hard_coded_unless_it_changes_with_what_it_names(
    tmp_path: Path, name: str, status: Status
) -> None:
    assert verdict(tmp_path, 15, NAMED.format(name=name)) is status


WAY_IN = """
N: {{Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {{Type: network, SecurityGroups: [sg-1]}}}}
A: {{Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {{SecurityGroups: [sg-2]}}}}
G:
  Type: AWS::ElasticLoadBalancingV2::TargetGroup
  Properties: {{TargetType: alb, Protocol: TCP, Port: "443", Targets: [{{Id: !Ref A}}]}}
T:
  Type: AWS::ElasticLoadBalancingV2::Listener
  Properties:
    {{LoadBalancerArn: !Ref N, Port: 443, Protocol: TCP, DefaultActions: [{{TargetGroupArn: !Ref G}}]}}
H:
  Type: AWS::ElasticLoadBalancingV2::Listener
  Properties:
    {{LoadBalancerArn: !Ref A, Port: 443, Protocol: HTTPS, Certificates: [{{CertificateArn: {cert}}}]}}
C:
  Type: AWS::CertificateManager::Certificate
  Properties: {{DomainName: example.org, SubjectAlternativeNames: ["*.example.org"]}}
"""


@pytest.mark.parametrize(
    ("certificate", "names", "status"),
    [
        ("!Ref C", ["example.org", "chat.example.org"], PASSED),
        ("!Ref C", ["a.chat.example.org"], REFUSED),
        ("!Ref C", [], OPEN),
        ("arn:aws:acm:eu-west-1:1:certificate/x", ["chat.example.org"], OPEN),
    ],
)
def test_a_certificate_is_for_the_name_that_clients_use(
    tmp_path: Path, certificate: str, names: list[str], status: Status
) -> None:
    assert verdict(tmp_path, 7, WAY_IN.format(cert=certificate), host_names=names) is status


RULE = """
R:
  Type: AWS::ElasticLoadBalancingV2::ListenerRule
  Properties: {{ListenerArn: !Ref L, Actions: [{{Type: {action}}}]}}
"""


@pytest.mark.parametrize(("action", "status"), [("redirect", PASSED), ("forward", REFUSED)])
def test_a_rule_on_a_listener_of_80_may_only_redirect(tmp_path: Path, action: str, status: Status) -> None:
    listener = LISTENER.format(kind="application", port=80, protocol="HTTP", action="fixed-response")
    assert verdict(tmp_path, 22, listener + RULE.format(action=action)) is status


CONFIG = """
C:
  Type: AWS::SageMaker::EndpointConfig
  Properties:
    {key}
    ProductionVariants: [{{VariantName: All, ModelName: m, InitialInstanceCount: 1, {variant}}}]
"""
KEYED = "KmsKeyId: arn:aws:kms:eu-west-1:111122223333:key/a"


@pytest.mark.parametrize(
    ("key", "variant", "status"),
    [
        (KEYED, "InstanceType: ml.inf2.8xlarge", PASSED),
        (KEYED, "InstanceType: ml.c7i.xlarge", PASSED),
        (KEYED, "InstanceType: ml.m5.large", PASSED),
        (KEYED, "InstanceType: ml.g6e.2xlarge", REFUSED),
        (KEYED, "InstanceType: ml.g5.48xlarge", REFUSED),
        (KEYED, "InstanceType: ml.trn1.2xlarge", REFUSED),
        (KEYED, "InstanceType: ml.c5d.xlarge", REFUSED),
        (KEYED, "InstanceType: ml.m6id.large", REFUSED),
        (KEYED, "InstanceType: ml.r7gd.large", REFUSED),
        (KEYED, "InstancePools: [{InstanceType: ml.c7i.xlarge}, {InstanceType: ml.g4dn.xlarge}]", REFUSED),
        (KEYED, "InstanceType: {Ref: Chosen}", OPEN),
        ("Tags: []", "InstanceType: ml.g6e.2xlarge", PASSED),
        (KEYED, "ServerlessConfig: {MaxConcurrency: 1, MemorySizeInMB: 2048}", ABSENT),
    ],
)
def test_a_volume_key_goes_with_ebs_alone(tmp_path: Path, key: str, variant: str, status: Status) -> None:
    assert verdict(tmp_path, 23, CONFIG.format(key=key, variant=variant)) is status


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        ("AWS::Events::ApiDestination, Properties: {InvocationEndpoint: http://hook.internal/x}", REFUSED),
        ("AWS::Events::ApiDestination, Properties: {InvocationEndpoint: https://hook.internal/x}", ABSENT),
        ("AWS::ApiGatewayV2::Integration, Properties: {IntegrationUri: http://wiki.internal}", REFUSED),
        (
            "AWS::S3::Bucket, Properties: {CorsConfiguration: {AllowedOrigins: [http://wiki.internal]}}",
            ABSENT,
        ),
        ("AWS::SNS::Topic, Properties: {DisplayName: http://wiki.internal}", ABSENT),
        ("AWS::ElastiCache::ReplicationGroup, Properties: {Engine: redis}", REFUSED),
        ("AWS::ElastiCache::ReplicationGroup, Properties: {TransitEncryptionEnabled: true}", PASSED),
    ],
)
def test_addresses_and_stores_of_any_resource_have_tls(tmp_path: Path, resource: str, status: Status) -> None:
    assert verdict(tmp_path, 22, f"R: {{Type: {resource}}}") is status


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("UPSTREAM", "redis://cache.internal", True),
        ("UPSTREAM", "rediss://cache.internal", False),
        ("UPSTREAM", "jdbc:postgresql://db.internal/x?sslmode=require", False),
        ("UPSTREAM", "jdbc:postgresql://db.internal/x?sslmode=prefer", True),
        ("UPSTREAM", "https://a.internal, http://b.internal", True),
        ("UPSTREAM", '{"a": [{"b": "ws://c.internal"}]}', True),
        ("UPSTREAM", "a sentence about http://c.internal", False),
        ("UPSTREAM", "http://[::1]:4318", False),
        ("SEARCH_TLS", "off", True),
        ("SEARCH_TLS", "self-signed", False),
        ("SEARCH_TLS_VERSION", "0", False),
        ("DISABLE_TLS", "off", False),
        ("DISABLE_TLS", "yes", True),
        ("PGSSLMODE", "verify-full", False),
    ],
)
def test_a_scheme_or_a_switch_makes_a_variable_plaintext(name: str, value: str, found: bool) -> None:
    assert bool(list(plaintext_in(name, value))) is found


@pytest.mark.parametrize(
    ("variable", "value", "status"),
    [
        ("SM_VLLM_TOKENIZER", "org/name", REFUSED),
        ("SM_VLLM_SPECULATIVE_CONFIG", """'{"model": "org/name"}'""", REFUSED),
        ("SM_VLLM_MODEL", "https://huggingface.co/org/name", REFUSED),
        ("SM_VLLM_SERVED_MODEL_NAME", "org/name", PASSED),
        ("SM_VLLM_TOKENIZER_MODE", "auto", PASSED),
        ("SM_VLLM_MAX_MODEL_LEN", "4096", PASSED),
        ("CONTENT_TYPE", "application/json", PASSED),
        ("TZ", "Europe/Berlin", PASSED),
    ],
)
def test_name_and_value_of_a_variable_show_what_it_loads(
    tmp_path: Path, variable: str, value: str, status: Status
) -> None:
    resources = MODEL.format(isolated="true", model="/opt/ml/model").replace(
        "{HF_MODEL_ID", f"{{{variable}: {value}, HF_MODEL_ID"
    )
    assert verdict(tmp_path, 13, resources) is status
