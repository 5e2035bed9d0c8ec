"""The delivery workflow: judged before it is deployed, no lasting credentials, a reviewer before hipaa."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from assistant.operations.deployment.tenant_matrix import matrix

ROOT = Path(__file__).parents[3]
FILE = ROOT / ".github/workflows/deliver.yml"
TEXT = FILE.read_text(encoding="utf-8")
JOBS: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["jobs"]


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def test_what_is_deployed_was_judged_first() -> None:
    assert "make synth" in commands("proof")
    assert "make check-stacks" in commands("proof")
    assert JOBS["diff"]["needs"] == JOBS["deploy"]["needs"] == "proof"


def test_every_command_of_it_is_one_of_ours() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in JOBS:
        for target in re.findall(r"make ([a-z-]+)", commands(job)):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_actions_of_others_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (\S+)", TEXT)
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name) for name in used)


def test_no_job_holds_a_lasting_credential() -> None:
    assert "secrets." not in TEXT
    assert "AWS_SECRET" not in TEXT
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}
    assert JOBS["proof"].get("permissions") is None


def test_a_stranger_s_pull_request_gets_no_token() -> None:
    assert "head.repo.full_name == github.repository" in JOBS["diff"]["if"]
    assert "refs/heads/main" in JOBS["deploy"]["if"]


def test_no_expression_stands_in_a_command() -> None:
    """A branch or tenant name must not become a command."""
    assert [job for job in JOBS if "${{" in commands(job)] == []


def test_a_hipaa_tenant_waits_in_an_environment_of_its_own() -> None:
    rows = {row["tenant"]: row for row in matrix(ROOT / "tenants")}
    assert rows["pharmacy"]["environment"] == "hipaa-pharmacy"
    assert rows["sandbox"]["environment"] == "sandbox"
    assert JOBS["deploy"]["environment"] == "${{ matrix.environment }}"


def test_one_tenant_alone_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "sandbox.toml").write_text((ROOT / "tenants/sandbox.toml").read_text())
    (tmp_path / "broken.toml").write_text("broken")
    assert [row["tenant"] for row in matrix(tmp_path, only="sandbox")] == ["sandbox"]


class _Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        granted = self.headers["Authorization"] == "bearer request-token"
        self.send_response(200 if granted else 403)
        self.end_headers()
        self.wfile.write(json.dumps({"value": f"token for {self.path}"}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.mark.loopback
@pytest.mark.parametrize("token", ["request-token", "another"])
def test_the_token_is_where_the_sdks_look(tmp_path: Path, token: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Issuer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_ENV": str(tmp_path / "env"),
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": token,
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.server_port}/token?v=1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run([ROOT / ".github/oidc_token.sh"], env=environment, timeout=60, check=False)
    server.shutdown()
    server.server_close()
    if token == "another":
        assert done.returncode != 0
        assert not (tmp_path / "env").exists()
        return
    (line,) = (tmp_path / "env").read_text().splitlines()
    name, _, file = line.partition("=")
    assert name == "AWS_WEB_IDENTITY_TOKEN_FILE"
    assert Path(file).read_text() == "token for /token?v=1&audience=sts.amazonaws.com"
