"""The CDK application: which stages it holds, and which validators check them.

A stage's modules are imported only when the stage is requested: importing the CDK is most of what a synth
costs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from assistant.domain.errors import ConfigurationError
from stacks.tenant import ROOT, DeployedTenant, read_tenants

_VALIDATION = "CDK_VALIDATION"
"""The CDK's own switch, ``cdk synth --no-validation``: it controls the CDK's rules, and not these packs."""


def build(context: Mapping[str, Any] | None = None) -> cdk.App:
    """Make the application from its context. Raises ConfigurationError naming file and key."""
    app = cdk.App(context=None if context is None else dict(context))
    if os.environ.get(_VALIDATION) != "false":
        from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks

        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), HIPAASecurityChecks(app))
    stage = _context(app, "stage")
    if stage not in _STAGES:
        raise ConfigurationError(f'-c stage={stage}: there is no such stage; allowed: "account", "care_app".')
    folder = Path(_context(app, "tenants") or ROOT / "tenants")
    images = Path(_context(app, "images") or ROOT / "images.lock.toml")
    tenants = read_tenants(folder=folder, only=_context(app, "tenant"), images=images)
    if stage == "account" and _context(app, "tenant") is not None:
        # The others of its place too: what their prefixes need would leave the stack without them.
        places = {(each.place.account, each.place.region) for each in tenants}
        every = read_tenants(folder=folder, only=None, images=images)
        tenants = [each for each in every if (each.place.account, each.place.region) in places]
    _STAGES[stage](app, tenants)
    return app


def _add_tenants(app: cdk.App, tenants: Sequence[DeployedTenant]) -> None:
    from stacks.tenant_stage import TenantStage

    for tenant in tenants:
        TenantStage(app, tenant=tenant)


def _add_accounts(app: cdk.App, tenants: Sequence[DeployedTenant]) -> None:
    from stacks.account import AccountStage

    AccountStage.for_places(app, tenants, folder=Path(_context(app, "accounts") or ROOT / "accounts"))


def _add_care_apps(app: cdk.App, tenants: Sequence[DeployedTenant]) -> None:
    from stacks.care_app import CareAppStage

    folder = Path(_context(app, "care_app") or ROOT / "care_app")
    CareAppStage.for_tenants(app, tenants, folder=folder, is_requested=_context(app, "tenant") is not None)


_STAGES: Mapping[str | None, Callable[[cdk.App, Sequence[DeployedTenant]], None]] = {
    None: _add_tenants,
    "account": _add_accounts,
    "care_app": _add_care_apps,
}
"""By ``-c stage=``; None: the tenants' stages."""


def _context(app: cdk.App, key: str) -> str | None:
    value = app.node.try_get_context(key)
    return None if value is None else str(value)
