"""Secrets of the internal systems that the service calls: created empty, filled by the system's owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from assistant.settings.deployment import ReachEntry
from stacks.network.security_groups import pascal_case
from stacks.roles import TENANT_TAG, exempt_principals
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import pin, removal_of


class SystemSecrets(Construct):
    """One secret for each callable ``[[reach]]`` entry with a token or OAuth credentials, unless the entry
    names a secret of the company's.

    No value is in a template: whoever owns the system puts it and rotates it (docs/runbook.md). A secret
    without a value makes the system's elements fail and nothing else.
    """

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, key_arn: str) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self.arns = {entry.name: self._create(entry, key_arn=key_arn) for entry in tenant.own_secrets}
        """ARN by the system's name."""

    def _create(self, entry: ReachEntry, *, key_arn: str) -> str:
        name = pascal_case(entry.name)
        secret = secretsmanager.CfnSecret(
            self,
            name,
            name=self._tenant.secret_of(entry),
            kms_key_id=key_arn,
            description=f"How the assistant proves itself to {entry.name}; put by the system's owner",
        )
        secret.apply_removal_policy(removal_of(self._tenant))
        pin(secret, f"{name}Secret")
        secretsmanager.CfnResourcePolicy(
            self,
            f"{name}Policy",
            secret_id=secret.ref,
            block_public_policy=True,
            resource_policy=self._policy(),
        )
        return secret.ref

    def _policy(self) -> Mapping[str, Any]:
        """Only roles with the tenant's tag read the value, and roles of another tenant do nothing with the
        secret, whatever policies they have. A system's owner, who puts it, has no such tag."""
        strangers = {
            "StringNotEquals": {TENANT_TAG: self._tenant.name},
            "ArnNotLike": {"aws:PrincipalArn": exempt_principals(self, tenant=self._tenant)},
        }
        others = {**strangers, "Null": {TENANT_TAG: "false"}}
        statements = [
            ("ReadByTenant", "secretsmanager:GetSecretValue", strangers),
            ("RefuseOtherTenants", "secretsmanager:*", others),
        ]
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": sid,
                    "Effect": "Deny",
                    "Principal": {"AWS": "*"},
                    "Action": action,
                    "Resource": "*",
                    "Condition": conditions,
                }
                for sid, action, conditions in statements
            ],
        }
