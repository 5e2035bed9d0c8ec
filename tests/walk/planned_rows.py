"""Answers of an account by which each row of `assistant aws prove` holds, and by which it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assistant.cli.aws.proving import FILE, Proofs
from assistant.tenant.toml_file import read_strict
from tests.stage.aws_calls import DeniedError

PROOFS = read_strict(FILE, Proofs)


ARN = "arn:aws:{}:us-east-1:111122223333:{}"


ENDPOINT = ARN.format("sagemaker", "endpoint/sandbox-embedding")


Answers = Mapping[str, Any]


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


def health(state: str) -> Answers:
    return {"TargetHealthDescriptions": [{"TargetHealth": {"State": state}}]}


def cost(usd: str) -> Answers:
    return {"ResultsByTime": [{"Total": {"UnblendedCost": {"Amount": usd, "Unit": "USD"}}}]}


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


def either(operation: str, holds: Any, fault: Any, **said: Any) -> Case:
    """Return a row's case in which one operation answers by what holds, or by the fault."""
    return Case({operation: holds}, {operation: fault}, **said)


INVOKED: Answers = {"lambda:Invoke": WORKING}


ONES = "1"


CASES: Mapping[str, Case] = {
    "endpoint-policies": either(
        "ec2:DescribeVpcEndpointServices",
        {"ServiceDetails": [{"VpcEndpointPolicySupported": True}]},
        {"ServiceDetails": [{"VpcEndpointPolicySupported": False}]},
    ),
    "stacks": Case(said_by_fault=ONES),
    "pulls": either("ecs:DescribeServices", STABLE, {"services": [{"status": "INACTIVE"}]}),
    "targets": either("elasticloadbalancing:DescribeTargetHealth", health("healthy"), health("unhealthy")),
    "instance": Case(said_by_fault=ONES),
    "care": either(
        "ec2:DescribeVpcEndpoints",
        {"VpcEndpoints": [{"DnsEntries": [{"DnsName": "vpce.example"}]}]},
        {"VpcEndpoints": [{"DnsEntries": []}]},
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
    "hipaa": either("backup:DescribeBackupVault", {"Locked": True}, {"Locked": False}),
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
    "training-sets": either(
        "logs:DescribeLogStreams", {"logStreams": [{"logStreamName": "sets/1"}]}, {"logStreams": []}
    ),
    "long-stream": Case(
        {
            "logs:StartQuery": {"queryId": "q"},
            "logs:GetQueryResults": {"results": [[{"field": "took_ms", "value": "101000"}]]},
        },
        {"logs:GetQueryResults": {"results": []}},
    ),
    "signal": either("s3:ListObjectsV2", growing(1), growing(0), said='{"answer_id": "a"}'),
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
    "paused-cost": either(
        "ce:GetCostAndUsage",
        cost("12.5"),
        cost("25.0"),
        said=json.dumps({"tenants": {"sandbox": {"usd_a_month": {"paused": 385.0}}}}),
    ),
    "starts-on-chip": Case(said_by_fault=ONES),
    "compiles": Case(job("Completed"), job("Failed")),
    "first-token": either(
        "monitoring:GetMetricStatistics",
        {"Datapoints": [{"ExtendedStatistics": {"p50": 900.0}}]},
        {"Datapoints": []},
    ),
    "training-mounts": Case(job("Completed"), job("Failed")),
    "captures": either("s3:ListObjectsV2", {"Contents": [{"Key": "llm/1"}]}, {}),
    "client-leaves": either(
        "logs:FilterLogEvents", {"events": [{"message": "Aborted request"}]}, {"events": []}
    ),
}
