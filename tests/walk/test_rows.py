"""Each row of what only an account or a chip shows, with answers of AWS by which it ends with 0, and with one
by which it ends with 1. They are serialized by botocore's shapes, and AWS's own command line reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assistant.cli.aws.proving import FILE, Proofs, Proving
from assistant.tenant.tenant import load_tenant
from assistant.tenant.toml_file import read_strict
from assistant.terminal.account import Deployed
from assistant.terminal.terminal import Terminal
from tests.fakes.planned_account import DeniedError, PlannedAccount, planned_account
from tests.stacks.synthesized import ROOT

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.timeout(300),
    # AccessDenied is an error of all services, and in the model of few.
    pytest.mark.filterwarnings("ignore:.*does not match an error shape"),
]
PROOFS = read_strict(FILE, Proofs)
ARN = "arn:aws:{}:us-east-1:111122223333:{}"
ENDPOINT = ARN.format("sagemaker", "endpoint/sandbox-embedding")
Answers = Mapping[str, Any]
RESOURCES = {
    "ServiceD69D759B": ("ECS::Service", ARN.format("ecs", "service/assistant-sandbox/service")),
    "Tasks": ("ElasticLoadBalancingV2::TargetGroup", ARN.format("elasticloadbalancing", "targetgroup/a/1")),
    "TlsFrontTargets": (
        "ElasticLoadBalancingV2::TargetGroup",
        ARN.format("elasticloadbalancing", "targetgroup/b/2"),
    ),
    "EmbeddingServingEndpoint5C7131D2": ("SageMaker::Endpoint", ENDPOINT),
    "DocumentsParseFunctionAD14080E": ("Lambda::Function", "parse"),
    "DocumentsParseLogs6734080B": ("Logs::LogGroup", "parse-logs"),
    "Logs6819BB44": ("Logs::LogGroup", "orchestrator-logs"),
    "DataKey": ("KMS::Key", "0a1b2c3d-0000-4000-8000-000000000000"),
    **{f"Alarms{name}0A1B2C3D": ("CloudWatch::Alarm", name) for name in ("KeyRefused", "StrangerRead")},
    **{f"Alarms{name}0A1B2C3D": ("CloudWatch::Alarm", name) for name in ("SearchKeyLost", "TrustChanged")},
    "AuditEvents9148872F": ("Logs::LogGroup", "audit-events"),
    "SetsLogs141FE268": ("Logs::LogGroup", "sets-logs"),
    "ParseRole4B381E5D": ("IAM::Role", "parse"),
    "DocumentsInboxReceivedD189FF5B": ("Events::Rule", "inbox-received"),
    "RecoveryVault": ("Backup::BackupVault", "recovery-1"),
    **{f"{name}Bucket": ("S3::Bucket", name.lower()) for name in ("Documents", "Labels", "Capture")},
}
OUTPUTS = {
    "EndpointServiceName": "com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718",
    "EndpointId": "vpce-0a1b2c3d4e5f60718",
    "ProbeKeyId": "0a1b2c3d-0000-4000-8000-000000000001",
    "ProbeFunctionName": "probe",
}
STABLE = {
    "services": [
        {"status": "ACTIVE", "deployments": [{"id": "1"}], "runningCount": 2, "desiredCount": 2, "events": []}
    ]
}
PUBLIC = ec.generate_private_key(ec.SECP256R1()).public_key()
WORKING = {"StatusCode": 200, "Payload": b'{"outcome": "working"}'}
FAILED = {"StatusCode": 200, "Payload": b'{"outcome": "failed"}'}
DENIED = DeniedError()


def listed(_: Any) -> Any:
    return {
        "StackResourceSummaries": [
            {
                "LogicalResourceId": name,
                "ResourceType": f"AWS::{kind}",
                "PhysicalResourceId": id_,
                "LastUpdatedTimestamp": 0,
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for name, (kind, id_) in RESOURCES.items()
        ]
    }


def stacks(*, value: str = "second", status: str = "CREATE_COMPLETE", qualifier: str = "sandbox") -> Any:
    outputs = [{"OutputKey": key, "OutputValue": one} for key, one in {**OUTPUTS, "Value": value}.items()]
    parameters = [{"ParameterKey": "BootstrapVersion", "ParameterValue": "/cdk-bootstrap/version"}]
    stack = {"StackName": "assistant-sandbox-Keys", "CreationTime": 0, "StackStatus": status}
    role = f"arn:aws:iam::111122223333:role/cdk-{qualifier}-cfn-exec-role-111122223333-us-east-1"
    return {"Stacks": [{**stack, "Outputs": outputs, "Parameters": parameters, "RoleARN": role}]}


def standing(value: str) -> Answers:
    """A stack's status follows what was last asked for."""
    status = ["CREATE_COMPLETE"]

    def update(_: Any) -> Any:
        status[0] = "UPDATE_COMPLETE"
        return {"StackId": "1"}

    def create(_: Any) -> Any:
        status[0] = "CREATE_COMPLETE"
        return {"StackId": "1"}

    return {
        "cloudformation:CreateStack": create,
        "cloudformation:UpdateStack": update,
        "cloudformation:DeleteStack": {},
        "cloudformation:DescribeStacks": lambda _: stacks(value=value, status=status[0]),
    }


