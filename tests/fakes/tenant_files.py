"""The committed tenant files, for tests that put a copy into another folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def committed_tenant(name: str) -> str:
    """Return the text of ``tenants/<name>.toml``, with paths of connectors that hold in any folder."""
    text = (ROOT / "tenants" / f"{name}.toml").read_text(encoding="utf-8")
    return text.replace('connector = "', f'connector = "{ROOT}/tenants/')
