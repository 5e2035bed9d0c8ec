"""AWS's services by moto, in a process of its own: ``python -m tests.stage.aws_server``.

One server a pytest process, started on first use. It is never reset: tests use names that nobody else
uses, so what one leaves behind is invisible to the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.stage.sagemaker_control import SageMakerControl

REGION = "us-east-1"
EMULATED = "emulated"
"""Access key of commands that tests start."""
URL_VARIABLE = "ASSISTANT_TESTS_AWS_URL"
"""Tells other processes of the same test run where the server is."""
_ROOT = Path(__file__).parents[2]


@contextmanager
def aws_server(calls: Path | None = None) -> Iterator[str]:
    """Start the server on a free port; gives its base URL. It ends with the context, or with us.

    ``calls``: a file that gets the calls by the access key ``EMULATED``.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stage.aws_server", *([str(calls)] if calls else [])],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, f"the AWS emulator ended with {process.wait(10)}"
        yield url
    finally:
        process.kill()
        process.communicate()


def server_url() -> str:
    """Return the server's base URL, in the pytest process or one that it started."""
    return os.environ[URL_VARIABLE]


def _recover_tables() -> None:
    """Let a table come back as it was: by the last backup until that moment, which a test makes then. moto
    restores a table as it is, and knows one restorable moment alone."""
    from moto.dynamodb.models import DynamoDBBackend
    from moto.dynamodb.models.table import RestoredPITTable
    from moto.dynamodb.responses import DynamoHandler

    described = DynamoDBBackend.describe_continuous_backups

    def describe(self: DynamoDBBackend, table_name: str) -> dict[str, Any]:
        found = described(self, table_name)
        window = found["PointInTimeRecoveryDescription"]
        if "LatestRestorableDateTime" in window:
            window["LatestRestorableDateTime"] = time.time()
        return found

    restore_now = DynamoHandler.restore_table_to_point_in_time

    def restore(self: DynamoHandler) -> Any:
        backend, given = self.dynamodb_backend, self.body
        end = given["RestoreDateTime"].replace(tzinfo=None) + timedelta(seconds=1)
        backups = [one for one in backend.backups.values() if one.table.name == given["SourceTableName"]]
        times = {one.creation_date_time.replace(tzinfo=None): one for one in backups}
        restored = restore_now(self)
        if found := [at for at in times if at < end]:
            name, source = given["TargetTableName"], times[max(found)].table
            account, region = backend.account_id, backend.region_name
            table: Any = RestoredPITTable(name, account_id=account, region=region, source=source)
            backend.tables[name] = table
        return restored

    DynamoDBBackend.describe_continuous_backups = describe
    DynamoHandler.restore_table_to_point_in_time = restore


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.responses import S3Response
    from moto.sqs.models import Message, SQSBackend
    from werkzeug.serving import make_server

    from tests.stage.aws_calls import KeptCalls

    serialized = S3Response.serialized

    def dated(self: S3Response, action_result: Any) -> Any:
        """moto begins every multipart upload in 2010."""
        if isinstance(action_result.result, dict):
            for upload in action_result.result.get("Uploads", ()):
                upload["Initiated"] = datetime.now(UTC).isoformat()
        return serialized(self, action_result)

    S3Response.serialized = dated
    _recover_tables()
    receive_message, receiving = SQSBackend.receive_message, threading.Lock()

    def received(
        self: SQSBackend, queue_name: str, count: int, wait_s: int, visibility_s: int, names: Any = None
    ) -> list[Message]:
        """moto gives one message to two that receive at the same moment."""
        until_s = time.monotonic() + wait_s
        while True:
            with receiving:
                messages = receive_message(self, queue_name, count, 0, visibility_s, names)
            if messages or time.monotonic() >= until_s:
                return messages
            self.get_queue(queue_name).wait_for_messages(1)

    setattr(SQSBackend, "receive_message", received)  # noqa: B010 - of another signature
    application = DomainDispatcherApplication(create_backend_app)
    sagemaker = SageMakerControl()
    one_at_a_time = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """moto undoes a cancelled transaction by putting all tables back: writes of other calls are lost."""
        if sagemaker.handles(environ):
            return sagemaker(environ, start_response)
        if not environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB"):
            return application(environ, start_response)
        with one_at_a_time:
            return application(environ, start_response)

    served: Any = KeptCalls(serve, key_id=EMULATED, file=Path(sys.argv[1])) if sys.argv[1:] else serve
    server = make_server("127.0.0.1", 0, served, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()  # ends when the process that started us has ended


async def create_key(kms: Any, *, alias: str) -> str:
    """Create a key under ``alias/<alias>`` and return its ARN."""
    name = f"alias/{alias}"
    try:
        found = await kms.describe_key(KeyId=name)
    except kms.exceptions.NotFoundException:
        found = await kms.create_key(Description=f"Local stand-in of {alias}")
        await kms.create_alias(AliasName=name, TargetKeyId=found["KeyMetadata"]["KeyId"])
    return str(found["KeyMetadata"]["Arn"])


async def put_parameter(ssm: Any, *, name: str, value: str) -> None:
    """Write a parameter's next version."""
    await ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)


if __name__ == "__main__":
    _serve()
