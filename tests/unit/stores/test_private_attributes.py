"""The private attributes of botocore and opensearch-py that the lean clients read, in the locked versions."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import AsyncHttpConnection

from assistant.process.aws import AwsService, open_client

LOCK = Path(__file__).parents[3] / "requirements" / "service.txt"


@pytest.mark.parametrize("package", ["aiobotocore", "botocore", "opensearch-py"])
def test_the_installed_version_is_the_locked_one(package: str) -> None:
    found = re.search(rf"^{package}==(\S+)", LOCK.read_text(), re.MULTILINE)
    assert found is not None
    assert version(package) == found[1]


@pytest.mark.parametrize(
    ("service", "signing_name"), [("dynamodb", "dynamodb"), ("sagemaker-runtime", "sagemaker")]
)
async def test_a_client_has_its_credentials_and_endpoint(service: AwsService, signing_name: str) -> None:
    url = "http://127.0.0.1:9"
    async with open_client(
        service, region="us-east-1", endpoint_url=url, access_key_id="key", secret_access_key="secret"
    ) as client:
        frozen: Any = await client._request_signer._credentials.get_frozen_credentials()
        assert (frozen.access_key, frozen.secret_key, frozen.token) == ("key", "secret", None)
        assert client.meta.endpoint_url == url
        assert client.meta.region_name == "us-east-1"
        assert client.meta.service_model.signing_name == signing_name


async def test_an_opensearch_connection_signs_with_its_own_attribute() -> None:
    def sign(*_: object) -> dict[str, str]:
        return {}

    connection = AsyncHttpConnection(http_auth=sign)
    assert connection._http_auth is sign
    await connection.close()
