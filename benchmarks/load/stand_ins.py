"""The process of all stand-ins, on one port: SageMaker Runtime, OpenSearch, DynamoDB, S3, the
issuer's keys.

    python -m benchmarks.load.stand_ins < plan.json

``POST /control/pace`` switches delays and the length of answers; ``GET /control/state`` says what was done.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson

from benchmarks.load.dynamodb_stand_in import DynamoDbStandIn
from benchmarks.load.http_server import HttpConnection, Request, response
from benchmarks.load.opensearch_stand_in import OpenSearchStandIn
from benchmarks.load.pacing import Pace
from benchmarks.load.process_main import read_plan, run_until_told, say_ready
from benchmarks.load.s3_stand_in import S3StandIn
from benchmarks.load.sagemaker_stand_in import SageMakerStandIn


class StandIns:
    """Sends each request to the stand-in that it is for."""

    def __init__(self, *, jwks: dict[str, Any], index: str, seed: int = 0) -> None:
        self.pace = Pace()
        self._sagemaker = SageMakerStandIn(self.pace, seed=seed)
        self._opensearch = OpenSearchStandIn(self.pace, index=index)
        self._dynamodb = DynamoDbStandIn(self.pace)
        self._s3 = S3StandIn(self.pace)
        self._jwks = response(orjson.dumps(jwks))
        self._calls: Counter[str] = Counter()

    def answer(self, request: Request, connection: HttpConnection) -> None:
        if request.path.startswith("/endpoints/"):
            self._calls[request.path.rpartition("/")[2]] += 1
            self._sagemaker.answer(request, connection)
        elif target := request.header("x-amz-target"):
            self._calls[target.rpartition(".")[2]] += 1
            self._dynamodb.answer(request, connection, operation=target.rpartition(".")[2])
        elif request.path.startswith("/load-documents/"):
            self._calls["documents"] += 1
            self._s3.answer(request, connection)
        elif request.path == "/jwks.json":
            connection.send(self._jwks)
        elif request.path.startswith("/control/"):
            connection.send(self._control(request))
        else:
            self._calls["search"] += 1
            self._opensearch.answer(request, connection)

    def _control(self, request: Request) -> bytes:
        if request.path == "/control/pace":
            wanted = orjson.loads(request.body)
            self.pace.delayed, self.pace.tokens = bool(wanted["delayed"]), int(wanted["tokens"])
        state = {
            "calls": dict(self._calls),
            "abandoned": self._sagemaker.abandoned,
            "items": self._dynamodb.counts(),
            "refused": self._dynamodb.refused,
        }
        return response(orjson.dumps(state))


class _Connection(HttpConnection):
    def __init__(self, stand_ins: StandIns) -> None:
        super().__init__()
        self._stand_ins = stand_ins

    def answer(self, request: Request) -> None:
        self._stand_ins.answer(request, self)


async def main(plan: dict[str, Any]) -> None:
    stand_ins = StandIns(jwks=plan["jwks"], index=plan["index"])
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(stand_ins), "127.0.0.1", 0, backlog=1024
    )
    say_ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    run_until_told(main(read_plan()))
