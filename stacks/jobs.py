"""What the training jobs of a tenant share: what SageMaker does with their role, and what each request says.

The outputs ``TrainingJob`` and ``CompileJob`` hold those requests; ``assistant models train`` and ``compile``
complete them. No role of a tenant starts a job: whoever does acts with its own rights, because the boundary
denies the roles all of IAM, passing a role too (docs/decisions/0082-training-jobs.md).
"""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.keys import log_group_arn
from stacks.outputs import NetworkOutputs, Workload
from stacks.processes import PULL_IMAGE
from stacks.roles import allow, interface_statements
from stacks.tenant_stack import tenant_of

VOLUME_GIB = 200
"""Within the local disk of the smallest instance that has one (250 GB): more would be refused there."""


def platform_statements(
    scope: Construct, *, network: NetworkOutputs, repository_arn: str
) -> list[iam.PolicyStatement]:
    """Return what SageMaker does with a role over its own network: interfaces, log lines, metrics, images.

    The log group is that of all training jobs of an account, as SageMaker names it.
    https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html, "CreateTrainingJob API".
    """
    lines = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
    own_metrics = {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}
    return [
        *interface_statements(scope, network=network, workload=Workload.JOBS),
        allow(lines, log_group_arn(scope, "/aws/sagemaker/TrainingJobs*")),
        allow("cloudwatch:PutMetricData", "*", conditions=own_metrics),
        allow("ecr:GetAuthorizationToken", "*"),
        allow(PULL_IMAGE, repository_arn),
    ]


def shared_request(
    scope: Construct, *, network: NetworkOutputs, role_arn: str, output: str, key_arn: str, longest_s: int
) -> dict[str, Any]:
    """Return what CreateTrainingJob is asked for in every job of a role.

    ``output``: S3 folder of the results, which ``key_arn`` encrypts. ``longest_s`` bounds what a job that
    went wrong can cost.
    """
    tags = {**tenant_of(scope).tags(), "data-class": "phi"}
    return {
        "RoleArn": role_arn,
        # As endpoints take a model: files below a prefix.
        "OutputDataConfig": {"S3OutputPath": output, "KmsKeyId": key_arn, "CompressionType": "NONE"},
        # One instance: the jobs' security group lets no two of them talk.
        "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": VOLUME_GIB},
        "StoppingCondition": {"MaxRuntimeInSeconds": longest_s},
        "VpcConfig": {
            "Subnets": list(network.subnet_ids),
            "SecurityGroupIds": [network.security_group_ids[Workload.JOBS]],
        },
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "ProfilerConfig": {"DisableProfiler": True},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
