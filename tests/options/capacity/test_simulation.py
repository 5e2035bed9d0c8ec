"""The simulated server: many like steps as one event give what single steps give."""

from __future__ import annotations

from collections import deque
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as some

from assistant.cli.aws.plan import LONGEST_WAIT_S, Load, Timings, simulate

TIMINGS = Timings(
    source="made up",
    slots=3,
    kv_tokens=700,
    step_tokens=64,
    request_s=0.0,
    write_step_s=(0.01, 0.013, 0.02),
    write_context_s=0.00001,
    read_token_s=0.001,
    read_context_s=0.000002,
)
REQUESTS = some.lists(
    some.tuples(some.floats(0, 3), some.integers(1, 300), some.integers(1, 40)), min_size=1, max_size=12
)


def load_of(requests: list[tuple[float, int, int]]) -> Load:
    at, prompts, answers = zip(*sorted(requests), strict=True)
    return Load(at, prompts, answers)


def step_by_step(load: Load, timings: Timings) -> tuple[list[float], list[float]]:
    """Return when each request got its first token and its last, computed one step at a time."""
    firsts, ends = [inf] * len(load.at_s), [inf] * len(load.at_s)
    coming, waiting, reading = deque(range(len(load.at_s))), deque[int](), deque[int]()
    unread, written, now = dict(enumerate(load.prompt_tokens)), dict[int, int](), 0.0
    while coming or waiting or reading or written:
        if not (waiting or reading or written):
            now = max(now, load.at_s[coming[0]])
        while coming and load.at_s[coming[0]] <= now:
            waiting.append(coming.popleft())
        while waiting and len(reading) + len(written) < timings.slots:
            inside = [*reading, *written, waiting[0]]
            held = sum(load.prompt_tokens[each] + load.answer_tokens[each] for each in inside)
            if timings.kv_tokens is not None and held > timings.kv_tokens and len(inside) > 1:
                break
            reading.append(waiting.popleft())
        now += timings.step_s()[len(written)]
        now += timings.write_context_s * sum(load.prompt_tokens[each] + written[each] for each in written)
        room = timings.step_tokens - len(written)
        for each in reading:
            read = min(unread[each], room)
            before = load.prompt_tokens[each] - unread[each]
            now += timings.read_token_s * read + timings.read_context_s * read * (before + read / 2)
            unread[each], room = unread[each] - read, room - read
        for each in written:
            written[each] += 1
        while reading and not unread[reading[0]]:
            firsts[reading[0]], written[reading.popleft()] = now, 1
        for each in [each for each in written if written[each] >= load.answer_tokens[each]]:
            ends[each] = now
            del written[each]
    return firsts, ends


@pytest.mark.parametrize(("slots", "within_s"), [(1, 1e-9), (3, 0.2)])
@given(REQUESTS)
def test_closed_forms_give_what_single_steps_give(
    slots: int, within_s: float, requests: list[tuple[float, int, int]]
) -> None:
    """With several slots a request that arrives inside a step may be counted to the step beside it."""
    load, timings = load_of(requests), TIMINGS.model_copy(update={"slots": slots})

    outcome = simulate(load, timings, instances=1)

    firsts, ends = step_by_step(load, timings)
    assert outcome.end_s == pytest.approx(ends, abs=within_s)
    assert outcome.first_s + load.at_s == pytest.approx(firsts, abs=within_s)


def test_a_short_request_joins_long_ones_and_ends_first() -> None:
    load = Load([0.0, 0.0, 0.5], [50, 50, 50], [200, 200, 2])

    joined = simulate(load, TIMINGS, instances=1)

    assert joined.end_s[2] < 1.0 < joined.end_s[:2].min()


def test_memory_bounds_how_many_are_in() -> None:
    load = Load([0.0, 0.0], [300, 300], [100, 100])

    both, one = (
        simulate(load, TIMINGS.model_copy(update={"kv_tokens": tokens}), instances=1) for tokens in (800, 799)
    )

    assert both.first_s[1] < both.end_s[0]
    assert one.first_s[1] > one.end_s[0]


def test_who_waits_longer_than_a_minute_is_refused() -> None:
    slow = TIMINGS.model_copy(update={"slots": 1, "write_step_s": (1.0,)})
    load = Load([0.0, 1.0, 2.0], [10, 10, 10], [40, 40, 40])

    outcome = simulate(load, slow, instances=1)

    assert outcome.first_s[1] < LONGEST_WAIT_S
    assert outcome.end_s[2] == inf
    assert outcome.unanswered == pytest.approx(1 / 3)


def test_requests_go_to_the_instance_with_the_fewest() -> None:
    load = Load([0.0, 0.0, 0.1], [50] * 3, [300, 2, 2])

    apart, together = (simulate(load, TIMINGS, instances=instances) for instances in (2, 1))

    assert apart.end_s[2] < together.end_s[2]
