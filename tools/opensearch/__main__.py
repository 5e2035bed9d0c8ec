"""``python -m tools.opensearch up|down|status|fetch``: one node on this machine, of Maven's packages.

``fetch`` only gets its files. By Docker: ``docker compose -f containers/opensearch/compose.yaml up --wait``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assistant.domain.errors import AssistantError
from assistant.process.settings import ProcessSettings
from tools.opensearch.artifacts import Distribution
from tools.opensearch.node import LocalNode


class OpenSearchNodeSettings(ProcessSettings):
    """The local OpenSearch node."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_OPENSEARCH_")

    port: int = Field(default=9200, ge=0, le=65535)
    """0 chooses a free one."""
    heap_mib: int = Field(default=768, ge=256)
    state_dir: Path = Path(".state/opensearch")
    """Data, log and pid file."""
    build_dir: Path = Path("build/opensearch")
    """What was fetched and unpacked; it may be kept between checkouts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("up", "down", "status", "fetch"))
    action = parser.parse_args().action
    try:
        settings = OpenSearchNodeSettings.read()
        distribution = Distribution(settings.build_dir)
        if action == "fetch":
            distribution.ensure(_say)
            return
        node = LocalNode(settings.state_dir, distribution, port=settings.port, heap_mib=settings.heap_mib)
        if action == "up":
            print(f"OpenSearch answers at {node.up(_say)}")
        elif action == "down":
            print("stopped" if node.down() else "nothing ran")
        else:
            print(node.running() or "not running")
    except AssistantError as error:
        sys.exit(error.message)


def _say(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
