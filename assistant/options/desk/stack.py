"""The learning stack of a tenant: a function that moves feedback out of the records, each minute, and what
options add (``LearningParts``), such as the task that makes training sets, its bucket and the role of
training jobs.

A person or a pipeline of the company's starts a training job by ``assistant models train`` (docs/runbook.md).
The function costs what it is called for; nothing in the stack costs by the hour.

The function runs out of an image, because patients' data is found with packages that are more than Lambda
takes as an archive (docs/decisions/0048-patients-data.md). It reserves no concurrency: a new account has
none to reserve, and two at once do no harm (docs/decisions/0050-feedback-on-aws.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.options.desk.settings import MovingSettings
from assistant.process.settings import ServiceSettings
from assistant.tenant.deployed_names import (
    ACT_REQUESTS,
    CASE_INDEX,
    CASES,
    DESK,
    ERASURE_PARTITIONS,
    EVENTS,
    FEEDBACK_SECRET_PURPOSE,
    OLDEST_SIGNAL_AGE,
    RECORDS,
    STATES,
    desk_partitions,
    link_secret_context,
)
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, schedule
from stacks.observability.alarms import TenantAlarms
from stacks.options import OptionStacks, option_stacks
from stacks.outputs import OptionOutputs, Workload
from stacks.policy import (
    ANY_RESOURCE,
    DOCUMENTS_BUCKET,
    LABELS_BUCKET,
    LAMBDA_PLATFORM,
    OWN_INLINE_POLICY,
    TEXTS_BUCKET,
    exceptions,
    hipaa,
    wildcard,
)
from stacks.processes import LEARNING_IMAGE, TenantFileAsset, image_uri
from stacks.roles import (
    USE_KEY,
    Duty,
    allow,
    allow_partitions,
    bucket_arn,
    parameter_arn,
    resource_arn,
    table_statements,
    tag_duty,
    via,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack

MOVER = "move_feedback"
"""Module of ``lambdas``, whose ``handle`` the image is started with."""
_UPDATE = "dynamodb:UpdateItem"
_MOVE_RATE = "rate(1 minute)"
_MOVE_WITHIN_S = 45
"""No group of rows is begun later. The next call, a minute after this one, goes on."""
_MOVE_TIMEOUT_S = 300
"""Leaves the last group, of 500 rows at most, time to end: a call that is killed begins it again, without
end."""


class FeedbackMover(Construct):
    """The scheduled ``function`` that moves feedback out of the records.

    It takes rows that wait in the index of the records' table, and puts labels and sealed texts into the two
    buckets of feedback. ``_statements`` lists all that its role may do with data and keys.
    """

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
            allow_partitions(self, data.events_table, EVENTS.mover_actions, ERASURE_PARTITIONS),
            allow_partitions(self, data.desk_table, DESK.worker_actions, cases),
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


class LearningParts(OptionStacks):
    """What an option that needs this one adds to the learning stack, too."""

    def add_to_learning(
        self, stack: TenantStack, foundation: Foundation, log_groups: dict[str, str]
    ) -> str | None:
        """Add constructs, and put the names of their log groups into ``log_groups``, by the module of the
        function or by the task. Return the name of the bucket of what its jobs make, or None. The outputs
        have one such bucket: the first."""


class LearningStack(TenantStack):
    """The mover and the constructs of options; ``outputs`` is what metrics and costs read of them."""

    def __init__(self, scope: Construct, *, foundation: Foundation) -> None:
        tenant = foundation.tenant
        super().__init__(scope, "Learning", tenant=tenant, data_class="phi", stateful=True)
        log_groups: dict[str, str] = {}
        parts = [option for option in option_stacks() if isinstance(option, LearningParts)]
        buckets = [part.add_to_learning(self, foundation, log_groups) for part in parts]
        bucket = next((bucket for bucket in buckets if bucket is not None), None)
        mover = FeedbackMover(self, "Functions", foundation=foundation).function
        log_groups[MOVER] = mover.log_group_name
        self.outputs = OptionOutputs(
            job_bucket=bucket, function_names=(mover.function_name,), log_groups=log_groups
        )


_LATE_S = 900
"""Age of the oldest row that waits. The mover is called each minute: fifteen calls have not moved it."""


# Findings of checks that the stack is excused from: path of the construct, findings, reason
# (stacks/policy.py).
EXCEPTIONS = (
    *exceptions("Learning", hipaa("IAMNoInlinePolicy"), OWN_INLINE_POLICY),
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
            f"arn:{{partition}}:s3:::{DOCUMENTS_BUCKET}/documents/*",
            f"arn:{{partition}}:s3:::{LABELS_BUCKET}/events/*",
            f"arn:{{partition}}:s3:::{TEXTS_BUCKET}/texts/*",
        ),
        "The mover reads the documents that answers showed, whose names are hashes of ids, puts labels and "
        "sealed texts, whose names are hashes of their content, and lists the texts that an erasure made "
        "unreadable: one folder of each bucket.",
    ),
)


class DeskStacks(OptionStacks):
    """The learning stack, its alarm, and where a container finds the key of pseudonyms."""

    exceptions = EXCEPTIONS

    def add_stack(self, scope: Construct, foundation: Foundation) -> tuple[TenantStack, OptionOutputs]:
        """Add the stack, which every tenant has, and return what the tenant's stage reads of it."""
        stack = LearningStack(scope, foundation=foundation)
        return stack, stack.outputs

    def fill_in(self, tenant: DeployedTenant, data: dict[str, Any]) -> None:
        """Write into the tenant file of a container where the key of pseudonyms is: ``pseudonyms =
        "kms:/acme/pharmacy/feedback-pseudonyms"``. ``data`` is that file, before it is written as TOML."""
        data["desk"]["feedback"]["pseudonyms"] = f"kms:{tenant.feedback_secret_parameter}"

    def alarms(self, tenant_alarms: TenantAlarms) -> Iterator[cloudwatch.Alarm]:
        """Yield the alarms on the way from verdicts to training sets."""
        age = tenant_alarms.metrics.service(OLDEST_SIGNAL_AGE, "Maximum", minutes=5)
        yield tenant_alarms.add("feedback-late", age, _LATE_S, periods=2)
