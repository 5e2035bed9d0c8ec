"""The account file, ``accounts/<account>-<region>.toml``: what stands once in an account and region.

Without a file everything in it is created. ``existing`` says that a thing of that very name is there already:
made by another region of the account (IAM has no regions), by the company, or by an earlier deployment whose
stack is gone, for nothing here is ever deleted with its stack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from assistant.settings.deployment_sections import DeploymentSection, Region, TagValue
from assistant.settings.strict_file import read_strict

Making = Literal["create", "existing"]


class AccountConfig(DeploymentSection):
    search_service_role: Making = "create"
    """OpenSearch's service-linked role; any domain ever made in the account's console has made it."""
    ecs_service_role: Making = "create"
    """ECS's service-linked role; the first cluster of an account fails while it is being made."""
    ecs_scaling_role: Making = "create"
    """Application Auto Scaling's service-linked role for ECS services."""
    sagemaker_scaling_role: Making = "create"
    """Application Auto Scaling's service-linked role for SageMaker endpoints."""
    log_policy: Making = "create"
    """One CloudWatch Logs resource policy for all search domains' log groups; a region has room for ten."""
    repositories: Making = "create"
    """ECR repositories of our own images."""
    boundary: Making = "create"
    """Managed policy ``<name_prefix>-boundary``, which bounds every role of a tenant."""
    budget_topic: Making = "create"
    """SNS topic ``<name_prefix>-budget``, which every tenant's budget tells."""
    budget_email: str | None = Field(default=None, pattern=r"^[^\s@]+@[^\s@]+$")
    """Who hears of every tenant's budget, beside each tenant's own address."""
    regions: tuple[Region, ...] = ()
    """Other regions of the account with tenants under the same boundary: roles may act in these too."""
    cost_center: TagValue = Field(default="shared", min_length=1)


def load_account(folder: Path, *, account: str, region: str) -> AccountConfig:
    """Read the file of an account and region; the defaults where there is none.

    Raises ConfigurationError naming file, line, key and what is allowed.
    """
    path = folder / f"{account}-{region}.toml"
    return read_strict(path, AccountConfig) if path.exists() else AccountConfig()
