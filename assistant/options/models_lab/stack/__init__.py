"""Stacks and constructs of the models lab, and the validators' findings that stay in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.options.desk.stack import LearningParts
from assistant.options.models_lab.stack import learning
from assistant.options.models_lab.stack import models as of_models
from stacks.observability.alarms import TenantAlarms
from stacks.outputs import KeysOutputs, NetworkOutputs, OptionOutputs
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack


class LabStacks(LearningParts):
    """What the lab adds for learning and for models."""

    exceptions = (*of_models.EXCEPTIONS, *learning.EXCEPTIONS)

    def add_stack(self, scope: Construct, foundation: Foundation) -> tuple[TenantStack, OptionOutputs] | None:
        return learning.add_corpus(scope, foundation)

    def add_to_data(
        self, stack: TenantStack, keys: KeysOutputs, network: NetworkOutputs, models: s3.IBucket
    ) -> None:
        of_models.add_to_data(stack, keys, network, models)

    def add_to_models(self, stack: TenantStack, foundation: Foundation) -> None:
        of_models.add_to_models(stack, foundation)

    def add_to_learning(
        self, stack: TenantStack, foundation: Foundation, log_groups: dict[str, str]
    ) -> str | None:
        return learning.add_to_learning(stack, foundation, log_groups)

    def alarms(self, tenant_alarms: TenantAlarms) -> Iterable[cloudwatch.Alarm]:
        return learning.alarms(tenant_alarms)

    def log_groups(self, tenant: DeployedTenant) -> Iterable[str]:
        return of_models.log_groups(tenant)

    def images(self, tenant: DeployedTenant) -> Sequence[str]:
        return learning.images(tenant)

    def fill_in(self, tenant: DeployedTenant, data: dict[str, Any]) -> None:
        learning.fill_in(tenant, data)
