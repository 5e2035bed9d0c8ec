"""Roles of what runs inside the tenant's VPC. The VPC's endpoints are derived from what they may call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aws_cdk import aws_iam as iam
from constructs import Construct


class WorkloadRole(iam.Role):
    """A role whose holder has only the VPC's endpoints to reach AWS through.

    Path and boundary come from the stage. ``through`` names services that its platform calls on its behalf
    and no policy shows (``ecr.dkr`` for a task that pulls an image).
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        assumed_by: str,
        description: str,
        through: Sequence[str] = (),
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            assumed_by=cast("iam.IPrincipal", iam.ServicePrincipal(assumed_by)),
            description=description,
        )
        self.platform = assumed_by
        """The service that runs the holder; its own calls with the role go over its own network."""
        self.through = tuple(through)
