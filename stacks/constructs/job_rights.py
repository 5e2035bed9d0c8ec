"""What a job of learning or corpus may do: read these stores, write its own folder, by those keys."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.network_interfaces import interface_statements
from stacks.outputs import KeysOutputs, NetworkOutputs, Workload
from stacks.tenant import DeployedTenant


class JobRights:
    def __init__(self, scope: Construct, *, tenant: DeployedTenant, keys: KeysOutputs) -> None:
        self._scope = scope
        self._stack = cdk.Stack.of(scope)
        self._tenant = tenant
        self._keys = keys

    def read(self, *buckets: str, prefix: str = "") -> list[iam.PolicyStatement]:
        arns = [_arn(bucket) for bucket in buckets]
        return [
            _allow(["s3:GetObject"], [f"{arn}/{prefix}*" for arn in arns]),
            _allow(["s3:ListBucket"], arns),
        ]

    def write(self, bucket: str, prefix: str) -> list[iam.PolicyStatement]:
        """Into one folder, and what a job must read of it to go on where it was interrupted."""
        arn = _arn(bucket)
        return [
            _allow(
                ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                [f"{arn}/{prefix}*"],
            ),
            _allow(["s3:ListBucket"], [arn]),
        ]

    def use_keys(self, *key_arns: str) -> iam.PolicyStatement:
        """For S3 alone: the bytes are asked of S3, which asks KMS in the job's name."""
        return _allow(["kms:Decrypt", "kms:GenerateDataKey"], key_arns, self._through_s3())

    def encrypt_output(self, key_arn: str) -> iam.PolicyStatement:
        """Asked of a job that names the key of what it puts out: https://docs.aws.amazon.com/sagemaker/latest/
        APIReference/API_OutputDataConfig.html"""
        return _allow(["kms:Encrypt"], [key_arn], self._through_s3())

    def encrypt_volumes(self, key_arn: str) -> iam.PolicyStatement:
        """SageMaker grants the key to the job's volumes: https://docs.aws.amazon.com/sagemaker/latest/dg/
        sagemaker-roles.html"""
        return _allow(
            ["kms:CreateGrant", "kms:DescribeKey"], [key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}}
        )

    def of_platform(self, network: NetworkOutputs) -> list[iam.PolicyStatement]:
        """What SageMaker does with the role over its own network: network interfaces, lines, figures, images.

        https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html, "CreateTrainingJob API".
        """
        groups = [
            self._stack.format_arn(
                service="logs",
                resource="log-group",
                resource_name=f"{group}*",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            for group in _JOB_GROUPS
        ]
        repositories = self._stack.format_arn(service="ecr", resource="repository", resource_name="*")
        return [
            *interface_statements(self._scope, network=network, workload=Workload.JOBS),
            _allow(_LINES, groups),
            _allow(
                ["cloudwatch:PutMetricData"],
                ["*"],
                {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
            ),
            _allow(["ecr:GetAuthorizationToken"], ["*"]),
            _allow(
                ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [repositories],
            ),
        ]

    def _through_s3(self) -> dict[str, dict[str, str]]:
        return {"StringEquals": {"kms:ViaService": f"s3.{self._tenant.place.region}.amazonaws.com"}}


_JOB_GROUPS = ("/aws/sagemaker/ProcessingJobs", "/aws/sagemaker/TrainingJobs")
"""Of all jobs of an account, as SageMaker names them: not its endpoints', which are a tenant's."""
_LINES = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")


def _arn(bucket: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}"


def _allow(
    actions: Sequence[str], resources: Sequence[str], conditions: dict[str, dict[str, str]] | None = None
) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions)
