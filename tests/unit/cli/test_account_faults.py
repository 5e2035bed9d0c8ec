"""Faults planted in an account: the checks before a deployment name each, or say that it is unknown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest

from assistant.cli.aws.doctor import DeploymentChecks, checked
from assistant.tenant.deployed_names import ACCOUNT_STACK, ACCOUNT_VERSION
from assistant.tenant.deployment import ACCOUNT_TRAIL
from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import AccountChecks, AwsAccount, Finding
from tests.stage.tenant_files import committed_tenant
from tests.unit.cli.conftest import PlannedCalls

ROOT = Path(__file__).parents[3]
ACCOUNT, REGION = "123456789012", "us-east-1"
BUCKETS, TABLES = "arn:aws:s3:::assistant-", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/assistant-"
"""What the account's trail records of this tenant."""
CIDR = load_tenant(ROOT / "tests/tenants/pharmacy.toml").network.cidr
ASSETS = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
REPOSITORY = "private-care-assistant/orchestrator"
ZONES = [f"{REGION}{letter}" for letter in "abc"]
CERTIFICATE = {"DomainName": "assistant.pharmacy.northshop.net", "Status": "ISSUED"}
SYSTEM = "vpce-svc-0123456789abcdef0"
"""Endpoint service of the tenant's live system."""
RECORD = {"Name": "_a.northshop.net.", "Type": "CNAME", "Value": "_b.acm-validations.aws."}
WAITS = CERTIFICATE | {
    "Status": "PENDING_VALIDATION",
    "DomainValidationOptions": [{"ValidationStatus": "PENDING_VALIDATION", "ResourceRecord": RECORD}],
}
KEY = {"kty": "EC", "kid": "care"}
CARE_KEYS = "/assistant/pharmacy/care-jwks"
ANYONE = json.dumps({"Version": "2012-10-17", "Statement": []})


@cache
def client(service: str, region: str = REGION) -> Any:
    return boto3.client(service, region_name=region)  # pyright: ignore[reportCallIssue, reportArgumentType]


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def encrypt_assets(default: Mapping[str, str]) -> None:
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    client("s3").put_bucket_encryption(Bucket=ASSETS, ServerSideEncryptionConfiguration=rules)


def roles(managed: int, *, inline: int = 1) -> dict[str, Any]:
    """A role with a number of managed policies of its stack, one of AWS, and two inline policies that have
    about this number of characters each."""
    document = {"Version": "2012-10-17", "Statement": [{"Sid": "x" * inline}]}
    attached: dict[str, Any] = {"PolicyDocument": document, "Roles": [{"Ref": "Role"}]}
    own = resource("AWS::IAM::Role", ManagedPolicyArns=["arn:aws:iam::aws:policy/A"], Policies=[attached])
    policy = resource("AWS::IAM::ManagedPolicy", **attached)
    policies = {f"Managed{number}": policy for number in range(managed)}
    return {"Role": own, "Inline": resource("AWS::IAM::Policy", **attached), **policies}


def templates(image: str) -> dict[str, Any]:
    """What matters to the checks of a tenant with its own network, six tasks of 2 vCPU and two endpoints."""
    endpoints = {
        name: resource(
            "AWS::EC2::VPCEndpoint", ServiceName=f"com.amazonaws.{REGION}.{name}", VpcEndpointType="Interface"
        )
        for name in ("kms", "ssm", "sqs")
    }
    endpoints["orders"] = resource(
        "AWS::EC2::VPCEndpoint",
        ServiceName=f"com.amazonaws.vpce.{REGION}.{SYSTEM}",
        VpcEndpointType="Interface",
    )
    scaled = resource("AWS::ApplicationAutoScaling::ScalableTarget", ServiceNamespace="ecs", MaxCapacity=6)
    source = resource("AWS::Lambda::EventSourceMapping", ScalingConfig={"MaximumConcurrency": 18})
    domain = resource(
        "AWS::OpenSearchService::Domain",
        EngineVersion="OpenSearch_2.19",
        ClusterConfig={"InstanceType": "m7g.medium.search", "DedicatedMasterType": "m7g.large.search"},
        VPCOptions={"SubnetIds": ["a", "b", "c"]},
    )
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g4dn.xlarge"}
    return {
        "Network": {"Resources": {"Vpc": resource("AWS::EC2::VPC"), **endpoints}},
        "Data": {"Resources": {"Search": domain}},
        "Models": {
            "Resources": {"Llm": resource("AWS::SageMaker::EndpointConfig", ProductionVariants=[variant])}
        },
        "Ingestion": {"Resources": {"Source": source}},
        "Orchestrator": {
            "Resources": {
                "Task": resource("AWS::ECS::TaskDefinition", Cpu="2048", Image=image),
                "Scaled": scaled,
            }
        },
    }


