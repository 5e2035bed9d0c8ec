"""What options add to the stacks of a tenant: a class for each option, and a door in each stack's file."""
# ruff: noqa: ARG002 - a door at which nothing joins uses no argument

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.option import joined
from stacks.outputs import KeysOutputs, NetworkOutputs, OptionOutputs

if TYPE_CHECKING:  # the modules that call the doors
    from stacks.observability.alarms import TenantAlarms
    from stacks.orchestrator import BesideTheService
    from stacks.policy import Acknowledgement
    from stacks.tenant import DeployedTenant
    from stacks.tenant_stack import Foundation, TenantStack


class OptionStacks:
    """What one option adds. Each method is called once for a tenant, and adds nothing by default."""

    exceptions: ClassVar[Sequence[Acknowledgement]] = ()
    """Findings of validators that stay in what the option adds, with their reasons."""

    def add_stack(self, scope: Construct, foundation: Foundation) -> tuple[TenantStack, OptionOutputs] | None:
        """Add a stack of the option's own if the tenant wants it. Its tasks run in the orchestrator's
        cluster."""

    def add_to_data(
        self, stack: TenantStack, keys: KeysOutputs, network: NetworkOutputs, models: s3.IBucket
    ) -> None:
        """Add a construct to the data stack. ``models``: the bucket of models."""

    def add_to_models(self, stack: TenantStack, foundation: Foundation) -> None:
        """Add a construct to the models stack."""

    def add_to_orchestrator(self, stack: TenantStack, beside: BesideTheService) -> None:
        """Add a construct to the orchestrator stack."""

    def alarms(self, tenant_alarms: TenantAlarms) -> Iterable[cloudwatch.Alarm]:
        """Create alarms by ``TenantAlarms.add``."""
        return ()

    def log_groups(self, tenant: DeployedTenant) -> Iterable[str]:
        """Return names of log groups that the patterns of ``stacks.keys`` do not cover."""
        return ()

    def images(self, tenant: DeployedTenant) -> Sequence[str]:
        """Return names of images that the option's stacks start."""
        return ()

    def fill_in(self, tenant: DeployedTenant, data: dict[str, Any]) -> None:
        """Fill in, in the tables of a container's tenant file, values that the deployment knows."""

    def task_statements(self, scope: Construct, tenant: DeployedTenant) -> Sequence[iam.PolicyStatement]:
        """Return what the service's task may do more."""
        return ()

    def actions(self, tenant: DeployedTenant) -> Sequence[str]:
        """Return actions of the tenant's roles on what AWS owns, such as models of Bedrock. Its resources are
        in no account of the company's, and may be in any region."""
        return ()


def option_stacks() -> list[OptionStacks]:
    return joined(lambda option: option.stacks())
