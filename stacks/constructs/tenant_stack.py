"""The stack of a tenant: its data class as a tag, its description, its protection."""

from __future__ import annotations

from typing import Literal

import aws_cdk as cdk
from constructs import Construct

from stacks.tenant import DeployedTenant

DataClass = Literal["phi", "internal", "public"]
"""What the resources of a stack hold or carry: patients' data; the company's own; nothing of either."""


class TenantStack(cdk.Stack):
    """A stack that knows whose it is.

    ``stateful`` protects it from deletion, and its logical ids are pinned (``stacks/pins``).
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        data_class: DataClass,
        description: str,
        stateful: bool = False,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"{tenant.config.display_name}: {description}",
            termination_protection=stateful,
        )
        self.tenant = tenant
        cdk.Tags.of(self).add("data-class", data_class)
