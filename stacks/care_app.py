"""The care side of the private link: in a VPC, and often an account, of its own."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from stacks.tenant import DeployedTenant


class CareAppStage(cdk.Stage):
    def __init__(self, scope: Construct, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, f"CareApp{tenant.name.capitalize()}")
