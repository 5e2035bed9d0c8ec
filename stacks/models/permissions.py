"""Permissions of the role by which SageMaker runs one endpoint: its artifact, its image, its log, its
captures.

"CreateModel API: Execution Role Permissions", SageMaker AI guide. The container itself, isolated from the
network, has no credentials: the platform uses these permissions.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.outputs import DataOutputs, KeysOutputs, NetworkOutputs, Workload
from stacks.processes import PULL_IMAGE, image_repository_arn
from stacks.roles import allow, bucket_arn, interface_statements, via_s3
from stacks.tenant import DeployedTenant


def serving_statements(
    scope: Construct, *, tenant: DeployedTenant, image: str, log_group_arn: str, network: NetworkOutputs
) -> list[iam.PolicyStatement]:
    """Let SageMaker pull the image, write log lines and metrics, and create interfaces in the tenant's
    subnets."""
    own_metrics = {"StringEquals": {"cloudwatch:namespace": "/aws/sagemaker/Endpoints"}}
    return [
        # Both actions support no resources (Service Authorization Reference).
        allow("ecr:GetAuthorizationToken", "*"),
        allow("cloudwatch:PutMetricData", "*", conditions=own_metrics),
        allow(PULL_IMAGE, image_repository_arn(scope, tenant, image)),
        allow(("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"), log_group_arn),
        *interface_statements(scope, network=network, workload=Workload.MODELS),
    ]


def artifact_statements(
    scope: Construct, *, bucket: str, prefix: str, files: Sequence[str], key_arn: str
) -> list[iam.PolicyStatement]:
    """Let SageMaker read one artifact, file by file: only the files of its manifest."""
    arn = bucket_arn(scope, bucket)
    return [
        allow("s3:GetObject", *(f"{arn}/{prefix}{name}" for name in files)),
        allow("s3:ListBucket", arn, conditions={"StringLike": {"s3:prefix": f"{prefix}*"}}),
        allow("kms:Decrypt", key_arn, conditions=via_s3(scope)),
    ]


def capture_statements(
    scope: Construct, *, bucket: str, prefix: str, keys: KeysOutputs
) -> list[iam.PolicyStatement]:
    """Let SageMaker put captured calls, and read none."""
    return [
        allow("s3:PutObject", f"{bucket_arn(scope, bucket)}/{prefix}*"),
        allow("kms:GenerateDataKey", keys.capture_key_arn, conditions=via_s3(scope)),
    ]


def capture_bucket(tenant: DeployedTenant, data: DataOutputs) -> str | None:
    """Return where captured calls go: to be redacted, or kept raw; None where nothing is captured."""
    buckets = {"quarantine": data.quarantine_bucket, "direct": data.capture_bucket, "off": None}
    return buckets[tenant.models.capture]
