"""The learning stack: the mover of feedback, the nightly learner of rankings, training sets and checkpoints,
the roles of jobs, and the runbook that starts a training job.

A person or a pipeline of the company's starts a training job through the runbook (docs/runbook.md). The
functions cost what they are called for; nothing in the stack costs by the hour.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.data.buckets import Keeping, TenantBucket
from stacks.functions import FunctionPlace
from stacks.keys import log_group_arn
from stacks.learning.functions import LearningFunctions
from stacks.learning.training_shell import CHECKPOINTS, SETS, TrainingShell
from stacks.outputs import EarlierOutputs, KeysOutputs, LearningOutputs, NetworkOutputs, Workload
from stacks.processes import PULL_IMAGE
from stacks.roles import (
    Duty,
    WorkloadRole,
    allow,
    attach,
    interface_statements,
    resource_arn,
    tag_duty,
    via_s3,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack

_KEPT_DAYS = {"dev": 7, "standard": 180, "hipaa": 365}
"""How long a training set or checkpoint stays: withdrawn documents and captures must leave these too."""
_REPLACED_DAYS = 7


class LearningStack(TenantStack):
    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, earlier: EarlierOutputs
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", stateful=True)
        keys, network, data = earlier.keys, earlier.network, earlier.data
        bucket = TenantBucket(
            self,
            "TrainingBucket",
            tenant=tenant,
            keeping=Keeping(days=_KEPT_DAYS[tenant.place.profile], replaced_days=_REPLACED_DAYS),
            key_arn=keys.data_key_arn,
            log_bucket=s3.Bucket.from_bucket_name(self, "LogsBucket", data.logs_bucket),
        ).bucket_name
        # A SageMaker processing job: verdicts, drafts and clean captured calls into training sets.
        preparing = self._job_role(
            "Preparing",
            "Makes training sets of feedback and clean captured calls",
            [
                *read_bucket(data.labels_bucket, data.texts_bucket, data.capture_bucket),
                *write_folder(bucket, SETS),
                use_keys(self, keys.data_key_arn, keys.capture_key_arn),
                allow("kms:Decrypt", keys.feedback_key_arn, conditions=via_s3(self)),
                *_platform_statements(self, network=network),
            ],
        )
        tag_duty(preparing, Duty.PREPARER)
        # A SageMaker training job: it reads no raw store, only sets and the base model.
        training = self._job_role(
            "Training",
            "Trains on training sets, writes checkpoints",
            [
                *read_bucket(data.models_bucket),
                *read_bucket(bucket, prefix=SETS),
                *write_folder(bucket, CHECKPOINTS),
                use_keys(self, keys.data_key_arn, keys.models_key_arn),
                *_encryption_statements(self, keys),
                *_platform_statements(self, network=network),
            ],
        )
        shell = TrainingShell(
            self,
            "TrainingShell",
            tenant=tenant,
            earlier=earlier,
            training_bucket=bucket,
            role_arn=training.role_arn,
        )
        functions = LearningFunctions(
            self,
            "Functions",
            tenant=tenant,
            earlier=earlier,
            place=FunctionPlace(
                subnet_ids=network.subnet_ids,
                security_group_id=network.security_group_ids[Workload.LEARNING],
                logs_key_arn=keys.logs_key_arn,
                environment_key_arn=keys.data_key_arn,
            ),
        ).functions
        self.outputs = LearningOutputs(
            training_bucket=bucket, function_names=tuple(one.function_name for one in functions)
        )
        cdk.CfnOutput(
            self, "TrainingShellName", value=shell.name, description="Runbook that starts a training job"
        )

    def _job_role(self, name: str, description: str, statements: list[iam.PolicyStatement]) -> WorkloadRole:
        role = WorkloadRole(
            self, f"{name}Role", assumed_by="sagemaker.amazonaws.com", description=description
        )
        attach(self, name, role.role_name, statements)
        return role


def read_bucket(*buckets: str, prefix: str = "") -> list[iam.PolicyStatement]:
    arns = [_bucket_arn(bucket) for bucket in buckets]
    return [allow("s3:GetObject", *(f"{arn}/{prefix}*" for arn in arns)), allow("s3:ListBucket", *arns)]


def write_folder(bucket: str, prefix: str) -> list[iam.PolicyStatement]:
    """Let a job write one folder, and read there what it needs to resume after an interruption."""
    arn = _bucket_arn(bucket)
    actions = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
    return [allow(actions, f"{arn}/{prefix}*"), allow("s3:ListBucket", arn)]


def use_keys(scope: Construct, *key_arns: str) -> iam.PolicyStatement:
    """Let a job use keys through S3 only."""
    return allow(("kms:Decrypt", "kms:GenerateDataKey"), *key_arns, conditions=via_s3(scope))


def _encryption_statements(scope: Construct, keys: KeysOutputs) -> list[iam.PolicyStatement]:
    """Let a job that names the key of its output encrypt it, and SageMaker grant the key to the job's
    volumes.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_OutputDataConfig.html,
    https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html
    """
    for_resource = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        allow("kms:Encrypt", keys.data_key_arn, conditions=via_s3(scope)),
        allow(("kms:CreateGrant", "kms:DescribeKey"), keys.models_key_arn, conditions=for_resource),
    ]


def _platform_statements(scope: Construct, *, network: NetworkOutputs) -> list[iam.PolicyStatement]:
    """Return what SageMaker does with the role over its own network: interfaces, log lines, metrics, images.

    The log groups are those of all jobs of an account, as SageMaker names them.
    https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html, "CreateTrainingJob API".
    """
    groups = [log_group_arn(scope, f"/aws/sagemaker/{kind}Jobs*") for kind in ("Processing", "Training")]
    lines = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
    own_metrics = {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}
    return [
        *interface_statements(scope, network=network, workload=Workload.JOBS),
        allow(lines, *groups),
        allow("cloudwatch:PutMetricData", "*", conditions=own_metrics),
        allow("ecr:GetAuthorizationToken", "*"),
        allow(PULL_IMAGE, resource_arn(scope, "ecr", "repository", "*")),
    ]


def _bucket_arn(bucket: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}"