def change_set(replacement: str) -> Answers:
    change = {"LogicalResourceId": "Table", "Replacement": replacement}
    return {
        "cloudformation:CreateChangeSet": {"Id": "1"},
        "cloudformation:DescribeChangeSet": {
            "Status": "CREATE_COMPLETE",
            "Changes": [{"Type": "Resource", "ResourceChange": change}],
        },
        "cloudformation:DeleteChangeSet": {},
    }


def fleet(*, comes_back: bool) -> Answers:
    config = ["of-the-stack"]

    def update(given: Any) -> Any:
        if not comes_back:
            config[0] = given["EndpointConfigName"]
        return {"EndpointArn": ENDPOINT}

    variant = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.c7i.xlarge"}
    container = {"Image": "tei", "Environment": {"HF_MODEL_ID": "/opt/ml/model"}}
    return {
        "sagemaker:DescribeEndpoint": lambda _: {
            "EndpointName": "sandbox-embedding",
            "EndpointArn": ENDPOINT,
            "EndpointStatus": "InService",
            "EndpointConfigName": config[0],
            "CreationTime": 0,
            "LastModifiedTime": 0,
        },
        "sagemaker:DescribeEndpointConfig": {
            "EndpointConfigName": config[0],
            "EndpointConfigArn": ENDPOINT,
            "CreationTime": 0,
            "ProductionVariants": [variant],
        },
        "sagemaker:DescribeModel": {
            "ModelName": "m",
            "ModelArn": ENDPOINT,
            "CreationTime": 0,
            "PrimaryContainer": container,
            "ExecutionRoleArn": "arn:aws:iam::111122223333:role/models",
        },
        "sagemaker:CreateModel": {"ModelArn": ENDPOINT},
        "sagemaker:CreateEndpointConfig": {"EndpointConfigArn": ENDPOINT},
        "sagemaker:UpdateEndpoint": update,
        "sagemaker:DeleteEndpointConfig": {},
        "sagemaker:DeleteModel": {},
    }


def growing(by: int) -> Callable[[Any], Any]:
    count = [1]

    def answer(_: Any) -> Any:
        count[0] += by
        return {"Contents": [{"Key": f"events/{number}"} for number in range(count[0])]}

    return answer


def trails(**status: Any) -> Answers:
    trail = {"Name": "assistant-account", "TrailARN": ARN.format("cloudtrail", "trail/assistant-account")}
    return {
        "cloudtrail:DescribeTrails": {"trailList": [trail, {"Name": "company", "TrailARN": "x"}]},
        "cloudtrail:GetTrailStatus": {"IsLogging": True, "LatestDeliveryTime": 1, **status},
        "logs:FilterLogEvents": {"events": [{"message": "{}"}]},
    }


def alarms(state: str) -> Answers:
    return {"monitoring:DescribeAlarms": {"MetricAlarms": [{"StateValue": state}]}}


def simulated(decision: str) -> Answers:
    result = {"EvalActionName": "as asked", "EvalDecision": decision}
    return {"iam:SimulatePrincipalPolicy": {"EvaluationResults": [result]}}


