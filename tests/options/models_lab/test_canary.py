"""A canary beside the served model on the emulator: released, failed, killed in the middle, rolled back."""
# pyright: basic

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from assistant.domain.errors import AssistantError, ConflictError, DeploymentError, NotFoundError
from assistant.options.models_lab.commands.canary import Canary
from tests.fakes.sagemaker_control import ControlledSageMaker
from tests.options.models_lab.canary_scene import Scene, scene

__all__ = ["scene"]
pytestmark = pytest.mark.loopback


def scale(scene: Scene, instances: int) -> None:
    """Scale the served variant, as Application Auto Scaling does."""
    wanted = {"VariantName": "AllTraffic", "DesiredInstanceCount": instances}
    scene.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=scene.name, DesiredWeightsAndCapacities=[wanted]
    )
    scene.move()


def test_a_release_starts_the_canary_without_calls_and_then_gives_it_its_share(scene: Scene) -> None:
    scale(scene, 2)

    state = scene.canary.release(5)

    assert scene.seen == [
        ("Updating", f"{scene.name}-served", -1.0),
        ("Updating", f"{scene.name}-canary", pytest.approx(5 / 95)),
    ]
    assert state.canary_percent == pytest.approx(5)
    assert scene.shares() == {"AllTraffic": (1.0, 2), "Canary": (pytest.approx(5 / 95, abs=1e-6), 1)}


def test_a_rollback_takes_the_share_first_and_then_the_instance(scene: Scene) -> None:
    scene.canary.release(5)
    scale(scene, 2)
    scene.seen.clear()

    state = scene.canary.rollback()

    assert state is not None
    assert scene.seen == [
        ("Updating", f"{scene.name}-canary", 0.0),
        ("Updating", f"{scene.name}-canary", 0.0),
    ]
    assert (state.config, scene.shares()) == (f"{scene.name}-served", {"AllTraffic": (1.0, 2)})


def test_a_second_release_is_refused_while_one_runs_and_after_it(scene: Scene) -> None:
    scene.update("canary")
    with pytest.raises(
        ConflictError, match=r"is Updating; AllTraffic alone: a release, a rollback or a deployment"
    ):
        scene.canary.release(5)
    scene.move()
    scene.canary.release(5)
    with pytest.raises(
        ConflictError, match=r"AllTraffic 95 %, Canary 5 %: roll that canary back first: assistant models"
    ):
        scene.canary.release(10)
    assert scene.shares()["Canary"][0] == pytest.approx(5 / 95, abs=1e-6)


