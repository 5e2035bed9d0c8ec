"""The delivery workflow: judged before it is deployed, no lasting credentials, a reviewer before hipaa."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stacks.delivery_roles import GITHUB_ROLES, JOBS, OF_ACCOUNT, WORKFLOW, read_template
from tests.stacks.synthesized import ROOT
from tests.stage.servers import http_pages
from tests.stage.tenant_files import committed_tenant
from tools.tenant_matrix import matrix, waves

TEXTS = [file.read_text(encoding="utf-8") for file in (WORKFLOW, OF_ACCOUNT)]
WORKFLOWS = pytest.mark.parametrize("name", ["deliver.yml", "deliver-account.yml", "night.yml"])


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job].get("steps", ()))


def test_known_advisories_end_a_delivery_before_anything_is_judged_or_deployed() -> None:
    """Of each lock, of Python and Node. CI here has no database of advisories."""
    assert "make advisories" in commands("proof").splitlines()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^advisories:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert "npm audit --package-lock-only" in recipe
    assert "pip-audit --require-hashes" in recipe
    for lock in ("service", "worker", "model", "functions", "lambda", "corpus", "local", "training_job"):
        assert re.search(rf"\b{lock}\b", recipe), lock


@WORKFLOWS
def test_no_job_that_runs_packages_can_write_to_the_repository(name: str) -> None:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(WORKFLOW.with_name(name).read_text(encoding="utf-8"))[
        "jobs"
    ]
    for job in jobs.values():
        steps = job.get("steps", ())
        if "make " in "\n".join(step.get("run", "") for step in steps):
            assert job.get("permissions", {}).get("contents") != "write"
            checkouts = [step for step in steps if "checkout" in step.get("uses", "")]
            assert [step.get("with", {}).get("persist-credentials") for step in checkouts] == [False]


def test_what_is_deployed_was_judged_first() -> None:
    """By the gate of a company's files: the product's own tests judge the product, in its CI."""
    assert "make check-company" in commands("proof").splitlines()
    assert "make check" not in commands("proof").splitlines()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (asked,) = re.findall(r"^check: (.*?) ##", makefile, re.MULTILINE)
    gates = {"lint", "typecheck", "check-templates", "check-company", "check-stacks", "test-browser"}
    gates |= {"test", "test-processes", "test-node", "test-options"}
    assert set(asked.split()) >= gates
    assert JOBS["diff"]["needs"] == JOBS["first"]["needs"] == "proof"
    assert JOBS["accounts"]["needs"] == ["proof", "first"]


@pytest.mark.parametrize(
    ("require", "accept", "said"),
    [
        ("", "", "deploy --tenant a -- "),
        ("yes", "", "--tenant a --require -- "),
        ("", "a-Data/Old  a-Old", "--tenant a --accept a-Data/Old --accept a-Old -- "),
    ],
)
def test_a_delivery_refuses_what_could_not_be_asked_and_accepts_what_was_reviewed_where_it_is_told(
    require: str, accept: str, said: str
) -> None:
    (step,) = [step for step in JOBS["deploy"]["steps"] if "aws deploy" in step.get("run", "")]
    assert step["env"]["REQUIRE"] == "${{ vars.REQUIRE }}"
    assert step["env"]["ACCEPT"] == "${{ inputs.accept }}"
    command = step["run"].replace(".venv/bin/assistant", "echo")
    given = {"TENANT": "a", "REQUIRE": require, "ACCEPT": accept}
    done = subprocess.run(["bash", "-eu", "-c", command], env=given, capture_output=True, check=True)
    assert said in done.stdout.decode()


def test_actions_of_others_are_pinned_by_commit() -> None:
    used = [name for text in TEXTS for name in re.findall(r"uses: (\S+)", text)]
    others = [name for name in used if name != f"./.github/workflows/{OF_ACCOUNT.name}"]
    assert others
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name) for name in others)


def test_no_job_holds_a_lasting_credential() -> None:
    for text in TEXTS:
        assert "secrets" not in text
        assert "AWS_SECRET" not in text
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert JOBS["proof"].get("permissions") is None


def test_a_stranger_s_pull_request_gets_no_token() -> None:
    assert "head.repo.full_name == github.repository" in JOBS["diff"]["if"]
    for job in ("first", "accounts", "deploy"):
        assert "github.event_name != 'pull_request' && github.ref == 'refs/heads/main'" in JOBS[job]["if"]


def test_no_expression_stands_in_a_command() -> None:
    """A branch or tenant name must not become a command."""
    assert [job for job in JOBS if "${{" in commands(job)] == []


def test_a_hipaa_tenant_waits_in_an_environment_of_its_own() -> None:
    rows = {row["tenant"]: row for row in matrix(ROOT / "tests/tenants")}
    assert rows["pharmacy"]["environment"] == "hipaa-pharmacy"
    assert rows["sandbox"]["environment"] == "sandbox"
    assert JOBS["deploy"]["environment"] == "${{ matrix.environment }}"


def test_only_the_tenants_that_were_named_are_deployed(tmp_path: Path) -> None:
    for name in ("clinic", "pharmacy", "sandbox"):
        (tmp_path / f"{name}.toml").write_text(committed_tenant(name))
    rows = matrix(tmp_path, only="sandbox, pharmacy")
    assert [row["tenant"] for row in rows] == ["sandbox", "pharmacy"]
    (asks,) = [step for step in JOBS["proof"]["steps"] if "tenant_matrix" in step.get("run", "")]
    assert asks["env"]["ONLY"] == "${{ inputs.tenants || vars.TENANTS }}"


def files_of(folder: Path, **accounts: str) -> Path:
    """Write the sandbox's file under other names, each in its account."""
    for name, account in accounts.items():
        text = committed_tenant("sandbox").replace("111122223333", account).replace("sandbox", name)
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_a_first_tenant_is_delivered_alone_then_all_accounts_at_once(tmp_path: Path) -> None:
    one, two = "1" * 12, "2" * 12
    folder = files_of(tmp_path, ada=one, bea=one, cleo=two, dora=one, edna=two)
    (tmp_path / "clinic.toml").write_text(committed_tenant("clinic").replace("111122223333", two))
    (first,), accounts = waves(matrix(folder))
    named = {each["account"]: [row["tenant"] for row in json.loads(each["tenants"])] for each in accounts}
    assert (first["tenant"], named) == ("ada", {one: ["bea", "dora"], two: ["cleo", "edna", "clinic"]})
    (first,), accounts = waves(matrix(folder, only="clinic bea"))
    assert (first["tenant"], [each["account"] for each in accounts]) == ("clinic", [one])
    assert waves([]) == ([], [])


