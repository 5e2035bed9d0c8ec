"""Makes every tenant's tables, buckets and queues on an emulator of AWS, and prints the environment for them.

``python -m tools.emulated_aws --url http://127.0.0.1:5000`` makes what is missing and prints
variables for the service and the worker, beside the local gateway, issuer and model artifacts.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.aws.clients import open_client
from assistant.aws.local_resources import create_documents_bucket, create_queue, create_table
from assistant.domain.errors import AssistantError
from assistant.local.processes import HOST
from assistant.settings.deployed_names import TABLES
from assistant.settings.process import LocalSettings, ServiceSettings, WorkerSettings
from assistant.settings.tenant import load_tenants

_QUEUES = ("documents", "withdrawals")


@dataclass(frozen=True, slots=True)
class EmulatedAws:
    """The resources of all tenants on one emulator, named after the tenants."""

    url: str
    region: str
    queues: str
    """URL of a tenant's queue without its role at the end, with ``{tenant}`` in it."""

    def settings(self) -> dict[str, str]:
        """Return the settings that the service and the worker share."""
        return {
            "stores": "aws",
            "aws_endpoint_url": self.url,
            "region": self.region,
            "documents_bucket": "{tenant}-documents",
            "states_table": "{tenant}-states",
            "desk_table": "{tenant}-desk",
            "ingestion_queue_url": f"{self.queues}-documents",
            "withdrawals_queue_url": f"{self.queues}-withdrawals",
        }

    def answer_settings(self) -> dict[str, str]:
        """Return the settings that only the service has."""
        return {"records_table": "{tenant}-records", "events_table": "{tenant}-events"}


async def make_resources(url: str, tenants: Sequence[str], *, region: str = "us-east-1") -> EmulatedAws:
    """Make each tenant's bucket, tables and queues unless they exist; at least one tenant."""
    queue_url = ""
    async with (
        open_client("s3", region=region, endpoint_url=url) as s3,
        open_client("dynamodb", region=region, endpoint_url=url) as dynamodb,
        open_client("sqs", region=region, endpoint_url=url) as sqs,
    ):
        for tenant in tenants:
            await create_documents_bucket(s3, bucket=f"{tenant}-documents")
            for table in TABLES:
                await create_table(dynamodb, table, name=f"{tenant}-{table.role}")
            for queue in _QUEUES:
                queue_url = await create_queue(sqs, name=f"{tenant}-{queue}")
    account_url = queue_url.rpartition("/")[0]
    return EmulatedAws(url, region, queues=f"{account_url}/{{tenant}}")


def environment(aws: EmulatedAws, *, tenants_dir: Path, state_dir: Path) -> dict[str, str]:
    """Return the variables of both processes beside what ``assistant tenant up`` runs."""
    local = LocalSettings.read()
    issuer = f"http://{HOST}:{local.port + 1}"
    shared = aws.settings() | {
        "tenants_dir": str(tenants_dir.resolve()),
        "state_dir": str(state_dir.resolve()),
        "model_artifacts_dir": str(state_dir.resolve() / "models"),
        "sagemaker_endpoint_url": f"http://{HOST}:{local.port + 2}",
        "search": "opensearch",
        "opensearch_url": local.opensearch_url,
        "opensearch_auth": "none",
    }
    service = shared | aws.answer_settings() | {"issuer": issuer, "jwks_url": f"{issuer}/jwks.json"}
    worker = shared | {"opensearch_applies_schema": "true"}
    named = {ServiceSettings.variable(name): value for name, value in service.items()}
    return named | {WorkerSettings.variable(name): value for name, value in worker.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True, help="base URL of the emulator")
    parser.add_argument("--tenants", type=Path, default=Path("tenants"), metavar="DIR")
    parser.add_argument("--state", type=Path, default=Path(".state"), metavar="DIR")
    given = parser.parse_args()
    try:
        aws = asyncio.run(make_resources(given.url, list(load_tenants(given.tenants).tenants)))
        variables = environment(aws, tenants_dir=given.tenants, state_dir=given.state)
    except AssistantError as error:
        print(error.message, file=sys.stderr)
        return 1
    for name, value in variables.items():
        print(f"{name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