def test_of_two_releases_at_once_one_is_refused(scene: Scene) -> None:
    both, outcomes = threading.Barrier(2), list[str]()

    class BothChecked(Canary):
        __slots__ = ()

        def check_free(self) -> Any:
            state = super().check_free()
            both.wait(20)  # each has seen an endpoint without a canary
            return state

    def release(percent: float) -> None:
        made = scene.canary
        racing = BothChecked(
            **{name: getattr(made, name) for name in Canary.__dataclass_fields__}  # pyright: ignore
        )
        try:
            racing.release(percent)
            outcomes.append("released")
        except (ConflictError, DeploymentError) as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=release, args=[percent]) for percent in (5, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(outcomes) == 2
    [refused] = [one for one in outcomes if one != "released"]
    assert "Cannot update in-progress endpoint" in refused


def test_an_update_that_fails_is_told_with_its_reason_and_can_be_repeated(scene: Scene) -> None:
    scene.steps = [lambda: scene.move("InService", "Unable to provision requested ML compute capacity.")]
    with pytest.raises(
        DeploymentError,
        match=r"update_endpoint failed; it is InService; AllTraffic alone \(Unable to provision",
    ):
        scene.canary.release(5)
    assert scene.shares() == {"AllTraffic": (1.0, 1)}

    assert scene.canary.release(5).canary_percent == pytest.approx(5)


def test_shares_that_are_rolled_back_leave_the_canary_without_calls_and_can_be_repeated(scene: Scene) -> None:
    scene.steps = [
        scene.move,
        lambda: scene.move("RollingBack"),
        lambda: scene.move("InService", "Alarm Llm5xx went off."),
    ]
    with pytest.raises(DeploymentError, match=r"weights_and_capacities failed; .*Canary 0 % \(Alarm Llm5xx"):
        scene.canary.release(5)
    assert scene.shares()["Canary"] == (0.0, 1)

    assert scene.canary.release(5).canary_percent == pytest.approx(5)


@pytest.mark.parametrize("command", ["release", "rollback"])
def test_what_was_killed_before_its_share_is_finished_or_undone(scene: Scene, command: str) -> None:
    scene.update("canary")
    scene.move()
    config = scene.canary.state()
    assert config is not None
    assert (config.config, config.canary_percent) == (f"{scene.name}-canary", 0.0)

    if command == "release":
        assert scene.canary.release(5).canary_percent == pytest.approx(5)
    else:
        state = scene.canary.rollback()
        assert state is not None
        assert state.config == f"{scene.name}-served"
    assert len(scene.seen) == 1  # what was done is not done again


@pytest.mark.parametrize("began", ["canary", "served"])
def test_a_rollback_waits_for_what_a_killed_command_began(scene: Scene, began: str) -> None:
    if began == "served":
        scene.canary.release(5)
    scene.update(began)

    state = scene.canary.rollback()

    assert state is not None
    assert (state.status, state.config) == ("InService", f"{scene.name}-served")
    assert "Canary" not in scene.shares()


def test_without_a_release_there_is_nothing_to_roll_back(scene: Scene) -> None:
    with pytest.raises(NotFoundError, match="nothing to roll back"):
        scene.canary.rollback()
    assert scene.told()["EndpointStatus"] == "InService"


def test_a_paused_tenant_has_no_canary_and_gets_none(scene: Scene) -> None:
    scene.sagemaker.delete_endpoint(EndpointName=scene.name)
    assert scene.canary.state() is None
    assert scene.canary.rollback() is None
    with pytest.raises(NotFoundError, match="resume the tenant"):
        scene.canary.release(5)


def test_a_pause_in_the_middle_of_a_release_is_told(scene: Scene) -> None:
    def pause() -> None:
        scene.move()
        scene.sagemaker.delete_endpoint(EndpointName=scene.name)

    scene.steps = [pause]
    with pytest.raises(DeploymentError, match="the tenant was paused"):
        scene.canary.release(5)


@pytest.mark.parametrize("status", ["Failed", "UpdateRollbackFailed"])
def test_a_failed_endpoint_is_not_updated(scene: Scene, status: str) -> None:
    scene.canary.release(5)
    scene.move(status, "The container exited.")
    with pytest.raises(ConflictError, match=rf"is {status}; .* \(The container exited"):
        scene.canary.release(5)
    with pytest.raises(DeploymentError, match=r"Pause and resume the tenant"):
        scene.canary.rollback()


def test_an_endpoint_with_another_configuration_is_left_alone(scene: Scene) -> None:
    strange = replace(scene.canary, served_config="of-another-deployment")
    with pytest.raises(ConflictError, match="no configuration of its stack"):
        strange.release(5)


def test_a_quota_of_0_is_told_and_nothing_is_changed(scene: Scene) -> None:
    async def quota(value: dict[str, float]) -> None:
        await ControlledSageMaker(scene.url).quotas(value)

    asyncio.run(quota({"ml.c7i.xlarge for endpoint usage": 0}))
    try:
        with pytest.raises(AssistantError, match=r"ml.c7i.xlarge for endpoint usage' is 0"):
            scene.canary.release(5)
    finally:
        asyncio.run(quota({}))
    assert scene.shares() == {"AllTraffic": (1.0, 1)}


def test_a_wait_ends(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.options.models_lab.commands.canary.LIMIT_S", 120.0)
    waits = 0

    def count(_seconds: float) -> None:
        nonlocal waits
        waits += 1

    with pytest.raises(DeploymentError, match="still being updated after"):
        replace(scene.canary, sleep=count).release(5)
    assert waits == 8
