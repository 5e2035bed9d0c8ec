"""The learning stack: the mover of feedback, the task that makes training sets, their bucket with
checkpoints, the role of training jobs, and what every request for one says.

A person or a pipeline of the company's starts a training job by ``assistant models train`` (docs/runbook.md).
The function costs what it is called for; nothing in the stack costs by the hour.

The function runs out of an image, because patients' data is found with packages that are more than Lambda
takes as an archive (docs/decisions/0048-patients-data.md). It reserves no concurrency: a new account has
none to reserve, and two at once do no harm (docs/decisions/0050-feedback-on-aws.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.options.models_lab.stack.training import SETS, TrainingSets
from assistant.process.settings import MovingSettings, ServiceSettings
from assistant.tenant.deployed_names import (
    ACT_REQUESTS,
    CASE_INDEX,
    CASES,
    DESK,
    ERASURE_PARTITIONS,
    EVENTS,
    FEEDBACK_SECRET_PURPOSE,
    RECORDS,
    STATES,
    desk_partitions,
    link_secret_context,
)
from assistant.tenant.manifests import TRAIN_OUTPUT, job_channel
from assistant.tenant.retention import RETENTION
from stacks.data.buckets import Keeping, TenantBucket, of_partitions, table_statements
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, schedule
from stacks.jobs import platform_statements, shared_request
from stacks.outputs import KeysOutputs, LearningOutputs, OrchestratorOutputs, Workload
from stacks.policy import (
    ANY_RESOURCE,
    DOCUMENTS_BUCKET,
    LABELS_BUCKET,
    LAMBDA_PLATFORM,
    NO_REPLICATION,
    OWN_INLINE_POLICY,
    TEXTS_BUCKET,
    exceptions,
    hipaa,
    nag,
    of_data_stack,
    wildcard,
)
from stacks.processes import LEARNING_IMAGE, TenantFileAsset, image_uri
from stacks.roles import (
    USE_KEY,
    Duty,
    WorkloadRole,
    allow,
    attach,
    bucket_arn,
    parameter_arn,
    resource_arn,
    tag_duty,
    via,
    via_s3,
)
from stacks.tenant_stack import Foundation, TenantStack

MOVER = "move_feedback"
"""Module of ``lambdas``, whose ``handle`` the image is started with."""
_UPDATE = "dynamodb:UpdateItem"
_MOVE_RATE = "rate(1 minute)"
_MOVE_WITHIN_S = 45
"""No group is begun later: the next call goes on."""
_MOVE_TIMEOUT_S = 300
"""For the last group of 500 rows, which would else be killed and begun again without an end."""


class FeedbackMover(Construct):
    """The scheduled ``function`` that moves feedback out of the records."""

    def __init__(self, scope: Construct, construct_id: str, *, foundation: Foundation) -> None:
        super().__init__(scope, construct_id)
        self._tenant, self._keys, self._data = foundation.tenant, foundation.keys, foundation.data
        description = "Moves feedback out of the records: labels, and sealed texts"
        role = FunctionRole(self, "MoveRole", description=description)
        tag_duty(role, Duty.MOVER)
        role.may(*self._statements())
        file = TenantFileAsset(self, "TenantFile", tenant=self._tenant)
        file.grant_read(role)
        program = FunctionProgram(
            module=MOVER,
            timeout_s=_MOVE_TIMEOUT_S,
            memory_mib=1769,  # one whole core, to find patients' data
            environment=foundation.environment(
                MovingSettings,
                tenant_file_s3=file.uri,
                pseudonyms_parameter=self._tenant.feedback_secret_parameter,
                within_s=_MOVE_WITHIN_S,
            ),
            image=image_uri(self, self._tenant, LEARNING_IMAGE),
        )
        place = FunctionPlace.of(foundation, Workload.LEARNING)
        self.function = VpcFunction(self, "Move", program=program, place=place, role=role)
        schedule(self, "MoveSchedule", function=self.function, rate=_MOVE_RATE, comes_again=True)

    def _statements(self) -> list[iam.PolicyStatement]:
        data, keys = self._data, self._keys
        labels, texts = (bucket_arn(self, name) for name in (data.labels_bucket, data.texts_bucket))
        cases = desk_partitions(CASES, CASE_INDEX, ACT_REQUESTS)
        return [
            *self._take_rows(),
            *self._read_shown_texts(),
            *self._read_pseudonym_key(),
            self._items(data.events_table, EVENTS.mover_actions, ERASURE_PARTITIONS),
            self._items(data.desk_table, DESK.worker_actions, cases),
            allow("s3:PutObject", f"{labels}/events/*", f"{texts}/texts/*"),
            # An erasure lists the texts that it made unreadable.
            allow("s3:GetObject", f"{texts}/texts/*"),
            allow("s3:ListBucket", texts, conditions={"StringLike": {"s3:prefix": ["texts/*"]}}),
            allow(USE_KEY, keys.feedback_key_arn, conditions=via(self._tenant, "s3")),
            allow(USE_KEY, keys.data_key_arn, conditions=via(self._tenant, "dynamodb", "lambda")),
        ]

    def _take_rows(self) -> list[iam.PolicyStatement]:
        """Let the mover read records, and take rows out of their index: it may name no attribute but those
        of the index in an update, so it can change nothing else of a record."""
        table = self._data.records_table
        reads = [action for action in RECORDS.mover_actions if action != _UPDATE]
        only_index = {"ForAllValues:StringEquals": {"dynamodb:Attributes": list(RECORDS.mover_updates)}}
        return [
            *table_statements(self, RECORDS, table, actions=reads),
            allow(_UPDATE, resource_arn(self, "dynamodb", "table", table), conditions=only_index),
        ]

    def _read_shown_texts(self) -> list[iam.PolicyStatement]:
        """Let the mover read the documents that answers showed, whose records hold places and hashes, and
        whether they are withdrawn."""
        data = self._data
        documents = bucket_arn(self, data.documents_bucket)
        states = resource_arn(self, "dynamodb", "table", data.states_table)
        return [
            allow("s3:GetObject", f"{documents}/{ServiceSettings.documents_prefix}*"),
            allow("s3:ListBucket", documents),  # without it S3 denies a missing document instead of saying so
            allow(STATES.mover_actions, states),
        ]

    def _read_pseudonym_key(self) -> list[iam.PolicyStatement]:
        context = link_secret_context(self._tenant.name, FEEDBACK_SECRET_PURPOSE)
        encrypted = {f"kms:EncryptionContext:{name}": value for name, value in context.items()}
        return [
            allow("ssm:GetParameter", parameter_arn(self, self._tenant.feedback_secret_parameter)),
            allow("kms:Decrypt", self._keys.data_key_arn, conditions={"StringEquals": encrypted}),
        ]

    def _items(self, table: str, actions: Sequence[str], partitions: Sequence[str]) -> iam.PolicyStatement:
        """Let a role call these actions on partitions of a table."""
        arn = resource_arn(self, "dynamodb", "table", table)
        return allow(actions, arn, conditions=of_partitions(partitions))


class LearningStack(TenantStack):
    def __init__(
        self, scope: Construct, *, foundation: Foundation, orchestrator: OrchestratorOutputs
    ) -> None:
        """``orchestrator``: its cluster runs the task that makes training sets."""
        tenant = foundation.tenant
        super().__init__(scope, "Learning", tenant=tenant, data_class="phi", stateful=True)
        bucket = self._add_training(foundation) if tenant.config.learning.training else None
        log_groups: dict[str, str] = {}
        if bucket is not None and tenant.config.learning.sets_every_days:
            sets = TrainingSets(
                self,
                "Sets",
                foundation=foundation,
                training_bucket=bucket,
                cluster_name=orchestrator.cluster_name,
            )
            log_groups["training_sets"] = sets.log_group_name
        mover = FeedbackMover(self, "Functions", foundation=foundation).function
        log_groups[MOVER] = mover.log_group_name
        self.outputs = LearningOutputs(
            training_bucket=bucket, mover_name=mover.function_name, log_groups=log_groups
        )

    def _add_training(self, foundation: Foundation) -> str:
        """Create what training jobs need; return the bucket of their sets and checkpoints."""
        keys, data = foundation.keys, foundation.data
        kept = RETENTION[self.tenant.place.profile]
        keeping = Keeping(days=kept.training, replaced_days=kept.jobs_replaced)
        bucket = TenantBucket(
            self, "TrainingBucket", keeping=keeping, key_arn=keys.data_key_arn, logs=data.logs_bucket
        ).bucket_name
        # A SageMaker training job: it reads no raw store, only sets and the base model.
        description = "Trains on training sets, writes checkpoints"
        images = resource_arn(self, "ecr", "repository", "*")
        training = WorkloadRole(
            self, "TrainingRole", assumed_by="sagemaker.amazonaws.com", description=description
        )
        statements = [
            *read_bucket(data.models_bucket),
            *read_bucket(bucket, prefix=SETS),
            *write_folder(bucket, CHECKPOINTS),
            use_keys(self, keys.data_key_arn, keys.models_key_arn),
            *_encryption_statements(self, keys),
            *platform_statements(self, network=foundation.network, repository_arn=images),
        ]
        attach(self, "Training", training, statements)
        request = shared_request(
            self,
            network=foundation.network,
            role_arn=training.role_arn,
            output=f"s3://{bucket}/{CHECKPOINTS}",
            key_arn=keys.data_key_arn,
            longest_s=LONGEST_S,
        )
        request["ResourceConfig"]["VolumeKmsKeyId"] = keys.models_key_arn
        # The folders below are completed by whoever starts a job.
        request["CheckpointConfig"] = {"S3Uri": f"s3://{bucket}/{CHECKPOINTS}"}
        request["InputDataConfig"] = [
            job_channel("training", f"s3://{bucket}/{SETS}"),
            job_channel("model", f"s3://{data.models_bucket}/"),
        ]
        cdk.CfnOutput(self, TRAIN_OUTPUT, value=self.to_json_string(request))
        return bucket


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
    return allow(USE_KEY, *key_arns, conditions=via_s3(scope))


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


def _bucket_arn(bucket: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}"


CHECKPOINTS = "checkpoints/"
"""Folder of the training bucket."""
LONGEST_S = 24 * 3600
"""Of one job: a bound on what one that went wrong can cost."""
_S3 = "arn:<AWS::Partition>:s3:::"
_ACCOUNT = "{region}:{account}"
_JOB = "Learning/Training"
_FOLDERS = "A job reads the models and the sets, and writes one folder, whose objects it names."

EXCEPTIONS = (
    *exceptions("Learning", hipaa("IAMNoInlinePolicy"), OWN_INLINE_POLICY),
    *exceptions(
        "Learning/Sets/Role/DefaultPolicy",
        wildcard(
            f"arn:aws:s3:::{LABELS_BUCKET}/events/*",
            f"arn:aws:s3:::{TEXTS_BUCKET}/texts/*",
            f"arn:aws:s3:::{DOCUMENTS_BUCKET}/documents/*",
            "arn:aws:s3:::<TrainingBucket>/sets/*",
        ),
        "A training set is made of a window of labels, their texts, and the documents that answers showed, "
        "whose names are hashes; its own name is the hash of what is in it.",
        decision="0080-training-sets-by-a-task",
    ),
    *exceptions(
        "Learning/Sets/ExecutionRole/DefaultPolicy",
        wildcard("*"),
        "ecr:GetAuthorizationToken supports no resources: the token opens what the role's other statement "
        "names, one repository.",
    ),
    *exceptions(
        "Learning/Sets",
        nag("ECS2"),
        "Names of stores, made by the settings class that reads them: visible in every review. There is no "
        "secret among them.",
    ),
    *exceptions(
        "Learning/Training",
        wildcard(
            f"{_S3}{of_data_stack('PublishOutputRefModelsBucket7DFDDE96')}/*",
            f"{_S3}<TrainingBucket>/sets/*",
            f"{_S3}<TrainingBucket>/checkpoints/*",
        ),
        _FOLDERS,
    ),
    *exceptions(
        _JOB,
        wildcard("*"),
        "EC2's Describe actions, metrics and the registry's sign-in support no resources (Service "
        "Authorization Reference); metrics are restricted to SageMaker's own namespace.",
    ),
    *exceptions(
        _JOB,
        wildcard(
            f"arn:aws:logs:{_ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs*",
            f"arn:aws:ecr:{_ACCOUNT}:repository/*",
            f"arn:aws:ec2:{_ACCOUNT}:network-interface/*",
        ),
        "The log groups that SageMaker has for all jobs of an account; images of this account, of which the "
        "caller names one when a job starts; interfaces, which have no id before SageMaker creates them: "
        "their subnets and security group restrict which.",
    ),
    *exceptions(
        "Learning/Functions",
        (hipaa("LambdaConcurrency"), "checkov::CKV_AWS_115"),
        "A schedule calls it, and two at once do no harm: files are never written over. An account begins "
        "with ten concurrent functions, of which none can be reserved: with a reservation the first "
        "deployment would fail.",
        decision="0050-feedback-on-aws",
    ),
    *exceptions(
        "Learning/Functions",
        (hipaa("LambdaDLQ"), "checkov::CKV_AWS_116"),
        "The call of a schedule holds nothing to keep: what is to be moved waits in its store, and the next "
        "call takes it.",
    ),
    *exceptions(
        "Learning/Functions/Move/Platform",
        ANY_RESOURCE,
        LAMBDA_PLATFORM,
    ),
    *exceptions(
        "Learning/Functions/MoveRole/DefaultPolicy",
        wildcard(
            f"arn:aws:s3:::{DOCUMENTS_BUCKET}/documents/*",
            f"arn:aws:s3:::{LABELS_BUCKET}/events/*",
            f"arn:aws:s3:::{TEXTS_BUCKET}/texts/*",
        ),
        "The mover reads the documents that answers showed, whose names are hashes of ids, puts labels and "
        "sealed texts, whose names are hashes of their content, and lists the texts that an erasure made "
        "unreadable: one folder of each bucket.",
    ),
    *exceptions(
        "Learning/TrainingBucket",
        NO_REPLICATION,
        "Training sets and checkpoints are made again from feedback and capture, and expire; a copy in a "
        "second region is a second place to withdraw from.",
    ),
)