class Account:
    """An account that has all that the tenant needs, until a fault is planted."""

    def __init__(self, planned: PlannedCalls, folder: Path) -> None:
        self.planned, self.folder = planned, folder
        self.quotas = {
            "ml.g4dn.xlarge for endpoint usage": 2.0,
            "ml.trn1.32xlarge for training job usage": 1.0,
            "VPCs per Region": 5.0,
            "Interface VPC endpoints per VPC": 50.0,
            "Fargate On-Demand vCPU resource count": 24.0,
        }
        self.search_zones = {"m7g.medium.search": ZONES, "m7g.large.search": ZONES}
        self.zones = dict.fromkeys(("kms", "ssm", "sqs", SYSTEM), ZONES)
        self.certificate: Mapping[str, Any] = CERTIFICATE
        self.functions = 1000
        self.pusher = "role/knowledge-owner-pharmacy"
        self.roles = roles(1)
        self.iam = {"Roles": 40, "RolesQuota": 1000, "Policies": 0, "PoliciesQuota": 1500}
        self.iam |= {"AttachedPoliciesPerRoleQuota": 10, "RolePolicySizeQuota": 10240}
        planned.answers |= {
            "ListServiceQuotas": self._listed_quotas,
            "ListAWSDefaultServiceQuotas": {"Quotas": []},
            "GetAccountSummary": lambda _: {"SummaryMap": self.iam},
            "GetAccountSettings": lambda _: {"AccountLimit": {"ConcurrentExecutions": self.functions}},
            "DescribeCertificate": lambda _: {"Certificate": self.certificate},
            "DescribeVpcEndpointServices": self._services,
            "ListInstanceTypeDetails": self._search_instances,
        }
        tags = [{"ResourceType": "vpc", "Tags": [{"Key": "tenant", "Value": "pharmacy"}]}]
        client("ec2").create_vpc(CidrBlock=CIDR, TagSpecifications=tags)  # the tenant's own
        subnet = client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
        client("elbv2").create_load_balancer(Name="any", Subnets=[subnet], Type="network")
        client("ssm").put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="21", Type="String")
        client("ssm").put_parameter(Name=CARE_KEYS, Value=json.dumps({"keys": [KEY]}), Type="String")
        client("s3").create_bucket(Bucket=ASSETS)
        encrypt_assets({"SSEAlgorithm": "AES256"})
        for role in ("artifact-publisher-pharmacy", "knowledge-owner-pharmacy"):
            client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=ANYONE)
        client("ecr").create_repository(repositoryName=REPOSITORY)
        manifest = json.dumps({"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []})
        put = {"repositoryName": REPOSITORY, "imageTag": "1", "imageManifest": manifest}
        digest = client("ecr").put_image(**put)["image"]["imageId"]["imageDigest"]
        self.image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{REPOSITORY}@{digest}"
        self.stage_of(ACCOUNT_VERSION)
        client("s3").create_bucket(Bucket="trails")
        self.trail_home: str | None = None
        self.trail_of(BUCKETS, TABLES)

    def trail_of(self, *stores: str, home: str = REGION) -> None:
        """Make the account's trail, which records the stores of these names; without any, no trail."""
        cloudtrail = client("cloudtrail", home)
        if self.trail_home:
            client("cloudtrail", self.trail_home).delete_trail(Name=ACCOUNT_TRAIL)
        self.trail_home = home if stores else None
        if not stores:
            return
        cloudtrail.create_trail(Name=ACCOUNT_TRAIL, S3BucketName="trails", IsMultiRegionTrail=True)
        fields = [{"Field": "eventCategory", "Equals": ["Data"]}, {"Field": "x", "StartsWith": [*stores]}]
        selectors = [{"Name": "Stores", "FieldSelectors": fields}]
        cloudtrail.put_event_selectors(TrailName=ACCOUNT_TRAIL, AdvancedEventSelectors=selectors)

    def stage_of(self, version: int | None) -> None:
        """Deploy the account stage of a version, or none."""
        client("cloudformation").delete_stack(StackName=ACCOUNT_STACK)
        if version is not None:
            outputs = {"Version": {"Value": str(version)}}
            body = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}, "Outputs": outputs}
            client("cloudformation").create_stack(StackName=ACCOUNT_STACK, TemplateBody=json.dumps(body))

    def _listed_quotas(self, given: Mapping[str, Any]) -> dict[str, Any]:
        del given
        listed = [
            {"QuotaName": name, "QuotaCode": "L-1", "Value": value} for name, value in self.quotas.items()
        ]
        return {"Quotas": listed}

    def _services(self, given: Mapping[str, Any]) -> dict[str, Any]:
        zones = self.zones[given["ServiceNames"][0].rpartition(".")[2]]
        found = {"ServiceName": given["ServiceNames"][0], "AvailabilityZones": zones}
        return {"ServiceDetails": [found] if zones else []}

    def _search_instances(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kind = given["InstanceType"]
        zones = self.search_zones.get(kind)
        listed = [] if zones is None else [{"InstanceType": kind, "AvailabilityZones": zones}]
        return {"InstanceTypeDetails": listed}

    def found(self, check: str) -> list[Finding]:
        """Return what one check finds."""
        text = (
            committed_tenant("pharmacy")
            .replace("111122223333", ACCOUNT)
            .replace("example.com", "northshop.net")
            .replace("role/knowledge-owner-pharmacy", self.pusher)
        )
        file = self.folder / "pharmacy.toml"
        file.write_text(text)
        tenant = load_tenant(file)
        assert tenant.deployment is not None
        artifacts = {"Pharmacy": {"properties": {"requiresBootstrapStackVersion": 6}}}
        (self.folder / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
        account = AccountChecks(
            aws=AwsAccount(account=ACCOUNT, region=REGION),
            tenant=tenant,
            place=tenant.deployment,
            tenant_file=file,
            templates={**templates(self.image), "Roles": {"Resources": self.roles}},
        )
        checks = DeploymentChecks(
            account=account, stage=self.folder, root=self.folder, configuration_of=lambda _: {}
        )
        return list(checked(check, checks.checks()[check]))


@pytest.fixture
def account(tmp_path: Path, planned_calls: PlannedCalls) -> Account:
    return Account(planned_calls, tmp_path)


# --- what is planted --------------------------------------------------------------------------------------
def another_tenants_endpoint(account: Account) -> None:
    sagemaker = client("sagemaker")
    variant = {"VariantName": "AllTraffic", "ModelName": "any", "InitialInstanceCount": 1}
    variant["InstanceType"] = "ml.g4dn.xlarge"
    sagemaker.create_model(ModelName="any", ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/any")
    sagemaker.create_endpoint_config(EndpointConfigName="clinic", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="clinic-llm", EndpointConfigName="clinic")


def networks(number: int) -> Callable[[Account], None]:
    def plant(account: Account) -> None:
        for each in range(number):
            client("ec2").create_vpc(CidrBlock=f"10.{200 + each}.0.0/16")

    return plant


def trails(account: Account) -> None:
    account.trail_of()
    for number in range(5):
        client("cloudtrail").create_trail(Name=f"company-{number}", S3BucketName="trails")


def another_tenants_tasks(account: Account) -> None:
    account.planned.answers |= {
        "ListClusters": {"clusterArns": [f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/assistant-clinic"]},
        "ListTasks": {"taskArns": ["one", "two"]},
        "DescribeTasks": {"tasks": [{"cpu": "1024"}, {"cpu": "512"}], "failures": []},
    }


def parameter(name: str, value: str | None) -> Callable[[Account], None]:
    def plant(account: Account) -> None:
        if value is None:
            client("ssm").delete_parameter(Name=name)
        else:
            client("ssm").put_parameter(Name=name, Value=value, Type="String", Overwrite=True)

    return plant


def without_role(name: str) -> Callable[[Account], None]:
    return lambda account: client("iam").delete_role(RoleName=name)


def user_as_pusher(account: Account) -> None:
    account.pusher = "user/people/knowledge-owner"


def without_balancer(account: Account) -> None:
    (balancer,) = client("elbv2").describe_load_balancers()["LoadBalancers"]
    client("elbv2").delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])


def same_addresses(account: Account) -> None:
    client("ec2").create_vpc(CidrBlock=CIDR)


def without_repository(account: Account) -> None:
    client("ecr").delete_repository(repositoryName=REPOSITORY, force=True)


def another_image(account: Account) -> None:
    account.image = account.image.rpartition(":")[0] + ":" + "d" * 64


def quota(name: str, value: float) -> Callable[[Account], None]:
    return lambda account: account.quotas.update({name: value})


def denied(operation: str) -> Callable[[Account], None]:
    return lambda account: account.planned.refused.update({operation: "AccessDeniedException"})


GPU, VPCS, VCPU = (
    "ml.g4dn.xlarge for endpoint usage",
    "VPCs per Region",
    "Fargate On-Demand vCPU resource count",
)
FAULTS: Mapping[str, list[tuple[str, Callable[[Account], Any], str]]] = {
    "fail": [
        (
            "bootstrap",
            parameter("/cdk-bootstrap/hnb659fds/version", None),
            f"not bootstrapped. Run: npx cdk bootstrap --app '' aws://{ACCOUNT}/{REGION} --qualifier h",
        ),
        ("bootstrap", parameter("/cdk-bootstrap/hnb659fds/version", "5"), "has version 5, 6 is needed"),
        ("account stage", lambda a: a.stage_of(None), "-c stage=account -c tenant=pharmacy"),
        ("account stage", lambda a: a.stage_of(ACCOUNT_VERSION - 1), f"this release needs {ACCOUNT_VERSION}"),
        ("trails", trails, "has 5 trails (company-0"),
        (
            "trails",
            lambda a: a.trail_of(BUCKETS, "x-", "y-"),
            f"with 4 of 500 values, does not record …:dynamodb:{REGION}:{ACCOUNT}:table/assistant-*: reads",
        ),
        ("trails", lambda a: a.trail_of(TABLES, home="eu-west-1"), "does not record …:s3:::assistant-*"),
        ("trails", lambda a: a.trail_of(*map(str, range(498))), "with 499 of 500 values, does not"),
        ("IAM", lambda a: a.iam.update(Roles=1000), "takes 1000 roles; others use 1000, and"),
        ("IAM", lambda a: a.iam.update(Policies=1500), "takes 1500 policies; others use 1500"),
        ("IAM", lambda a: a.roles.update(roles(10)), "role Role has 11 managed policies, and IAM"),
        (
            "IAM",
            lambda a: a.roles.update(roles(1, inline=5100)),
            "role Role has some 10298 characters inline",
        ),
        (
            "search instances",
            lambda a: a.search_zones.update({"m7g.medium.search": ZONES[:2]}),
            f"in {ZONES[2]}:",
        ),
        ("search instances", lambda a: a.search_zones.pop("m7g.large.search"), "no m7g.large.search in"),
        ("zones", lambda a: a.zones.update({"kms": ZONES[:2]}), f"kms is not in {ZONES[2]}"),
        (
            "zones",
            lambda a: a.zones.update({each: [*ZONES[:2], f"{REGION}d"] for each in a.zones}),
            'zones = ["us-east-1a", "us-east-1b", "us-east-1d"]',
        ),
        (
            "zones",
            lambda a: a.zones.update({"kms": ZONES[:2], "sqs": ZONES[1:]}),
            "All services together are in us-east-1b: another region.",
        ),
        (
            "zones",
            lambda a: a.zones.update({SYSTEM: []}),
            "reach.0.service_name: com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0 is not offered",
        ),
        ("zones", lambda a: a.zones.update({"sqs": []}), f"sqs is not offered in {REGION}"),
        (
            "certificate",
            lambda a: setattr(a, "certificate", WAITS),
            "it is PENDING_VALIDATION. Put this record into the domain's public zone, and wait until it is "
            "ISSUED: _a.northshop.net. CNAME _b.acm-validations.aws.",
        ),
        (
            "certificate",
            lambda a: a.planned.refused.update({"DescribeCertificate": "ResourceNotFoundException"}),
            "edge.certificate_arn: there is no such certificate",
        ),
        (
            "certificate",
            lambda a: setattr(a, "certificate", CERTIFICATE | {"DomainName": "x.net"}),
            "for x.net",
        ),
        ("roles", without_role("artifact-publisher-pharmacy"), "there is no role artifact"),
        ("roles", without_role("knowledge-owner-pharmacy"), "deployment.pushers.procedures.0: there"),
        ("roles", user_as_pusher, "there is no user knowledge-owner, and IAM trusts none"),
        (
            "care keys",
            parameter(CARE_KEYS, json.dumps({"keys": [KEY, KEY | {"d": "secret"}]})),
            "holds a private key",
        ),
        ("images", without_repository, f"no repository {REPOSITORY}"),
        ("images", another_image, f": make images TO={ACCOUNT}/{REGION}"),
    ],
    "warn": [
        ("instances", quota(GPU, 1), f"quota {GPU}: 1, and 2 are wanted"),
        ("instances", another_tenants_endpoint, f"{GPU}: 2, others of the account use 1, and 2 are wanted"),
        ("instances", quota("ml.trn1.32xlarge for training job usage", 0), "(to compile qwen3-8b"),
        ("functions at once", lambda a: setattr(a, "functions", 10), "--desired-value 1000"),
        ("VPCs", networks(4), f"{VPCS}: 5, others of the account use 5, and 1 are"),
        ("interface endpoints", quota("Interface VPC endpoints per VPC", 2), "per VPC: 2, and 4 are wanted"),
        ("Fargate", quota(VCPU, 6), f"{VCPU}: 6, and 24 are wanted"),
        ("Fargate", another_tenants_tasks, "others of the account use 1.5"),
        ("care keys", parameter(CARE_KEYS, None), f"The parameter {CARE_KEYS} is missing. Until it"),
        ("care keys", parameter(CARE_KEYS, '{"keys": {}}'), "holds no key set"),
        ("network", same_addresses, "overlaps"),
    ],
    "unknown": [
        ("IAM", denied("GetAccountSummary"), "get_account_summary"),
        ("load balancers", without_balancer, f"Load Balancers for account {ACCOUNT}"),
        ("VPCs", denied("ListServiceQuotas"), "list_service_quotas"),
        ("trails", denied("DescribeTrails"), "describe_trails"),
        ("trails", denied("GetEventSelectors"), "get_event_selectors"),
    ],
}
"""By the kind of their finding: the check, the fault, and a part of what the finding says."""


@pytest.mark.parametrize(
    ("kind", "check", "plant", "said"),
    [(kind, *fault) for kind, faults in FAULTS.items() for fault in faults],
)
def test_a_planted_fault_is_named_or_unknown_and_without_it_the_check_passes(
    account: Account, kind: str, check: str, plant: Callable[[Account], Any], said: str
) -> None:
    assert [each.kind for each in account.found(check)] == ["pass"]
    plant(account)
    told = account.found(check)
    assert {each.kind for each in told} == {kind}
    assert any(said in each.said for each in told), told


@pytest.mark.parametrize(
    "names",
    [{"DomainName": "*.pharmacy.northshop.net"}, {"SubjectAlternativeNames": [CERTIFICATE["DomainName"]]}],
)
def test_a_certificate_with_the_name_among_others_fits(account: Account, names: Mapping[str, Any]) -> None:
    account.certificate = {**CERTIFICATE, "DomainName": "x.net", **names}
    assert [each.kind for each in account.found("certificate")] == ["pass"]


def test_iam_s_room_is_told_and_a_tenant_that_stands_is_not_counted_twice(account: Account) -> None:
    account.iam |= {"Roles": 997}
    (told,) = account.found("IAM")
    assert told.said == "At least 2 more tenants of this size fit the account's IAM."
    role = resource("AWS::IAM::Role", AssumeRolePolicyDocument=ANYONE)
    body = json.dumps({"Resources": {"Role": role}})
    client("cloudformation").create_stack(StackName="Roles", TemplateBody=body)
    account.iam |= {"Roles": 1000}
    assert [each.kind for each in account.found("IAM")] == ["pass"]


def test_a_user_of_iam_may_push(account: Account) -> None:
    user_as_pusher(account)
    client("iam").create_user(UserName="knowledge-owner", Path="/people/")
    client("iam").delete_role(RoleName="knowledge-owner-pharmacy")
    assert [each.kind for each in account.found("roles")] == ["pass"]
