"""4 to 6: the target group between NLB and ALB, and time-outs that would cut a stream."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.networks import attribute, port_of
from template_checks.templates import Resource
from template_checks.values import Value, at, integer, items, text

_ALB_IDLE = "idle_timeout.timeout_seconds"
_NLB_IDLE = "tcp.idle_timeout.seconds"
_SHORTEST_S = 60
"""The ALB's default; a stream with longer pauses is cut."""
_NLB_DEFAULT_S = 350


def _check_target_groups(deployment: Deployment) -> Iterator[Finding]:
    for group in deployment.balancing.groups_of_load_balancers():
        found = [
            *_check_attributes(group),
            *_check_protocol(group),
            *_check_port(deployment, group),
        ]
        yield from found
        if not found:
            yield passed(group, "alb-target-port")


def _check_attributes(group: Resource) -> Iterator[Finding]:
    attributes = items(group.properties.get("TargetGroupAttributes"))
    if attributes:
        names = ", ".join(text(at(entry, "Key")) for entry in attributes)
        yield refused(
            group,
            "alb-target-attributes",
            at="TargetGroupAttributes",
            message=f"A target group of type alb takes no attributes; it has {names}.",
            mend="Leave TargetGroupAttributes out; drain on the ALB's own target group instead.",
        )


def _check_protocol(group: Resource) -> Iterator[Finding]:
    protocol = text(group.properties.get("Protocol"))
    if protocol != "TCP":
        yield (not_proven if "${" in protocol else refused)(
            group,
            "alb-target-protocol",
            at="Protocol",
            message=f"A target group of type alb passes TCP on; its protocol is {protocol or 'absent'}.",
            mend="Set Protocol: TCP; TLS goes through it untouched and ends at the ALB.",
        )


def _check_port(deployment: Deployment, group: Resource) -> Iterator[Finding]:
    balancing = deployment.balancing
    target = balancing.target_of(group)
    if target is None and len(balancing.application) == 1:
        target = balancing.application[0]
    listeners = balancing.listeners(target) if target else []
    ports = {port_of(group), *(integer(at(entry, "Port")) for entry in _with_port(group))}
    if not listeners or None in ports:
        yield not_proven(
            group,
            "alb-target-port",
            at="Port",
            message="Whether its port is that of the ALB's listener is not told: the listener, or the "
            "port, is not in the templates.",
            mend="Give the ALB's template to the same check, and a port that a default or the facts tell.",
        )
        return
    open_ports = sorted(port for port in map(port_of, listeners) if port is not None)
    for port in ports:
        if port not in open_ports:
            yield refused(
                group,
                "alb-target-port",
                at="Port",
                message=f"It sends to port {port}, where the ALB has no listener (it has {open_ports}).",
                mend="Give the target group the port of the ALB's listener.",
            )


def _with_port(group: Resource) -> list[Value]:
    return [entry for entry in items(group.properties.get("Targets")) if at(entry, "Port") is not None]


def _check_dependency(deployment: Deployment) -> Iterator[Finding]:
    balancing = deployment.balancing
    for group in balancing.groups_of_load_balancers():
        target = balancing.target_of(group)
        listener = target and (
            balancing.listener_on(target, port_of(group)) or next(iter(balancing.listeners(target)), None)
        )
        if listener is None:
            yield not_proven(
                group,
                "alb-listener-dependency",
                at="DependsOn",
                message="The ALB that it names, or the listener there, is not in the templates.",
                mend="Give the ALB's template to the same check.",
            )
        elif listener in deployment.templates.dependencies(group):
            yield passed(group, "alb-listener-dependency")
        else:
            yield refused(
                group,
                "alb-listener-dependency",
                at="DependsOn",
                message=f"CloudFormation may make it before the ALB's listener {listener.logical_id}, and "
                "an ALB without a listener cannot be registered as a target.",
                mend=f"Add DependsOn: {listener.logical_id}.",
            )


def _check_idle_timeouts(deployment: Deployment) -> Iterator[Finding]:
    for balancer in deployment.balancing.application:
        yield _check_alb(deployment, balancer)
    for balancer in deployment.balancing.network:
        for listener in deployment.balancing.listeners(balancer):
            if text(listener.properties.get("Protocol")) == "TCP":  # no other protocol lets it be set
                yield _check_nlb_listener(deployment, listener)


