"""An agent whose tokens were revoked gets 401 on every route, by the file that the command writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.stage.running_service import RunningService, Scene, running_service, service_on

SENT = {"send_id": "s1", "text": "Two days."}


async def test_a_revoked_agent_is_told_so_and_others_go_on(tmp_path: Path) -> None:
    scene = Scene(tenants=("clinic",))
    async with running_service(tmp_path, scene) as service:
        await service.know("wait", "The wait is two days.")
        answer = await service.answered(agent="ann")
        await service.idle()
        link = answer["sources"][0]["document_url"].partition("#")[2]
        headers = service.headers("ann")
        later = datetime.now(UTC) + timedelta(seconds=2)
        revoked = {"ann": later, "dan": datetime(2026, 1, 1, tzinfo=UTC)}
        file = service.state_dir / "tenants" / "clinic" / "revocations.json"
        file.write_bytes(orjson.dumps(revoked))
        assert service.settings is not None
        # A task that starts now; one that runs reads the file within half a minute.
        async with service_on(service.settings, scene, service.sagemaker) as again:
            await check(again, answer["answer_id"], headers, link)


async def check(again: RunningService, answer_id: str, headers: dict[str, str], link: str) -> None:
    path = f"/v1/answers/{answer_id}"

    async def asked(method: str, path: str, **given: Any) -> httpx.Response:
        return await again.client.request(method, path, headers=headers, **given)

    question = {"question": "How long is the wait?"}
    for response in (
        await asked("POST", "/v1/answers", json=question),
        await asked("GET", f"{path}/events"),
        await asked("GET", path),
        await asked("POST", f"{path}/sent", json=SENT),
        await again.client.post("/v1/documents/linked", json={"token": link}),
    ):
        assert (response.status_code, response.json()["code"]) == (401, "token_revoked")
        assert "revoked" in response.json()["detail"]
    for agent in ("bob", "dan"):
        assert (await again.ask(agent=agent)).status_code == 200
