"""What compile jobs need of a tenant: a role, and what ``assistant models compile`` asks for in each job.

A compile job reads the weights and its entry below ``llm/`` of the models bucket, and puts what it compiled
below ``compiled/``. No endpoint reads there, and the job puts nowhere else: a publisher promotes what it
checked (docs/decisions/0083-compile-on-trainium.md).
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.tenant.manifests import COMPILE_OUTPUT, COMPILED_PREFIX
from stacks.jobs import platform_statements, shared_request
from stacks.outputs import KeysOutputs, NetworkOutputs
from stacks.policy import exceptions, wildcard
from stacks.processes import image_repository_arn
from stacks.roles import USE_KEY, Duty, WorkloadRole, allow, attach, tag_duty, via_s3
from stacks.tenant_stack import TenantStack, tenant_of

IMAGE = "llm_neuronx"
"""Compiles and serves, in some regions alone (images.lock.toml)."""
_LONGEST_S = 6 * 3600
"""Of one job: a bound on what one that hangs can cost."""


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
        prefixes = {"StringLike": {"s3:prefix": ["llm/*", f"{COMPILED_PREFIX}*"]}}
        statements = [
            allow("s3:GetObject", bucket.arn_for_objects("llm/*")),
            allow(("s3:PutObject", "s3:AbortMultipartUpload"), bucket.arn_for_objects(f"{COMPILED_PREFIX}*")),
            allow("s3:ListBucket", bucket.bucket_arn, conditions=prefixes),
            # SageMaker encrypts the output of a job that names a key by kms:Encrypt (API reference,
            # OutputDataConfig); Trainium's disks are local, and take no key.
            allow((*USE_KEY, "kms:Encrypt"), keys.models_key_arn, conditions=via_s3(self)),
            *platform_statements(
                self, network=network, repository_arn=image_repository_arn(self, tenant, IMAGE)
            ),
        ]
        attach(self, "Rights", role, statements, description="What a compile job reads and writes")
        request = shared_request(
            self,
            network=network,
            role_arn=role.role_arn,
            output=f"s3://{bucket.bucket_name}/{COMPILED_PREFIX}",
            key_arn=keys.models_key_arn,
            longest_s=_LONGEST_S,
        )
        cdk.CfnOutput(scope, COMPILE_OUTPUT, value=cdk.Stack.of(self).to_json_string(request))


def add_to_data(stack: TenantStack, keys: KeysOutputs, network: NetworkOutputs, models: s3.IBucket) -> None:
    """Let a tenant with a publisher compile, in a region that has the image."""
    tenant = stack.tenant
    if tenant.place.artifact_publishers and tenant.place.region in tenant.images.accounts(IMAGE):
        Compiling(stack, "Compiling", keys=keys, network=network, bucket=models)


EXCEPTIONS = exceptions(
    "Data/Compiling/Rights",
    wildcard(
        "*",
        f"<ModelsBucket.Arn>/{COMPILED_PREFIX}*",
        "<ModelsBucket.Arn>/llm/*",
        "arn:{partition}:logs:{region}:{account}:log-group:/aws/sagemaker/TrainingJobs*",
        "arn:{partition}:ec2:{region}:{account}:network-interface/*",
    ),
    "ECR's sign-in, metrics and EC2's Describe actions support no resources (Service Authorization "
    "Reference). SageMaker names a job's output, the revision its weights; the log group is the account's "
    "for all training jobs; an interface has no id before it is created: its subnets and group restrict it.",
)
