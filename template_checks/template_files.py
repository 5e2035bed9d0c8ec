"""The templates of an assembly that ``cdk synth`` wrote, as their files have them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from template_checks import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """One template; ``name`` is its stack's. ``account`` and ``region`` are None if unknown."""

    name: str
    path: Path
    document: Mapping[str, Any]
    account: str | None = None
    region: str | None = None

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a top-level section (``Resources``, ``Parameters``…); empty if absent."""
        found = self.document.get(name)
        return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def read_templates(folders: Iterable[Path]) -> list[Template]:
    """Read every template of assemblies (``cdk.out/assembly-Pharmacy``).

    Raises InvalidInputError naming a folder without a manifest, or a file that is not JSON.
    """
    return [template for folder in folders for template in _templates_of(folder)]


def _templates_of(folder: Path) -> Iterator[Template]:
    for artifact in _document(folder / "manifest.json").get("artifacts", {}).values():
        if artifact.get("type") != "aws:cloudformation:stack":
            continue
        path = folder / artifact["properties"]["templateFile"]
        account, _, region = str(artifact.get("environment", "")).removeprefix("aws://").partition("/")
        yield Template(
            name=str(artifact["properties"]["stackName"]),
            path=path,
            document=_document(path),
            account=account if account.isdigit() else None,
            region=None if region.startswith("unknown") else region or None,
        )


def _document(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read: {error}. Name an assembly of cdk synth: cdk.out/assembly-Pharmacy."
        ) from None
    except ValueError as error:
        raise InvalidInputError(f"{path}: not valid JSON: {error}") from None
