"""The account file, ``accounts/<account>-<region>.toml``: what stands once in an account and region.

Without a file everything in it is created. ``existing`` says that a thing of that very name is there already:
made by another region of the account (IAM has no regions), by the company, or by an earlier deployment whose
stack is gone, for nothing here is ever deleted with its stack.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment_sections import DeploymentSection, Region, TagValue

Making = Literal["create", "existing"]


class AccountConfig(DeploymentSection):
    search_service_role: Making = "create"
    """OpenSearch's service-linked role; any domain ever made in the account's console has made it."""
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

    Raises ConfigurationError naming file, key and what is allowed.
    """
    path = folder / f"{account}-{region}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return AccountConfig()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    try:
        return AccountConfig.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: " + "; ".join(_explain(error))) from None


def _explain(error: ValidationError) -> list[str]:
    return [
        f"unknown key {item['loc'][0]}; allowed: {', '.join(sorted(AccountConfig.model_fields))}"
        if item["type"] == "extra_forbidden"
        else f"{'.'.join(map(str, item['loc']))}: {item['msg']} (got {item['input']!r})"
        for item in error.errors()
    ]
