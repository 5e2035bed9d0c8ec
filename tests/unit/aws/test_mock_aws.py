"""Why adapters are tested on moto's server: its mock does not serve aiobotocore (decision 0060)."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from moto import mock_aws

from assistant.aws.clients import AwsService, open_client
from tests.fakes.aws_server import REGION

CALLS: tuple[tuple[AwsService, str, dict[str, Any]], ...] = (
    ("ssm", "get_parameter", {"Name": "/assistant/pharmacy/systems/orders"}),
    ("secretsmanager", "get_secret_value", {"SecretId": "assistant/pharmacy/reach/orders"}),
    ("dynamodb", "list_tables", {}),
    ("s3", "list_buckets", {}),
)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")


@pytest.mark.parametrize(("service", "call", "given"), CALLS, ids=[service for service, _, _ in CALLS])
async def test_the_mock_answers_boto3_and_not_aiobotocore(
    service: AwsService, call: str, given: dict[str, Any]
) -> None:
    with mock_aws():
        by_boto3: Any = boto3.client(service, region_name=REGION)
        if "Name" in given:
            by_boto3.put_parameter(**given, Value="off", Type="String")
        if "SecretId" in given:
            by_boto3.create_secret(Name=given["SecretId"], SecretString="t")
        assert getattr(by_boto3, call)(**given)["ResponseMetadata"]["HTTPStatusCode"] == 200
        async with open_client(service, region=REGION) as client:
            with pytest.raises(TypeError, match="object bytes can't be used in 'await' expression"):
                await getattr(client, call)(**given)
