"""Executes the part of Amazon States Language that our state machines use, call by call.

An execution is a generator: it yields each call or wait, and the test decides its time and result. Unknown
syntax is an error, so that no state of a definition is skipped.
"""

from __future__ import annotations

import copy
import fnmatch
import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """A call of an AWS API: ``ssm:putParameter``."""

    action: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Pause:
    """A wait, or the interval before a retry."""

    seconds: float


class CallFailedError(Exception):
    """An API's error, by Step Functions' name: ``Ssm.ParameterNotFound…``."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class ExecutionFailedError(Exception):
    """The execution ended in a Fail state, or with an error that no state catches."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.cause = cause


Steps = Generator[Call | Pause, Any, Any]
_EVENTS = {"Task": 5}
"""In an execution's history: entered and exited, and of a task scheduled, started and ended."""


def execute(definition: Mapping[str, Any], data: Any, context: Mapping[str, Any] | None = None) -> Steps:
    """Yield calls and waits until the execution succeeds. Raises ExecutionFailedError.

    A call's result is sent in; a CallFailedError is thrown in. ``context["Events"]`` counts what the history
    of the execution would hold.
    """
    name = definition["StartAt"]
    context = context or {}
    while True:
        state = definition["States"][name]
        if "Events" in context:
            context["Events"][name] += _EVENTS.get(state["Type"], 2)
        try:
            following, data = yield from _state(state, data, context)
        except CallFailedError as failure:
            following, data = _caught(state, data, failure)
        if following is None:
            return data
        name = following


