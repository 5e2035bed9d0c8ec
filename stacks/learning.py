"""The learning stack: where training sets and checkpoints lie, who a job is, and the shell of a training job.
What runs in it comes later.

A training job is started through the shell, by a person or a pipeline of the company's (docs/runbook.md);
until then the stack costs nothing but what its bucket holds.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.job_rights import JobRights
from stacks.constructs.tenant_bucket import Keeping, TenantBucket
from stacks.constructs.tenant_stack import TenantStack
from stacks.constructs.training_shell import TrainingPlaces, TrainingShell
from stacks.constructs.workload_role import WorkloadRole
from stacks.outputs import DataOutputs, KeysOutputs, LearningOutputs, ModelsOutputs, NetworkOutputs
from stacks.tenant import DeployedTenant

_KEPT_DAYS = {"dev": 7, "standard": 180, "hipaa": 365}
"""Of a training set or checkpoint: what was withdrawn from knowledge and capture must leave these too."""
_REPLACED_DAYS = 7
SETS = "sets/"
CHECKPOINTS = "checkpoints/"
"""Folders of the bucket."""


class LearningStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
        models: ModelsOutputs,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="phi", description="learning", stateful=True
        )
        del models
        self._network = network
        bucket = TenantBucket(
            self,
            "TrainingBucket",
            tenant=tenant,
            keeping=Keeping(days=_KEPT_DAYS[tenant.place.profile], replaced_days=_REPLACED_DAYS),
            key_arn=keys.data_key_arn,
            log_bucket=s3.Bucket.from_bucket_name(self, "LogsBucket", data.logs_bucket),
        )
        self._rights = JobRights(self, tenant=tenant, keys=keys)
        self._preparing_role(bucket, data=data, keys=keys)
        role = self._training_role(bucket, data=data, keys=keys)
        shell = TrainingShell(
            self,
            "TrainingShell",
            tenant=tenant,
            keys=keys,
            network=network,
            places=TrainingPlaces(
                sets=f"s3://{bucket.bucket_name}/{SETS}",
                checkpoints=f"s3://{bucket.bucket_name}/{CHECKPOINTS}",
                models=f"s3://{data.models_bucket}/",
                role_arn=role.role_arn,
            ),
        )
        self.outputs = LearningOutputs(training_bucket=bucket.bucket_name)
        cdk.CfnOutput(
            self, "TrainingShellName", value=shell.name, description="Runbook that starts a training job"
        )

    def _preparing_role(self, bucket: TenantBucket, *, data: DataOutputs, keys: KeysOutputs) -> None:
        """Of a SageMaker processing job: verdicts, drafts and clean captured calls into training sets."""
        role = self._job_role("PreparingRole", "Makes training sets of feedback and clean captured calls")
        self._attach(
            "Preparing",
            role,
            [
                *self._rights.read(data.feedback_bucket, data.capture_bucket),
                *self._rights.write(bucket.bucket_name, SETS),
                self._rights.use_keys(keys.data_key_arn, keys.capture_key_arn),
                *self._rights.of_platform(self._network),
            ],
        )

    def _training_role(self, bucket: TenantBucket, *, data: DataOutputs, keys: KeysOutputs) -> WorkloadRole:
        """Of a SageMaker training job: it sees no raw store, only sets and the base model."""
        role = self._job_role("TrainingRole", "Trains on training sets, writes checkpoints")
        self._attach(
            "Training",
            role,
            [
                *self._rights.read(data.models_bucket),
                *self._rights.read(bucket.bucket_name, prefix=SETS),
                *self._rights.write(bucket.bucket_name, CHECKPOINTS),
                self._rights.use_keys(keys.data_key_arn, keys.models_key_arn),
                self._rights.encrypt_output(keys.data_key_arn),
                self._rights.encrypt_volumes(keys.models_key_arn),
                *self._rights.of_platform(self._network),
            ],
        )
        return role

    def _job_role(self, construct_id: str, description: str) -> WorkloadRole:
        return WorkloadRole(self, construct_id, assumed_by="sagemaker.amazonaws.com", description=description)

    def _attach(self, construct_id: str, role: iam.Role, statements: list[iam.PolicyStatement]) -> None:
        iam.CfnManagedPolicy(
            self,
            construct_id,
            roles=[role.role_name],
            policy_document=iam.PolicyDocument(statements=statements),
        )
