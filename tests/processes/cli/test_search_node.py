"""With search in OpenSearch, commands ask for the node before they start anything."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.fakes.forked import run_forked

TENANT = 'schema_version = 1\nname = "bakery"\ndisplay_name = "Bakery"\n'


@pytest.mark.parametrize("command", [["demo", "--exit"], ["ask", "--tenant", "bakery", "bread"]])
def test_no_node_is_one_sentence_and_starts_nothing(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "bakery.toml").write_text(TENANT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # free again below, and nobody answers there
    done = run_forked(
        "assistant.cli.main",
        *command,
        folder=tmp_path,
        environment=os.environ
        | {
            "ASSISTANT_LOCAL_SEARCH": "opensearch",
            "ASSISTANT_LOCAL_OPENSEARCH_URL": f"http://127.0.0.1:{port}",
        },
    )
    assert done.returncode == 1
    assert f"No OpenSearch node answers at http://127.0.0.1:{port}; start one" in done.stderr
    assert not (tmp_path / ".state" / "logs").exists()