def copied(vault: str) -> Answers:
    source = ARN.format("backup", f"backup-vault:{vault}")
    jobs = [{"ResourceType": kind, "SourceBackupVaultArn": source} for kind in ("DynamoDB", "S3")]
    return {"backup:ListCopyJobs": {"CopyJobs": jobs}}


def job(status: str) -> Answers:
    return {"sagemaker:DescribeTrainingJob": {"TrainingJobStatus": status, "TrainingTimeInSeconds": 900}}


def doctor(check: str, kind: str) -> str:
    return json.dumps([{"check": "zones", "kind": "pass"}, {"check": check, "kind": kind}])


@dataclass(frozen=True)
class Case:
    """What makes a row hold, and a fault that takes the place of some of it."""

    holds: Answers = field(default_factory=dict[str, Any])
    fault: Answers = field(default_factory=dict[str, Any])
    said: str = ""
    """What our own commands print."""
    said_by_fault: str | None = None
    """None: as before; "1": they end with 1."""
    region: str = "us-east-1"


INVOKED: Answers = {"lambda:Invoke": WORKING}
ONES = "1"
CASES: Mapping[str, Case] = {
    "endpoint-policies": Case(
        {"ec2:DescribeVpcEndpointServices": {"ServiceDetails": [{"VpcEndpointPolicySupported": True}]}},
        {"ec2:DescribeVpcEndpointServices": {"ServiceDetails": [{"VpcEndpointPolicySupported": False}]}},
    ),
    "stacks": Case(said_by_fault=ONES),
    "pulls": Case(
        {"ecs:DescribeServices": STABLE}, {"ecs:DescribeServices": {"services": [{"status": "INACTIVE"}]}}
    ),
    "targets": Case(
        {
            "elasticloadbalancing:DescribeTargetHealth": {
                "TargetHealthDescriptions": [{"TargetHealth": {"State": "healthy"}}]
            }
        },
        {
            "elasticloadbalancing:DescribeTargetHealth": {
                "TargetHealthDescriptions": [{"TargetHealth": {"State": "unhealthy"}}]
            }
        },
    ),
    "instance": Case(said_by_fault=ONES),
    "care": Case(
        {"ec2:DescribeVpcEndpoints": {"VpcEndpoints": [{"DnsEntries": [{"DnsName": "vpce.example"}]}]}},
        {"ec2:DescribeVpcEndpoints": {"VpcEndpoints": [{"DnsEntries": []}]}},
    ),
    "answer": Case(
        {
            "ec2:AcceptVpcEndpointConnections": {"Unsuccessful": []},
            "kms:GetPublicKey": {
                "PublicKey": PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            },
            "ssm:GetParameter": {"Parameter": {"Value": '{"keys": [{"kid": "probe"}, {"kid": "issuer"}]}'}},
            "ssm:PutParameter": {"Version": 2},
            **INVOKED,
        },
        {"lambda:Invoke": FAILED},
    ),
    "bedrock": Case(said=doctor("sentence check", "warn"), said_by_fault=doctor("sentence check", "unknown")),
    "replacements": Case(change_set("False"), change_set("True")),
    "follows": Case(standing("second"), standing("first")),
    "parser": Case(
        {
            "lambda:GetFunctionConfiguration": {
                "Role": "arn:aws:iam::111122223333:role/parse",
                "FunctionArn": "arn:parse",
            },
            "logs:DescribeLogStreams": {"logStreams": [{"logStreamName": "one"}]},
            **simulated("explicitDeny"),
        },
        simulated("implicitDeny"),
    ),
    "streams-end": Case(
        {"ecs:UpdateService": {"service": {"deployments": []}}, "ecs:DescribeServices": STABLE, **INVOKED},
        {"lambda:Invoke": FAILED},
    ),
    "stranger": Case(
        {
            "kms:Encrypt": DENIED,
            "s3:GetObject": DENIED,
            **alarms("ALARM"),
        },
        {"kms:Encrypt": {"CiphertextBlob": b"x"}},
    ),
    "trail": Case(trails(), trails(LatestDeliveryError="AccessDenied")),
    "key-grants": Case(
        {
            "kms:ListGrants": {"Grants": [{"GrantId": "1"}]},
            "monitoring:GetMetricStatistics": {"Datapoints": []},
            **alarms("OK"),
        },
        {"monitoring:GetMetricStatistics": {"Datapoints": [{"Sum": 3.0}]}},
    ),
    "old-fleet": Case(fleet(comes_back=True), fleet(comes_back=False)),
    "hipaa-stores": Case(
        {
            "cloudformation:DescribeStacks": {"Stacks": []},
            "ec2:DescribeAvailabilityZones": {
                "AvailabilityZones": [{"ZoneName": f"us-east-1{letter}"} for letter in "abcd"]
            },
        },
        {"cloudformation:DescribeStacks": stacks()},
    ),
    "hipaa": Case(
        {"backup:DescribeBackupVault": {"Locked": True}}, {"backup:DescribeBackupVault": {"Locked": False}}
    ),
    "recovery-points": Case(
        {
            "backup:ListBackupJobs": lambda given: {
                "BackupJobs": [{"ResourceType": kind} for kind in ("DynamoDB", "S3", "S3")]
                if given["ByState"] == "COMPLETED"
                else []
            },
            "monitoring:ListMetrics": {"Metrics": [{"MetricName": "NumberOfBackupJobsCompleted"}]},
        },
        {"backup:ListBackupJobs": {"BackupJobs": [{"ResourceType": "DynamoDB"}]}},
    ),
    "recovery-copies": Case(copied("recovery-1"), copied("of-another-tenant")),
    "identities": Case(
        {"iam:TagRole": {}, "iam:UntagRole": {}, **alarms("ALARM")}, alarms("OK"), region="eu-west-1"
    ),
    "bootstrap": Case(
        {"cloudformation:DescribeStacks": stacks(qualifier="sandbox"), **simulated("explicitDeny")},
        {"cloudformation:DescribeStacks": stacks(qualifier="hnb659fds")},
    ),
    "training-sets": Case(
        {"logs:DescribeLogStreams": {"logStreams": [{"logStreamName": "sets/1"}]}},
        {"logs:DescribeLogStreams": {"logStreams": []}},
    ),
    "long-stream": Case(
        {
            "logs:StartQuery": {"queryId": "q"},
            "logs:GetQueryResults": {"results": [[{"field": "took_ms", "value": "101000"}]]},
        },
        {"logs:GetQueryResults": {"results": []}},
    ),
    "signal": Case(
        {"s3:ListObjectsV2": growing(1)}, {"s3:ListObjectsV2": growing(0)}, said='{"answer_id": "a"}'
    ),
    "locked-label": Case(
        {
            "s3:ListObjectVersions": {"Versions": [{"Key": "events/1", "VersionId": "v"}]},
            "s3:DeleteObject": DENIED,
        },
        {"s3:DeleteObject": {}},
    ),
    "signatures": Case(
        said=doctor("image signatures", "pass"), said_by_fault=doctor("image signatures", "warn")
    ),
    "paused-cost": Case(
        {
            "ce:GetCostAndUsage": {
                "ResultsByTime": [{"Total": {"UnblendedCost": {"Amount": "12.5", "Unit": "USD"}}}]
            }
        },
        {
            "ce:GetCostAndUsage": {
                "ResultsByTime": [{"Total": {"UnblendedCost": {"Amount": "25.0", "Unit": "USD"}}}]
            }
        },
        said=json.dumps({"tenants": {"sandbox": {"usd_a_month": {"paused": 385.0}}}}),
    ),
    "starts-on-chip": Case(said_by_fault=ONES),
    "compiles": Case(job("Completed"), job("Failed")),
    "first-token": Case(
        {"monitoring:GetMetricStatistics": {"Datapoints": [{"ExtendedStatistics": {"p50": 900.0}}]}},
        {"monitoring:GetMetricStatistics": {"Datapoints": []}},
    ),
    "training-mounts": Case(job("Completed"), job("Failed")),
    "captures": Case({"s3:ListObjectsV2": {"Contents": [{"Key": "llm/1"}]}}, {"s3:ListObjectsV2": {}}),
    "client-leaves": Case(
        {"logs:FilterLogEvents": {"events": [{"message": "Aborted request"}]}},
        {"logs:FilterLogEvents": {"events": []}},
    ),
}


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlannedAccount]:
    """A clone with stand-ins for our commands and the CDK, and an account of planned answers."""
    for name in ("assistant", "npx", "curl"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\necho "${{0##*/}} $*" >> "{tmp_path}/called"\ncat "{tmp_path}/said"\n'
            f'grep -qvx 1 "{tmp_path}/said" || ! [ -s "{tmp_path}/said" ]\n'
        )
        program.chmod(0o755)
    (tmp_path / "care_app").mkdir()
    (tmp_path / "care_app/sandbox.toml").write_text('service_name = "made-up"\n')
    templates = tmp_path / "build/deploy/sandbox/assembly-Sandbox"
    templates.mkdir(parents=True)
    endpoint = {
        "VpcEndpointType": "Interface",
        "PolicyDocument": {},
        "ServiceName": "com.amazonaws.us-east-1.kms",
    }
    (templates / "SandboxNetwork1.template.json").write_text(
        json.dumps({"Resources": {"Kms": {"Properties": endpoint}}})
    )
    monkeypatch.chdir(tmp_path)
    named = {"PATH": f"{tmp_path}/bin:{ROOT}/build/awscli/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    named |= {"POLL_S": "0.2", "MINUTE_S": "0", "JOB": "job", "SERVICE": "https://x", "AWS_MAX_ATTEMPTS": "1"}
    named |= {"AWS_ACCESS_KEY_ID": "planned", "AWS_SECRET_ACCESS_KEY": "planned"}
    named |= {"ASSISTANT_LOCAL_SERVICE_TOKEN": "token"}
    with planned_account("http://127.0.0.1:9") as (application, url):
        for name, value in (named | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(name, value)
        yield application


def ends(
    account: PlannedAccount, name: str, answers: Answers, *, said: str = "", region: str = "us-east-1"
) -> bool:
    """Return whether a row holds with these answers, and with what our commands print."""
    Path("said").write_text(said)
    all_answers = {
        "cloudformation:ListStackResources": listed,
        "cloudformation:DescribeStacks": stacks(),
        **answers,
    }
    account.answers = {
        operation: answer if callable(answer) else lambda _, answer=answer: answer
        for operation, answer in all_answers.items()
    }
    file = ROOT / "tests/tenants/sandbox.toml"
    deployed = Deployed.of(load_tenant(file), file)
    deployed = replace(deployed, place=deployed.place.model_copy(update={"region": region}))
    (row,) = [each for each in PROOFS.row if each.name == name]
    return Proving(deployed, file.parent, PROOFS, Terminal()).holds(row)


def test_each_row_has_a_case() -> None:
    assert list(CASES) == [row.name for row in PROOFS.row]


@pytest.mark.parametrize("name", CASES)
def test_a_row_ends_with_0_and_with_1(account: PlannedAccount, name: str) -> None:
    case = CASES[name]
    assert ends(account, name, case.holds, said=case.said, region=case.region)
    said = case.said if case.said_by_fault is None else case.said_by_fault
    assert not ends(account, name, {**case.holds, **case.fault}, said=said, region=case.region)


def test_stores_of_hipaa_are_made_by_a_copy_of_the_file_and_destroyed(account: PlannedAccount) -> None:
    assert ends(account, "hipaa-stores", CASES["hipaa-stores"].holds)
    place = load_tenant(Path("build/proofs/hipaa/sandbox.toml")).deployment
    assert place
    assert (place.profile, len(place.zones)) == ("hipaa", 3)
    deploys, destroys = Path("called").read_text().splitlines()
    assert deploys.startswith("npx cdk deploy -c tenants=build/proofs/hipaa -c tenant=sandbox ")
    assert destroys == "assistant --tenants build/proofs/hipaa aws destroy --tenant sandbox"


def test_stores_of_hipaa_take_no_tenant_away_that_stands(account: PlannedAccount) -> None:
    assert not ends(account, "hipaa-stores", {**CASES["hipaa-stores"].holds, **CASES["hipaa-stores"].fault})
    assert not Path("called").exists()


def test_changes_of_identities_are_no_proof_in_the_region_of_iam(account: PlannedAccount) -> None:
    assert not ends(account, "identities", CASES["identities"].holds)
