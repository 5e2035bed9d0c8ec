"""Each program of examples/, as its page says to run it, against real local processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.cli.conftest import Shop, open_shop
from tests.stage.servers import answers, serving
from tests.stage.tenant_files import checkout_tenant

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = open_shop(tmp_path_factory.mktemp("examples"))
    (shop.folder / "tenants" / "pharmacy.toml").write_text(checkout_tenant("pharmacy"))
    shop.run("tenant", "up")  # else each command starts and stops what it needs: 3 to 6 s of CPU each time
    yield shop
    shop.run("tenant", "down")


def run(shop: Shop, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=shop.folder,
        env=os.environ | {"PATH": path, "CI": "", "PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def own_documents(folder: Shop) -> str:
    done = run(folder, "bash", str(EXAMPLES / "own_documents.sh"))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_own_documents_are_answered_from_until_they_are_withdrawn(own_documents: str) -> None:
    before, after = own_documents.split("== asked again", 1)
    assert "two hours" in before, before
    assert "two hours" not in after


@pytest.mark.parametrize(
    ("program", "shown"),
    [("typed_client.py", "marked good"), ("openai_client.py", "-- Help desk")],
)
def test_a_client_asks_the_running_service(folder: Shop, program: str, shown: str) -> None:
    folder.run("knowledge", "add", "--tenant", "shop")
    up = folder.run("tenant", "up", "--json")
    address = next(row["address"] for row in json.loads(up)["processes"] if row["name"] == "service")
    token = folder.run("tenant", "token", "--tenant", "shop", "--agent", "ann").strip()
    done = run(
        folder,
        *(sys.executable, str(EXAMPLES / program), "When does the help desk answer the phone?"),
        ASSISTANT_URL=address,
        ASSISTANT_TOKEN=token,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8:00 to 18:30" in done.stdout
    assert shown in done.stdout


@pytest.mark.night  # tests/processes/model_server/test_served_models.py has the commands
def test_an_own_model_is_used_and_left(folder: Shop, own_documents: str) -> None:
    folder.run("tenant", "down")  # each change of the models would start everything anew
    with serving(answers()) as url:
        done = run(
            folder,
            *("bash", str(EXAMPLES / "own_model.sh")),
            MODEL_URL=url,
            MODEL="tall",
            TENANT="my-shop",
            QUESTION="When do staff ask for leave?",
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tall-at-127-0-0-1" in done.stdout
