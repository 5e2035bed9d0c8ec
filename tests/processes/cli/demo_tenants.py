"""A folder with the demo's tenants: their own tenant files, and some knowledge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from shop import Shop

from tests.fakes.tenant_files import checkout_tenant

CHECKOUT = Path(__file__).parents[3]
KNOWLEDGE = CHECKOUT / "knowledge"
COLD = "# Cold delivery\n\nWhen a delivery that must stay cold arrives warm, keep it closed and call 4300.\n"
PROCEDURES = ("order-and-refill-status", "refill-too-soon-standard", "delivery-late-or-missing")
"""The procedures that name live values."""
ITEMS = "HU-"
"""Ids of the humidifiers, two of which the demo compares."""
CLINIC_LINES = 5


def open_demo(folder: Path, *, whole: bool = False) -> Shop:
    """Return a folder with the demo's tenants; ``whole`` takes all knowledge of pharmacy and shop, else a
    small part. Of the clinic it is always a part."""
    (folder / "tenants").mkdir()
    for tenant in ("pharmacy", "shop", "clinic"):
        (folder / "tenants" / f"{tenant}.toml").write_text(checkout_tenant(tenant), encoding="utf-8")
    if whole:
        for tenant in ("pharmacy", "shop"):
            shutil.copytree(KNOWLEDGE / tenant, folder / "knowledge" / tenant)
    else:
        _copy_a_part(folder / "knowledge")
        (folder / "knowledge" / "pharmacy" / "cold.md").write_text(COLD)
    lines = (KNOWLEDGE / "clinic" / "medquad.jsonl").read_text(encoding="utf-8").splitlines()[:CLINIC_LINES]
    (folder / "knowledge" / "clinic").mkdir()
    (folder / "knowledge" / "clinic" / "medquad.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Shop(folder)


def _copy_a_part(folder: Path) -> None:
    """Copy the procedures with live values, and the documents about humidifiers."""
    (folder / "pharmacy").mkdir(parents=True)
    (folder / "shop").mkdir()
    for name in PROCEDURES:
        shutil.copy(KNOWLEDGE / "pharmacy" / f"{name}.md", folder / "pharmacy")
    shutil.copy(KNOWLEDGE / "shop" / "help.jsonl", folder / "shop")
    for name in ("catalogue", "reviews", "community"):
        lines = (KNOWLEDGE / "shop" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["id"].startswith(ITEMS)]
        (folder / "shop" / f"{name}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