def _check_alb(deployment: Deployment, balancer: Resource) -> Finding:
    value = attribute(balancer, _ALB_IDLE, of="LoadBalancerAttributes")
    seconds = _SHORTEST_S if value is None else integer(value)
    if seconds is not None and seconds <= _SHORTEST_S:
        return refused(
            balancer,
            "alb-idle-timeout",
            at="LoadBalancerAttributes",
            message=f"It cuts a stream that is silent for {seconds} s.",
            mend=f"Set {_ALB_IDLE} above {_SHORTEST_S}, and to the longest answer or above.",
        )
    return _hold_idle(
        deployment,
        balancer,
        "alb-idle-timeout",
        at_="LoadBalancerAttributes",
        attribute_=_ALB_IDLE,
        seconds=seconds,
    )


def _check_nlb_listener(deployment: Deployment, listener: Resource) -> Finding:
    value = attribute(listener, _NLB_IDLE, of="ListenerAttributes")
    if value is None:
        return refused(
            listener,
            "nlb-idle-timeout",
            at="ListenerAttributes",
            message=f"It leaves {_NLB_IDLE} to the default of {_NLB_DEFAULT_S} s, after which a silent "
            "connection is dropped without a word to either side.",
            mend=f"Set {_NLB_IDLE} (60 to 6000) in ListenerAttributes.",
        )
    return _hold_idle(
        deployment,
        listener,
        "nlb-idle-timeout",
        at_="ListenerAttributes",
        attribute_=_NLB_IDLE,
        seconds=integer(value),
    )


def _hold_idle(
    deployment: Deployment, resource: Resource, code: str, *, at_: str, attribute_: str, seconds: int | None
) -> Finding:
    """Hold an idle timeout against the whole answer, for all of which a model may be silent."""
    deadline_s = deployment.facts.answer_deadline_s
    if seconds is None or deadline_s is None:
        untold = f"Its {attribute_}" if seconds is None else "How long an answer may be silent"
        return not_proven(
            resource,
            code,
            at=at_,
            message=f"{untold} is not told, so a stream may be cut.",
            mend="Give the parameter a default, or its value in the facts: parameters."
            if seconds is None
            else "Say it in the facts: answer_deadline_s.",
        )
    if seconds < deadline_s:
        return refused(
            resource,
            code,
            at=at_,
            message=f"It cuts a stream that is silent for {seconds} s; an answer may take {deadline_s:g} s.",
            mend=f"Set {attribute_} to {deadline_s:g} or above, or lower the answer's deadline.",
        )
    return passed(resource, code)


MISTAKES = (
    Mistake(
        number=4,
        title="ALB target group with attributes, a protocol other than TCP, or another port",
        parts={
            "alb-target-attributes": "TargetGroupAttributes on a target group of type alb",
            "alb-target-protocol": "its protocol is not TCP",
            "alb-target-port": "its port is none of the ALB's listeners'",
        },
        why="A target group of type alb takes TCP only, on the port of a listener of the ALB; its "
        "attributes cannot be changed, and a template that tries fails.",
        mend="Protocol TCP, the listener's port, no TargetGroupAttributes.",
        absent="no target group has an ALB as its target",
        check=_check_target_groups,
    ),
    Mistake(
        number=5,
        title="That target group not depending on the ALB listener",
        parts={"alb-listener-dependency": "nothing makes CloudFormation wait for the ALB's listener"},
        why="An ALB is accepted as a target only once it listens on the port; the two resources do not "
        "refer to each other, so CloudFormation may take the wrong order.",
        mend="DependsOn the listener, or a reference to it.",
        absent="no target group has an ALB as its target",
        check=_check_dependency,
    ),
    Mistake(
        number=6,
        title="ALB idle timeout ≤ 60 s, no NLB tcp.idle_timeout.seconds, or either shorter than an answer",
        parts={
            "alb-idle-timeout": "the ALB's idle timeout is 60 s or less, left to that default, or shorter "
            "than an answer may take",
            "nlb-idle-timeout": "a TCP listener of an NLB leaves tcp.idle_timeout.seconds to its default, or "
            "has it shorter than an answer may take",
        },
        why="A model may think for longer than 60 s before the next token; the ALB then closes the stream "
        "with nothing said. The NLB forgets silent flows after 350 s.",
        mend="idle_timeout.timeout_seconds above 60 on the ALB, tcp.idle_timeout.seconds on each TCP "
        "listener; both at the answer's deadline or above.",
        absent="no load balancer",
        facts="answer_deadline_s",
        check=_check_idle_timeouts,
    ),
)
