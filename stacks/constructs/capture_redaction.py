"""Raw capture leaves the quarantine within the hour: redacted, copied clean, deleted in every version."""

from __future__ import annotations

from constructs import Construct

from assistant.settings.functions import RedactingSettings
from stacks.constructs.function_rights import FunctionRights
from stacks.constructs.function_schedule import FunctionSchedule
from stacks.constructs.process_environment import process_environment
from stacks.constructs.tenant_principals import Duty, tag_duty
from stacks.constructs.tenant_queue import TenantQueue, object_created
from stacks.constructs.vpc_function import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction
from stacks.tenant import DeployedTenant

_TIMEOUT_S = 120
"""Six times that hides the message of a function that died. Five such would take the hour: the sweep is
there."""
_OBJECTS_A_BATCH = 5
_CONCURRENCY = 4
_SWEEP_MINUTES = 5


class CaptureRedaction(Construct):
    """``redact_capture`` for each new object, ``sweep_quarantine`` for what it left and for the metric
    ``OldestRawCaptureAge``, in seconds."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        rights: FunctionRights,
        place: FunctionPlace,
        metrics_service: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self.queue = TenantQueue(
            self,
            "Captured",
            data_key_arn=rights.keys.data_key_arn,
            consumer_timeout_s=_TIMEOUT_S,
        )
        self.queue.fed_by("Written", pattern=object_created(bucket=rights.data.quarantine_bucket))
        role = rights.role(
            "RedactRole",
            description="The only reader of raw capture: writes clean copies, deletes raw ones",
            rights=[*rights.redact(), *rights.take_from(self.queue.arn), rights.environment_key()],
        )
        tag_duty(role, Duty.REDACTOR)
        environment = _environment(tenant, rights, metrics_service)

        def function(name: str, folder: str, timeout_s: int) -> VpcFunction:
            program = FunctionProgram(
                folder=folder, timeout_s=timeout_s, memory_mib=1024, environment=environment
            )
            return VpcFunction(self, name, tenant=tenant, program=program, place=place, role=role)

        redact = function("Redact", "redact_capture", _TIMEOUT_S)
        sweep = function("Sweep", "sweep_quarantine", 60 * _SWEEP_MINUTES)
        self.queue.consumed_by(redact, role=role, batch_size=_OBJECTS_A_BATCH, concurrency=_CONCURRENCY)
        FunctionSchedule(self, "SweepSchedule", function=sweep, minutes=_SWEEP_MINUTES)
        self.functions: tuple[VpcFunction, ...] = (redact, sweep)
        self.role: FunctionRole = role


def _environment(tenant: DeployedTenant, rights: FunctionRights, metrics_service: str) -> dict[str, str]:
    return process_environment(
        RedactingSettings,
        {
            "region": tenant.place.region,
            "quarantine_bucket": rights.data.quarantine_bucket,
            "capture_bucket": rights.data.capture_bucket,
            "passages_percent": tenant.models.capture_passages_percent,
            "metrics_service": metrics_service,
        },
    )
