"""The functions of the learning stack: the mover of feedback, and the learner of rankings.

Both run out of one image, because patients' data is found with packages that are more than Lambda takes as an
archive (docs/decisions/0048-patients-data.md). Neither reserves concurrency: a new account has none to
reserve, and two at once do no harm (docs/decisions/0050-feedback-on-aws.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.settings.deployed_names import (
    CASES,
    DESK,
    ERASURE_PARTITIONS,
    EVENTS,
    FEEDBACK_SECRET_PURPOSE,
    LISTED,
    RECORDS,
    RELEASES,
    STATES,
    desk_partitions,
    link_secret_context,
)
from assistant.settings.model_artifacts import PROTECTED_QUESTIONS
from assistant.settings.process import LearningSettings, MovingSettings, ServiceSettings
from stacks.data.buckets import of_partitions, table_statements
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, schedule
from stacks.outputs import Workload
from stacks.processes import LEARNING_IMAGE, TenantFileAsset, image_uri
from stacks.roles import USE_KEY, Duty, allow, bucket_arn, parameter_arn, resource_arn, tag_duty, via
from stacks.tenant_stack import Foundation

MODULES = ("move_feedback", "learn_ranking")
"""Modules of ``lambdas``, whose ``handle`` the image is started with."""
_READ_ITEMS = ("dynamodb:GetItem", "dynamodb:BatchGetItem")
_UPDATE = "dynamodb:UpdateItem"
_MOVE_RATE = "rate(1 minute)"
_MOVE_WITHIN_S = 45
"""No group is begun later: the next call goes on."""
_MOVE_TIMEOUT_S = 300
"""For the last group of 500 rows, which would else be killed and begun again without an end."""
_LEARN_RATE = "cron(30 2 * * ? *)"
"""Daily, when few agents work. It needs neither endpoint, which may be paused then."""
_LEARN_TIMEOUT_S = 900
"""Lambda's longest; learning from 100,000 signals takes a tenth of it."""


class LearningFunctions(Construct):
    """``functions`` has the mover and, unless the tenant file switches ranking off, the learner."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        foundation: Foundation,
    ) -> None:
        super().__init__(scope, construct_id)
        self._foundation = foundation
        self._tenant, self._keys, self._data = foundation.tenant, foundation.keys, foundation.data
        self._image = image_uri(self, self._tenant, LEARNING_IMAGE)
        self.functions = (self._move(),)
        if self._tenant.config.learning.ranking == "daily":
            self.functions += (self._learn(),)

    def _move(self) -> VpcFunction:
        data = self._data
        labels, texts = (bucket_arn(self, name) for name in (data.labels_bucket, data.texts_bucket))
        role = self._role(
            "MoveRole",
            Duty.MOVER,
            "Moves feedback out of the records: labels, and sealed texts",
            [
                *self._take_rows(),
                *self._read_shown_texts(),
                *self._read_pseudonym_key(),
                self._items(data.events_table, EVENTS.mover_actions, ERASURE_PARTITIONS),
                self._items(data.desk_table, DESK.worker_actions, desk_partitions(CASES)),
                # Open cases are listed to group unanswered questions into gaps.
                self._items(f"{data.desk_table}/index/{LISTED}", ("dynamodb:Query",), (CASES,)),
                allow("s3:PutObject", f"{labels}/events/*", f"{texts}/texts/*"),
                # An erasure lists the texts that it made unreadable.
                allow("s3:GetObject", f"{texts}/texts/*"),
                allow("s3:ListBucket", texts, conditions={"StringLike": {"s3:prefix": ["texts/*"]}}),
                allow(USE_KEY, self._keys.feedback_key_arn, conditions=via(self._tenant, "s3")),
            ],
        )
        file = TenantFileAsset(self, "TenantFile", tenant=self._tenant)
        file.grant_read(role)
        program = FunctionProgram(
            module="move_feedback",
            timeout_s=_MOVE_TIMEOUT_S,
            memory_mib=1769,  # one whole core, to find patients' data
            environment=self._foundation.environment(
                MovingSettings,
                tenant_file_s3=file.uri,
                pseudonyms_parameter=self._tenant.feedback_secret_parameter,
                within_s=_MOVE_WITHIN_S,
            ),
            image=self._image,
        )
        return self._scheduled("Move", role, program, rate=_MOVE_RATE)

    def _learn(self) -> VpcFunction:
        data = self._data
        labels, models = (bucket_arn(self, name) for name in (data.labels_bucket, data.models_bucket))
        role = self._role(
            "LearnRole",
            Duty.LEARNER,
            "Learns rankings from labels, writes releases",
            [
                allow("s3:GetObject", f"{labels}/events/*", f"{models}/{PROTECTED_QUESTIONS}"),
                allow("s3:ListBucket", labels, conditions={"StringLike": {"s3:prefix": ["events/*"]}}),
                self._items(data.events_table, _READ_ITEMS, ERASURE_PARTITIONS),
                self._items(data.desk_table, DESK.worker_actions, desk_partitions(RELEASES)),
                allow(
                    "kms:Decrypt",
                    self._keys.feedback_key_arn,
                    self._keys.models_key_arn,
                    conditions=via(self._tenant, "s3"),
                ),
            ],
        )
        questions = f"s3://{data.models_bucket}/{PROTECTED_QUESTIONS}"
        program = FunctionProgram(
            module="learn_ranking",
            timeout_s=_LEARN_TIMEOUT_S,
            memory_mib=2048,
            environment=self._foundation.environment(LearningSettings, protected_questions_s3=questions),
            image=self._image,
        )
        return self._scheduled("Learn", role, program, rate=_LEARN_RATE)

    def _role(
        self, construct_id: str, duty: Duty, description: str, statements: Sequence[iam.PolicyStatement]
    ) -> FunctionRole:
        role = FunctionRole(self, construct_id, description=description)
        tag_duty(role, duty)
        through_services = via(self._tenant, "dynamodb", "lambda")
        role.may(*statements, allow(USE_KEY, self._keys.data_key_arn, conditions=through_services))
        return role

    def _scheduled(
        self, name: str, role: FunctionRole, program: FunctionProgram, *, rate: str
    ) -> VpcFunction:
        place = FunctionPlace.of(self._foundation, Workload.LEARNING)
        function = VpcFunction(self, name, program=program, place=place, role=role)
        schedule(self, f"{name}Schedule", function=function, rate=rate, comes_again=True)
        return function

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
