"""The role by which SageMaker runs one endpoint: its own artifact, its own image, its own log lines."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.outputs import DataOutputs, KeysOutputs, NetworkOutputs, Workload
from stacks.processes import image_repository_arn
from stacks.roles import WorkloadRole, interface_statements
from stacks.tenant import DeployedTenant


class ModelRole(WorkloadRole):
    """Execution role of a model ("CreateModel API: Execution Role Permissions", SageMaker AI guide).

    The container itself, isolated from the network, has no credentials: these rights are the platform's.
    ``policy`` must be there before a model is made that uses the role.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint_name: str,
        statements: Sequence[iam.PolicyStatement],
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            assumed_by="sagemaker.amazonaws.com",
            description=f"Runs the containers of the endpoint {endpoint_name}",
        )
        self.policy = iam.ManagedPolicy(
            self,
            "Rights",
            description=f"What the endpoint {endpoint_name} reads and writes",
            statements=list(statements),
        )
        self.add_managed_policy(self.policy)


def serving_statements(
    scope: Construct,
    *,
    tenant: DeployedTenant,
    image: str,
    log_group_arn: str,
    network: NetworkOutputs,
) -> list[iam.PolicyStatement]:
    """Return what any endpoint needs: image, log lines, metrics, and interfaces in the tenant's subnets."""
    return [
        # Both actions know no resources (Service Authorization Reference).
        iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"]),
        iam.PolicyStatement(
            actions=["cloudwatch:PutMetricData"],
            resources=["*"],
            conditions={"StringEquals": {"cloudwatch:namespace": "/aws/sagemaker/Endpoints"}},
        ),
        iam.PolicyStatement(
            actions=["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            resources=[image_repository_arn(scope, tenant, image)],
        ),
        iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            resources=[log_group_arn],
        ),
        *interface_statements(scope, network=network, workload=Workload.MODELS),
    ]


def artifact_statements(
    scope: Construct, *, bucket: str, prefix: str, files: Sequence[str], key_arn: str
) -> list[iam.PolicyStatement]:
    """Return the right to read one artifact, file by file: what its manifest does not name is not served."""
    bucket_arn = _bucket_arn(scope, bucket)
    return [
        iam.PolicyStatement(
            actions=["s3:GetObject"], resources=[f"{bucket_arn}/{prefix}{name}" for name in files]
        ),
        iam.PolicyStatement(
            actions=["s3:ListBucket"],
            resources=[bucket_arn],
            conditions={"StringLike": {"s3:prefix": f"{prefix}*"}},
        ),
        iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key_arn], conditions=_through_s3(scope)),
    ]


def capture_statements(
    scope: Construct, *, bucket: str, prefix: str, keys: KeysOutputs
) -> list[iam.PolicyStatement]:
    """Return the right to put captured calls, and never to read one."""
    return [
        iam.PolicyStatement(actions=["s3:PutObject"], resources=[f"{_bucket_arn(scope, bucket)}/{prefix}*"]),
        iam.PolicyStatement(
            actions=["kms:GenerateDataKey"],
            resources=[keys.capture_key_arn],
            conditions=_through_s3(scope),
        ),
    ]


def capture_bucket(tenant: DeployedTenant, data: DataOutputs) -> str | None:
    """Return where captured calls go: to be redacted, or kept raw; None where none are captured."""
    return {"quarantine": data.quarantine_bucket, "direct": data.capture_bucket, "off": None}[
        tenant.models.capture
    ]


def _bucket_arn(scope: Construct, bucket: str) -> str:
    return cdk.Stack.of(scope).format_arn(service="s3", region="", account="", resource=bucket)


def _through_s3(scope: Construct) -> dict[str, dict[str, str]]:
    return {"StringEquals": {"kms:ViaService": f"s3.{cdk.Stack.of(scope).region}.amazonaws.com"}}
