"""The evaluator is a separate program that nothing imports, as its licence requires (decision 0016)."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


def test_its_lock_pins_by_hash_and_holds_no_address() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert packages
    assert all("integrity" in entry and "resolved" not in entry for entry in packages)


def test_no_part_of_the_product_knows_it() -> None:
    sources = [
        path
        for room in ("assistant", "stacks", "lambdas", "containers", "model_artifacts")
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".ts", ".tsx", ".mjs", ".toml", ".json")
        and "node_modules" not in path.parts
    ]
    sources += [ROOT / "package.json", ROOT / "package-lock.json", ROOT / "pyproject.toml"]
    assert len(sources) > 200
    naming = [
        path for path in sources if "cloud-copilot" in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert naming == []
