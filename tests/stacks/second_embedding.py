"""``python -m tests.stacks.second_embedding DIR``: judges a tenant with a second embedding model.

The repository has one embedding model, so the tenant stands in a copy of it, in which a second is planted:
the first one's manifest under another name and hash.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.stacks.synthesized import LIMIT_S, ROOT, synthesize
from tests.walk.walking import copy_repository

TENANT, MODEL = "successor", "tuned"
SHIPPED = "all-minilm-l6-v2-cpu"


def plant(clone: Path) -> None:
    """Add the second model and the tenant that rolls it in."""
    models = clone / "model_artifacts/embedding"
    manifest = (models / SHIPPED / "manifest.toml").read_text(encoding="utf-8")
    planted = manifest.replace(f'name = "{SHIPPED}"', f'name = "{MODEL}"').replace(
        "sentence-transformers/all-MiniLM-L6-v2", "acme/tuned"
    )
    (models / MODEL).mkdir()
    (models / MODEL / "manifest.toml").write_text(planted, encoding="utf-8")

    file = (clone / "tenants/pharmacy.toml").read_text(encoding="utf-8")
    second = f'[embedding_next]\nendpoint = "{TENANT}-embedding-next"\nmodel = "acme/tuned"\n'
    for shown, meant in {
        'name = "pharmacy"': f'name = "{TENANT}"',
        '"pharmacy-': f'"{TENANT}-',
        f'embedding = "{SHIPPED}"\n': f'embedding = "{SHIPPED}"\nembedding_next = "{MODEL}"\n',
        "[generation]\n": f"{second}\n[generation]\n",
    }.items():
        assert shown in file, shown
        file = file.replace(shown, meant)
    for other in (clone / "tenants").glob("*.toml"):
        other.unlink()
    (clone / f"tenants/{TENANT}.toml").write_text(file, encoding="utf-8")


def main(assembly: Path) -> int:
    """Validate, and prove what ``make check-templates`` proves of every tenant; return the status."""
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        copy_repository(clone)
        plant(clone)
        context = {"tenants": "tenants", "aws:cdk:enable-path-metadata": "true"}  # findings name constructs
        done = synthesize(assembly, validated=True, source=clone, python=Path(sys.executable), **context)
        if done.returncode == 0:
            proofs = [sys.executable, "-m", "tools.template_proofs", str(assembly)]
            done = subprocess.run(
                proofs, cwd=clone, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
    sys.stderr.write(done.stderr)
    sys.stdout.write(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(ROOT / sys.argv[1]))
