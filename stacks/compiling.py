"""What compile jobs need of a tenant: a role, and what ``assistant models compile`` asks for in each job.

A compile job reads the weights and its entry below ``llm/`` of the models bucket, and puts what it compiled
below ``compiled/``. No endpoint reads there, and the job puts nowhere else: a publisher promotes what it
checked (docs/decisions/0083-compile-on-trainium.md). No role of a tenant starts a job: whoever does acts
with its own rights.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.settings.model_artifacts import COMPILE_OUTPUT, COMPILED_PREFIX
from stacks.keys import log_group_arn
from stacks.outputs import KeysOutputs, NetworkOutputs, Workload
from stacks.policy import exceptions, wildcard
from stacks.processes import PULL_IMAGE, image_repository_arn
from stacks.roles import (
    USE_KEY,
    Duty,
    WorkloadRole,
    allow,
    attach,
    interface_statements,
    tag_duty,
    via_s3,
)
from stacks.tenant_stack import tenant_of

IMAGE = "llm_neuronx"
"""Compiles and serves, in some regions alone (images.lock.toml)."""
_LONGEST_S = 6 * 3600
"""Of one job: a bound on what one that hangs can cost."""
_VOLUME_GIB = 200
"""Within the local disk of the smallest Trainium instance."""


class Compiling(Construct):
    """For a tenant with a publisher, where AWS has the image. Its output is what all requests share."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        keys: KeysOutputs,
        network: NetworkOutputs,
        bucket: s3.IBucket,
    ) -> None:
        super().__init__(scope, construct_id)
        tenant = tenant_of(self)
        role = WorkloadRole(
            self,
            "Role",
            assumed_by="sagemaker.amazonaws.com",
            description="Compiles language models for Inferentia2 and Trainium",
        )
        tag_duty(role, Duty.COMPILER)
        lines = (
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
        )
        prefixes = {"StringLike": {"s3:prefix": ["llm/*", f"{COMPILED_PREFIX}*"]}}
        statements = [
            allow("s3:GetObject", bucket.arn_for_objects("llm/*")),
            allow(("s3:PutObject", "s3:AbortMultipartUpload"), bucket.arn_for_objects(f"{COMPILED_PREFIX}*")),
            allow("s3:ListBucket", bucket.bucket_arn, conditions=prefixes),
            # SageMaker encrypts the output of a job that names a key by kms:Encrypt (API reference,
            # OutputDataConfig); Trainium's disks are local, and take no key.
            allow((*USE_KEY, "kms:Encrypt"), keys.models_key_arn, conditions=via_s3(self)),
            *interface_statements(self, network=network, workload=Workload.JOBS),
            allow(lines, log_group_arn(self, "/aws/sagemaker/TrainingJobs*")),
            allow(
                "cloudwatch:PutMetricData",
                "*",
                conditions={"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
            ),
            allow("ecr:GetAuthorizationToken", "*"),
            allow(PULL_IMAGE, image_repository_arn(self, tenant, IMAGE)),
        ]
        attach(self, "Rights", role, statements, description="What a compile job reads and writes")
        request = {
            "RoleArn": role.role_arn,
            "OutputDataConfig": {
                "S3OutputPath": f"s3://{bucket.bucket_name}/{COMPILED_PREFIX}",
                "KmsKeyId": keys.models_key_arn,
                "CompressionType": "NONE",
            },
            "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": _VOLUME_GIB},
            "StoppingCondition": {"MaxRuntimeInSeconds": _LONGEST_S},
            "VpcConfig": {
                "Subnets": list(network.subnet_ids),
                "SecurityGroupIds": [network.security_group_ids[Workload.JOBS]],
            },
            "EnableNetworkIsolation": True,
            "EnableInterContainerTrafficEncryption": True,
            "Tags": [{"Key": key, "Value": value} for key, value in tenant.tags().items()],
        }
        cdk.CfnOutput(scope, COMPILE_OUTPUT, value=cdk.Stack.of(self).to_json_string(request))


EXCEPTIONS = exceptions(
    "Data/Compiling/Rights",
    wildcard(
        "*",
        f"<ModelsBucket.Arn>/{COMPILED_PREFIX}*",
        "<ModelsBucket.Arn>/llm/*",
        "arn:aws:logs:{region}:{account}:log-group:/aws/sagemaker/TrainingJobs*",
        "arn:aws:ec2:{region}:{account}:network-interface/*",
    ),
    "ECR's sign-in, metrics and EC2's Describe actions support no resources (Service Authorization "
    "Reference). SageMaker names a job's output, the revision its weights; the log group is the account's "
    "for all training jobs; an interface has no id before it is created: its subnets and group restrict it.",
)
