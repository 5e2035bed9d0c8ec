"""``python -m tests.stacks.second_embedding DIR``: judges the company with a second embedding model.

The repository has one embedding model, so the company's file stands in a copy of it, in which a second is
planted: the first one's manifest under another name and hash.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.stacks.synthesized import COMPANY, LIMIT_S, ROOT, synthesize
from tests.walk.walking import copy_repository

MODEL, SHIPPED = "tuned", "all-minilm-l6-v2-cpu"


def plant(clone: Path) -> None:
    """Add the second model, and the company as its only tenant, which rolls the model in."""
    models = clone / "model_artifacts/embedding"
    manifest = (models / SHIPPED / "manifest.toml").read_text(encoding="utf-8")
    planted = manifest.replace(f'name = "{SHIPPED}"', f'name = "{MODEL}"').replace(
        "sentence-transformers/all-MiniLM-L6-v2", "acme/tuned"
    )
    (models / MODEL).mkdir()
    (models / MODEL / "manifest.toml").write_text(planted, encoding="utf-8")

    shutil.rmtree(clone / "tenants")
    shutil.copytree(
        ROOT / COMPANY["tenants"], clone / "tenants", ignore=shutil.ignore_patterns("scribe.toml")
    )
    file = clone / "tenants/company.toml"
    text = file.read_text(encoding="utf-8")
    second = '[embedding_next]\nendpoint = "company-embedding-next"\nmodel = "acme/tuned"\n'
    for shown, meant in {
        f'embedding = "{SHIPPED}"\n': f'embedding = "{SHIPPED}"\nembedding_next = "{MODEL}"\n',
        "[generation]\n": f"{second}\n[generation]\n",
    }.items():
        assert shown in text, shown
        text = text.replace(shown, meant)
    file.write_text(text, encoding="utf-8")


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