def test_waves_are_what_the_command_prints() -> None:
    proof, outputs = JOBS["proof"], ("first", "accounts")
    command = [sys.executable, "-m", "tools.tenant_matrix", "--tenants", "tests/tenants"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    printed = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert list(printed) == list(proof["outputs"]) == ["tenants", *outputs]
    first, accounts = (json.loads(printed[name]) for name in outputs)
    assert (first, accounts) == waves(matrix(ROOT / "tests/tenants"))
    for name, told in proof["outputs"].items():
        assert told == f"${{{{ steps.tenants.outputs.{name} }}}}"
    assert JOBS["first"]["with"]["tenants"] == "${{ needs.proof.outputs.first }}"
    assert (
        JOBS["accounts"]["strategy"]["matrix"]["include"] == "${{ fromJson(needs.proof.outputs.accounts) }}"
    )
    assert JOBS["accounts"]["with"]["tenants"] == "${{ matrix.tenants }}"
    for name in outputs:  # an empty matrix is an error
        assert f"needs.proof.outputs.{name} != '[]'" in JOBS[name]["if"]
        assert JOBS[name]["uses"] == f"./.github/workflows/{OF_ACCOUNT.name}"
        assert JOBS[name]["with"]["accept"] == "${{ inputs.accept || '' }}"
        assert JOBS[name]["permissions"] == JOBS["deploy"]["permissions"]


def test_tenants_of_an_account_go_one_by_one_and_accounts_at_once() -> None:
    tenants, accounts = JOBS["deploy"]["strategy"], JOBS["accounts"]["strategy"]
    assert tenants["matrix"]["include"] == "${{ fromJson(inputs.tenants) }}"
    assert (tenants["max-parallel"], tenants["fail-fast"]) == (1, True)
    # Else a failure would end what another account is in the middle of.
    assert ("max-parallel" in accounts, accounts["fail-fast"]) == (False, False)


@pytest.mark.parametrize(
    ("conclusion", "status"), [("failure", 1), ("cancelled", 1), ("success", 0), (None, 0)]
)
def test_no_tenant_begins_once_one_has_failed(tmp_path: Path, conclusion: str | None, status: int) -> None:
    """By a stand-in for the command line of the host, which filters a run's jobs as the workflow says."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not on this machine")
    step = JOBS["deploy"]["steps"][0]
    jobs = [{"name": "bea", "conclusion": "success"}, {"name": "ada", "conclusion": conclusion}]
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": jobs}))
    (tmp_path / "gh").write_text(
        '#!/bin/sh\n[ "$3" = "repos/org/repo/actions/runs/7/jobs?per_page=100" ] || exit 9\n'
        f'exec jq -r "$5" {tmp_path}/jobs.json\n'
    )
    (tmp_path / "gh").chmod(0o755)
    given = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GITHUB_REPOSITORY": "org/repo",
        "GITHUB_RUN_ID": "7",
    }
    done = subprocess.run(["bash", "-eu", "-c", step["run"]], env=given, capture_output=True, check=False)
    assert (done.returncode, b"ada" in done.stdout) == (status, bool(status))
    assert JOBS["deploy"]["permissions"]["actions"] == "read"


def minutes(job: str) -> int:
    return int(JOBS[job]["timeout-minutes"])


@pytest.mark.parametrize("job", ["diff", "deploy"])
def test_the_token_is_renewed_for_as_long_as_the_job_lasts(job: str) -> None:
    assert f"oidc_token.sh {minutes(job)}" in commands(job)
    assert JOBS[job]["permissions"]["id-token"] == "write"
    (ending,) = (step for step in JOBS[job]["steps"] if "oidc_token.sh end" in step.get("run", ""))
    assert ending["if"] == "always()"


class Issuer:
    """GitHub's side: a token a request, ``token 1``, ``token 2``, … Some requests are refused."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.address = ""
        self.refused: set[int] = set()
        self.paths: list[str] = []
        self.found: list[str] = []
        """What stood in the file when each request came."""
        self.many = threading.Event()
        self.pipe = os.pipe()
        """The second end is open for as long as anything of the script runs."""

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        status, said = self.answer(request.path, request.headers["Authorization"])
        request.send_response(status)
        request.end_headers()
        request.wfile.write(said)

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        file = self.home / "aws-token"
        self.found.append(file.read_text() if file.exists() else "")
        self.paths.append(path)
        count = len(self.paths)
        if count >= 5:
            self.many.set()
        if authorization != "bearer request-token" or count in self.refused:
            return 403, b"{}"
        return 200, json.dumps({"value": f"token {count}"}).encode()

    def run(self, argument: str, *, granted: bool = True) -> int:
        environment = os.environ | {
            "RUNNER_TEMP": str(self.home),
            "GITHUB_ENV": str(self.home / "env"),
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token" if granted else "another",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.address}/token?v=1",
            "NO_PROXY": "127.0.0.1",
            "OIDC_PAUSE_S": "0.02",
        }
        done = subprocess.run(
            [ROOT / ".github/oidc_token.sh", argument],
            env=environment,
            timeout=60,
            check=False,
            pass_fds=[self.pipe[1]],
        )
        return done.returncode

    def wait_for_its_end(self) -> None:
        """Return once the last process that holds the second end is gone."""
        os.close(self.pipe[1])
        assert os.read(self.pipe[0], 1) == b""
        os.close(self.pipe[0])


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    issuer = Issuer(tmp_path)
    with http_pages(issuer.respond) as issuer.address:
        yield issuer


@pytest.mark.loopback
def test_the_token_is_where_the_sdks_look(tmp_path: Path, issuer: Issuer) -> None:
    assert issuer.run("0") == 0
    issuer.wait_for_its_end()
    (line,) = (tmp_path / "env").read_text().splitlines()
    name, _, file = line.partition("=")
    assert name == "AWS_WEB_IDENTITY_TOKEN_FILE"
    assert Path(file).read_text() == "token 1"
    assert issuer.paths == ["/token?v=1&audience=sts.amazonaws.com"]


@pytest.mark.loopback
def test_without_a_token_the_job_ends(tmp_path: Path, issuer: Issuer) -> None:
    assert issuer.run("360", granted=False) != 0
    issuer.wait_for_its_end()
    assert len(issuer.paths) == 1
    assert not (tmp_path / "env").exists()


@pytest.mark.loopback
def test_the_token_is_written_anew_every_four_minutes_of_the_job(tmp_path: Path, issuer: Issuer) -> None:
    assert issuer.run("12") == 0
    issuer.wait_for_its_end()
    assert issuer.found == ["", "token 1", "token 2", "token 3"]
    assert (tmp_path / "aws-token").read_text() == "token 4"


@pytest.mark.loopback
def test_a_renewal_that_fails_leaves_the_token_and_is_tried_again(tmp_path: Path, issuer: Issuer) -> None:
    issuer.refused = {2}
    assert issuer.run("8") == 0
    issuer.wait_for_its_end()
    assert issuer.found == ["", "token 1", "token 1"]
    assert (tmp_path / "aws-token").read_text() == "token 3"


@pytest.mark.loopback
def test_the_end_of_the_job_ends_it(issuer: Issuer) -> None:
    assert issuer.run("1000000") == 0
    assert issuer.many.wait(30)
    assert issuer.run("end") == 0
    issuer.wait_for_its_end()


ROLES: dict[str, Any] = read_template(GITHUB_ROLES)
GITHUB = "token.actions.githubusercontent.com"


def statements(role: str) -> list[dict[str, Any]]:
    (policy,) = ROLES["Resources"][role]["Properties"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


def allowed(role: str) -> set[str]:
    found: set[str] = set()
    for statement in statements(role):
        action = statement["Action"]
        found |= {action} if isinstance(action, str) else set(action)
    return found


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("DeployRole", "repo:${Repository}:environment:${Environment}"),
        ("DiffRole", "repo:${Repository}:pull_request"),
    ],
)
def test_a_role_trusts_one_subject_of_one_repository(role: str, subject: str) -> None:
    (trust,) = ROLES["Resources"][role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert trust["Condition"] == {
        "StringEquals": {f"{GITHUB}:aud": "sts.amazonaws.com", f"{GITHUB}:sub": subject}
    }


@pytest.mark.parametrize("parameter", ["Repository", "Environment"])
def test_whom_a_role_trusts_is_said_by_who_deploys_it_and_has_no_wildcard(parameter: str) -> None:
    asked = ROLES["Parameters"][parameter]
    assert "Default" not in asked
    for value in ("*", "org/*", "org/repo:*", "pharmacy*"):
        assert not re.fullmatch(asked["AllowedPattern"], value)


def test_a_pull_request_may_change_nothing() -> None:
    """That each role may make each call of its command: tests/stacks/test_deploy_command.py."""
    reads = ("Describe", "Get", "List")
    assert [action for action in allowed("DiffRole") if not action.partition(":")[2].startswith(reads)] == []


def test_a_deployment_acts_by_the_bootstrap_s_roles_alone() -> None:
    (assumed,) = (one["Resource"] for one in statements("DeployRole") if one["Action"] == "sts:AssumeRole")
    assert all(":role/cdk-${Qualifier}-" in one and "*" not in one for one in assumed)
    assert not any("cfn-exec" in one for one in assumed)
