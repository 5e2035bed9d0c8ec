"""The CDK application: which stages it holds, and which validators check them.

``cdk.json`` starts ``app.py``, which calls ``build``. Context keys (``cdk synth -c stage=account -c
tenant=pharmacy``):

- ``stage``: ``account``, ``care_app``, or absent for the tenants' own stages; ``every``: all of them, to be
  judged and not deployed, because CDK does not order stages.
- ``tenant``: only this tenant, by name; absent: all.
- ``tenants``, ``images``, ``accounts``, ``care_app``: other places than ``tenants/``, ``images.lock.toml``,
  ``accounts/`` and ``care_app/`` of the checkout.

A stage's modules are imported only when the stage is requested, because imports take most of the time of a
synth.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import load_compatibility
from stacks.tenant import ROOT, DeployedTenant, read_tenants

_VALIDATION = "CDK_VALIDATION"
"""Variable that ``cdk synth --no-validation`` sets to ``false``. It switches off the CDK's own rules only, so
``build`` reads it for the packs of cdk-nag."""


def build(context: Mapping[str, Any] | None = None) -> cdk.App:
    """Make the application. ``context`` replaces that of the command line, in tests. Raises
    ConfigurationError naming file and key."""
    app = cdk.App(context=None if context is None else dict(context))
    if os.environ.get(_VALIDATION) != "false":
        from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks

        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), HIPAASecurityChecks(app))
    stage = _context(app, "stage")
    if stage not in _STAGES:
        raise ConfigurationError(f"-c stage={stage}: there is no such stage; allowed: {_ALLOWED}.")
    folder = Path(_context(app, "tenants") or ROOT / "tenants")
    images = Path(_context(app, "images") or ROOT / "images.lock.toml")
    tenants = read_tenants(folder=folder, only=_context(app, "tenant"), images=images)
    if stage == "account" and _context(app, "tenant") is not None:
        # The stages of an account serve all its tenants: without the others they would lose what these need,
        # such as the name prefixes that boundary and trail have.
        accounts = {tenant.place.account for tenant in tenants}
        every = read_tenants(folder=folder, only=None, images=images)
        tenants = [other for other in every if other.place.account in accounts]
    _STAGES[stage](app, tenants)
    return app


def warn_of_ends(made: Path, *, today: date) -> None:
    """Write to standard error which parts of each stage end soon, or are no longer supported. ``made``: the
    folder of the cloud assembly."""
    table = load_compatibility(ROOT / "model_artifacts" / "compatibility.toml")
    for stage in sorted(made.glob("assembly-*")):
        text = "".join(path.read_text(encoding="utf-8") for path in stage.glob("*.template.json"))
        for part in table.ending(text, today=today):
            sys.stderr.write(f"warning: {stage.name.removeprefix('assembly-')}: {part}.\n")


def _add_tenants(app: cdk.App, tenants: Sequence[DeployedTenant]) -> None:
    from stacks.tenant_stage import TenantStage

    for tenant in tenants:
        TenantStage(app, tenant=tenant)


def _add_accounts(app: cdk.App, tenants: Sequence[DeployedTenant]) -> None:
    from stacks.account import AccountStage

    AccountStage.for_places(app, tenants, folder=Path(_context(app, "accounts") or ROOT / "accounts"))


def _add_care_apps(app: cdk.App, tenants: Sequence[DeployedTenant]) -> None:
    from stacks.care_app import CareAppStage

    is_requested = _context(app, "tenant") is not None
    CareAppStage.for_tenants(app, tenants, folder=_care_files(app), is_requested=is_requested)


def _care_files(app: cdk.App) -> Path:
    return Path(_context(app, "care_app") or ROOT / "care_app")


def _add_every_stage(app: cdk.App, tenants: Sequence[DeployedTenant]) -> None:
    _add_tenants(app, tenants)
    _add_accounts(app, tenants)
    if any(_care_files(app).glob("*.toml")):  # not every company has a care side here
        _add_care_apps(app, tenants)


_STAGES: Mapping[str | None, Callable[[cdk.App, Sequence[DeployedTenant]], None]] = {
    None: _add_tenants,
    "account": _add_accounts,
    "care_app": _add_care_apps,
    "every": _add_every_stage,
}
"""What adds stages to the application, by ``-c stage=``; None: each tenant's own stage."""
_ALLOWED = '"account", "care_app", "every"'


def _context(app: cdk.App, key: str) -> str | None:
    """Return a context value as text; None where it is not given."""
    value = app.node.try_get_context(key)
    return None if value is None else str(value)
