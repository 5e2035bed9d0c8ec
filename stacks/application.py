"""The CDK application: which stages it holds, and who validates them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks

from assistant.domain.errors import ConfigurationError
from stacks.account import AccountStage
from stacks.care_app import CareAppStage
from stacks.reading import read_tenants
from stacks.tenant import ROOT
from stacks.tenant_stage import TenantStage


def build(context: Mapping[str, Any] | None = None) -> cdk.App:
    """Make the application from its context. Raises ConfigurationError naming file and key."""
    app = cdk.App(context=None if context is None else dict(context))
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), HIPAASecurityChecks(app))
    tenants = read_tenants(
        folder=Path(_context(app, "tenants") or ROOT / "tenants"),
        only=_context(app, "tenant"),
        images=Path(_context(app, "images") or ROOT / "images.lock.toml"),
    )
    stage = _context(app, "stage")
    if stage not in (None, "account", "care_app"):
        raise ConfigurationError(f'-c stage={stage}: there is no such stage; allowed: "account", "care_app".')
    if stage == "account":
        AccountStage.for_places(app, tenants)
    for tenant in tenants:
        if stage == "care_app":
            CareAppStage(app, tenant=tenant)
        elif stage is None:
            TenantStage(app, tenant=tenant)
    return app


def _context(app: cdk.App, key: str) -> str | None:
    value = app.node.try_get_context(key)
    return None if value is None else str(value)
