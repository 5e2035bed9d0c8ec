"""Posts sent replies to the care application, which takes them to the patient's chat."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import ReplyNotDeliveredError
from assistant.domain.live import LiveReadError, Reply
from assistant.options.live.connected import LiveSystems, SystemRequest
from assistant.options.live.stored import SwitchUnreadableError, SystemSwitches
from assistant.tenant.deployment import ReachEntry


@dataclass(frozen=True, slots=True)
class PostedReplies:
    """``ReplyDelivery`` by the tenant's ``[[reach]]`` entry with ``replies``."""

    system: ReachEntry
    path: str
    calls: LiveSystems
    switches: SystemSwitches
    clock: Clock

    async def deliver(self, reply: Reply) -> None:
        name = self.system.name
        body = reply.model_dump_json().encode()
        request = SystemRequest(name, self.path, limit_s=self.system.deadline_s, body=body, key=reply.send_id)
        deadline = Deadline.after(self.system.deadline_s, clock=self.clock)
        try:
            if not await self.switches.is_on(name):
                raise _not_delivered(f"{name} is switched off for now.")
            response = await self.calls.call(request, deadline=deadline, most_bytes=0)
        except (LiveReadError, SwitchUnreadableError) as error:
            raise _not_delivered(error.message) from None
        if not 200 <= response.status < 300:
            raise _not_delivered(f"{name} refused it with the status {response.status}.")


def _not_delivered(why: str) -> ReplyNotDeliveredError:
    return ReplyNotDeliveredError(
        f"The reply is recorded and may not be delivered: {why} Send it again, or copy it to the chat."
    )
