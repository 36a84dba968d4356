"""Fuzzing that a test of ours can call: many inputs, each within bounds of time and memory.

The default run takes a few dozen cases, the same each time; `-m slow` takes thousands, others each time
(or as many as SYNTHLABEL_FUZZ_EXAMPLES says). A case that fails is printed as Hypothesis has shrunk it; it
belongs into a test of its own.
"""

import io
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from extract.errors import SynthlabelError

FEW = 30
MANY = int(os.environ.get("SYNTHLABEL_FUZZ_EXAMPLES", 2000))
EXAMPLES = pytest.mark.parametrize("num_examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
SECONDS_PER_CASE = 20
BYTES_PER_CASE = 2**30  # of address space, beside what the process has already

pd.read_csv(io.StringIO("a\n1\n"), dtype=str)  # the first table reserves a gigabyte of addresses


def explore(check: Callable[[Any], None], cases: st.SearchStrategy[Any], num_examples: int) -> None:
    """Call `check` with many cases; what it raises fails the test, our own errors and all others."""

    @settings(
        max_examples=num_examples,
        deadline=None,
        database=None,
        derandomize=num_examples == FEW,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if num_examples > FEW else (Phase.generate,),
    )
    @given(case=cases)
    def run(case: Any) -> None:
        with bounded():
            check(case)

    run()


@contextmanager
def refusals() -> Iterator[None]:
    """Let our own errors pass, if they are sentences: that is how bad input ends. Others fail the test."""
    try:
        yield
    except SynthlabelError as error:
        assert len(str(error)) > 20


@contextmanager
def bounded() -> Iterator[None]:
    """Fail what takes too long or too much memory."""

    def ring(*_: object) -> None:
        raise AssertionError(f"took longer than {SECONDS_PER_CASE} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    previous = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (held + BYTES_PER_CASE, before[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_CASE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, before)


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    """Bytes with a few changes: flipped, overwritten, cut out, doubled, inserted, cut off."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.sampled_from([1, 1, 2, 4, 8, 64]))
        match draw(st.sampled_from(["flip", "write", "extreme", "remove", "double", "insert", "cut"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "write":
                data[place : place + length] = draw(st.binary(min_size=length, max_size=length))
            case "extreme":
                data[place : place + length] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f"])) * length
            case "remove":
                del data[place : place + length]
            case "double":
                data[place:place] = data[place : place + length]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del data[place:]
    return bytes(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged_json(draw: st.DrawFn, original: Any) -> Any:
    """JSON content in which some values, at any depth, are others, gone or doubled."""

    def damage(value: Any) -> Any:
        if draw(st.integers(0, 9)) == 0:
            return draw(JSON_VALUES)
        if isinstance(value, dict):
            return {key: damage(item) for key, item in value.items() if draw(st.integers(0, 12))}
        if isinstance(value, list):
            items = [damage(item) for item in value if draw(st.integers(0, 12))]
            return items + items[:1] if draw(st.integers(0, 9)) == 0 else items
        return value

    return damage(original)
