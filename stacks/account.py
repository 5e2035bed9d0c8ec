"""The account stage: what stands once in an account and region, for all tenants in it."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from constructs import Construct

from stacks.tenant import DeployedTenant


class AccountStage(cdk.Stage):
    @classmethod
    def for_places(cls, scope: Construct, tenants: Sequence[DeployedTenant]) -> list[AccountStage]:
        """Make one stage for each account and region that the tenants stand in."""
        del scope, tenants
        return []