def _state(state: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> Steps:
    match state["Type"]:
        case "Pass":
            made = state["Result"] if "Result" in state else _filled(state["Parameters"], data, context)
            return state["Next"], _placed(data, state.get("ResultPath", "$"), made)
        case "Choice":
            return _chosen(state, data), data
        case "Wait":
            yield Pause(state["Seconds"])
            return state["Next"], data
        case "Task":
            result = yield from _called(state, data, context)
            return state.get("Next"), _placed(data, state.get("ResultPath", "$"), result)
        case "Parallel":
            result = yield from _repeated(state, lambda: _branch(state, data, context))
            return state.get("Next"), _placed(data, state.get("ResultPath", "$"), [result])
        case "Map":
            results = yield from _mapped(state, data, context)
            return state["Next"], _placed(data, state.get("ResultPath", "$"), results)
        case "Succeed":
            return None, data
        case "Fail":
            cause = _evaluated(state["CausePath"], data, context) if "CausePath" in state else ""
            raise ExecutionFailedError(state["Error"], cause)
        case other:
            raise NotImplementedError(other)


def _called(state: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> Steps:
    action = state["Resource"].partition(":::aws-sdk:")[2]
    call = Call(action, _filled(state["Parameters"], data, context))

    def made() -> Steps:
        return (yield call)

    result = yield from _repeated(state, made)
    return _filled(state["ResultSelector"], result, {}) if "ResultSelector" in state else result


def _repeated(state: Mapping[str, Any], steps: Callable[[], Steps]) -> Steps:
    """Take steps again as the state's ``Retry`` says."""
    tried = 0
    while True:
        try:
            return (yield from steps())
        except CallFailedError as failure:
            pause_s = _retry_after_s(state, failure, tried=tried)
            if pause_s is None:
                raise
            tried += 1
            yield Pause(pause_s)


def _branch(state: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> Steps:
    (branch,) = state["Branches"]
    try:
        return (yield from execute(branch, data, context))
    except ExecutionFailedError as failure:
        raise CallFailedError(failure.error, failure.cause) from None


def _retry_after_s(state: Mapping[str, Any], failure: CallFailedError, *, tried: int) -> float | None:
    for rule in state.get("Retry", ()):
        if _names(rule["ErrorEquals"], failure) and tried < rule["MaxAttempts"]:
            return rule["IntervalSeconds"] * rule["BackoffRate"] ** tried
    return None


def _caught(state: Mapping[str, Any], data: Any, failure: CallFailedError) -> tuple[str, Any]:
    for rule in state.get("Catch", ()):
        if _names(rule["ErrorEquals"], failure):
            said = {"Error": failure.error, "Cause": failure.cause}
            return rule["Next"], _placed(data, rule.get("ResultPath", "$"), said)
    raise ExecutionFailedError(failure.error, failure.cause)


def _names(errors: list[str], failure: CallFailedError) -> bool:
    return "States.ALL" in errors or failure.error in errors


def _mapped(state: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> Steps:
    """Run the items one after the other: the definitions have ``MaxConcurrency`` 1."""
    assert state["MaxConcurrency"] == 1
    results: list[Any] = []
    for item in _found(state["ItemsPath"], data):
        inner = {**context, "Map": {"Item": {"Value": item}}}
        given = _filled(state["ItemSelector"], data, inner) if "ItemSelector" in state else item
        try:
            results.append((yield from execute(state["ItemProcessor"], given, inner)))
        except ExecutionFailedError as failure:
            raise CallFailedError(failure.error) from None
    return results


def _chosen(state: Mapping[str, Any], data: Any) -> str:
    for rule in state["Choices"]:
        if _holds(rule, data):
            return rule["Next"]
    return state["Default"]


def _holds(rule: Mapping[str, Any], data: Any) -> bool:
    if "And" in rule:
        return all(_holds(part, data) for part in rule["And"])
    if "IsPresent" in rule:
        return _is_present(rule["Variable"], data) == rule["IsPresent"]
    value = _found(rule["Variable"], data)
    (comparison,) = rule.keys() - {"Variable", "Next"}
    wanted = rule[comparison]
    if comparison.startswith("Numeric"):
        assert isinstance(value, int), rule
    else:
        assert isinstance(value, str), rule
    match comparison:
        case "StringEquals" | "NumericEquals":
            return value == wanted
        case "StringMatches":
            return fnmatch.fnmatchcase(str(value), wanted)
        case "NumericEqualsPath":
            return value == _found(wanted, data)
        case "NumericLessThan":
            return value < wanted
        case "NumericGreaterThan":
            return value > wanted
        case "NumericGreaterThanEquals":
            return value >= wanted
        case other:
            raise NotImplementedError(other)


def _is_present(path: str, data: Any) -> bool:
    try:
        _found(path, data)
    except (KeyError, IndexError):
        return False
    return True


def _filled(template: Any, data: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(template, list):
        return [_filled(part, data, context) for part in template]
    if not isinstance(template, dict):
        return template
    return {
        name.removesuffix(".$"): (
            _evaluated(value, data, context) if name.endswith(".$") else _filled(value, data, context)
        )
        for name, value in template.items()
    }


def _evaluated(expression: str, data: Any, context: Mapping[str, Any]) -> Any:
    if expression.startswith("$$"):
        return _found(expression[1:], context)
    if expression.startswith("$"):
        return copy.deepcopy(_found(expression, data))
    if re.fullmatch(r"-?\d+", expression):
        return int(expression)
    if expression.startswith("'"):
        return expression.strip("'")
    called = re.fullmatch(r"States\.(\w+)\((.*)\)", expression)
    assert called, expression
    arguments = [_evaluated(part, data, context) for part in _arguments(called[2])]
    match called[1]:
        case "MathAdd":
            return arguments[0] + arguments[1]
        case "Format":
            return arguments[0].replace("{}", "%s") % tuple(arguments[1:])
        case "JsonToString":
            return json.dumps(arguments[0])
        case "StringToJson":
            return json.loads(arguments[0])
        case other:
            raise NotImplementedError(other)


def _arguments(text: str) -> list[str]:
    """Split at the commas outside nested calls."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _found(path: str, data: Any) -> Any:
    assert re.fullmatch(r"\$(\.\w+|\[\d+\])*", path), path
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        data = data[name] if name else data[int(index)]
    return data


def _placed(data: Any, path: str, result: Any) -> Any:
    if path == "$":
        return result
    assert re.fullmatch(r"\$\.\w+", path), path
    return {**data, path[2:]: result}
