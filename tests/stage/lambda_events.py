"""Events as Lambda gives them, and its context."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Context:
    """Lambda's context, as far as it is used."""

    remaining_ms: int = 60_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


def sqs_event(queue_name: str, bodies: Sequence[str], *, attempt: int = 1) -> dict[str, Any]:
    """Return a batch as an event source mapping passes it on."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": uuid.uuid4().hex,
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": str(attempt),
                    "SentTimestamp": "1763640000000",
                    "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                    "ApproximateFirstReceiveTimestamp": "1763640000001",
                },
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{queue_name}",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def object_created(bucket: str, key: str, *, version: str | None = None) -> str:
    """Return an event of S3 as EventBridge puts it into a queue, of a bucket with versions or without."""
    versions = {} if version is None else {"version-id": version}
    return json.dumps(
        {
            "version": "0",
            "id": "17793124-05d4-b198-2fde-7ededc63b103",
            "detail-type": "Object Created",
            "source": "aws.s3",
            "account": "123456789012",
            "time": "2026-11-20T12:00:00Z",
            "region": "us-east-1",
            "resources": [f"arn:aws:s3:::{bucket}"],
            "detail": {
                "version": "0",
                "bucket": {"name": bucket},
                "object": {"key": key, "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184", **versions},
                "request-id": "N4N7GDK58NMKJ12R",
                "requester": "123456789012",
                "source-ip-address": "192.0.2.1",
                "reason": "PutObject",
            },
        }
    )


def custom_resource(
    kind: str, request: str, *, response_url: str, physical_id: str | None = None, **properties: Any
) -> dict[str, Any]:
    """Return what CloudFormation asks of the function behind a custom resource."""
    event: dict[str, Any] = {
        "RequestType": request,
        "ServiceToken": "arn:aws:lambda:us-east-1:123456789012:function:any",
        "ResponseURL": response_url,
        "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/assistant-clinic-Ingestion/guid",
        "RequestId": "request-1",
        "ResourceType": kind,
        "LogicalResourceId": "MyResource",
        "ResourceProperties": {"ServiceToken": "arn", **properties},
    }
    if physical_id is not None:
        event["PhysicalResourceId"] = physical_id
    return event
