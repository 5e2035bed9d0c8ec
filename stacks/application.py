"""The CDK application: which stages it holds, and who validates them."""

from __future__ import annotations

import os
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

_VALIDATION = "CDK_VALIDATION"
"""The CDK's own switch, ``cdk synth --no-validation``: it knows its own rules, and not these packs."""


def build(context: Mapping[str, Any] | None = None) -> cdk.App:
    """Make the application from its context. Raises ConfigurationError naming file and key."""
    app = cdk.App(context=None if context is None else dict(context))
    if os.environ.get(_VALIDATION) != "false":
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
    elif stage == "care_app":
        CareAppStage.for_tenants(
            app,
            tenants,
            folder=Path(_context(app, "care_app") or ROOT / "care_app"),
            is_asked_for=_context(app, "tenant") is not None,
        )
    else:
        for tenant in tenants:
            TenantStage(app, tenant=tenant)
    return app


def _context(app: cdk.App, key: str) -> str | None:
    value = app.node.try_get_context(key)
    return None if value is None else str(value)
