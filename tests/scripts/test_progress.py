import pytest

import scripts.progress
from scripts.progress import progress_bar


class Clock:
    """Time that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scripts.progress, "time", clock)
    return clock


def test_the_time_left_of_a_resumed_job_rests_on_what_this_run_has_done(clock: Clock, capsys):
    with progress_bar("training") as report:
        report(280_000, 300_000, "")
        clock.now += 100
        report(284_000, 300_000, "p 0.1")
    assert capsys.readouterr().err == "training: 284000/300000 p 0.1 (400 s left)\n"


def test_lines_come_at_most_every_ten_seconds(clock: Clock, capsys):
    with progress_bar("slicing") as report:
        for done in range(31):
            report(done, 30, "")
            clock.now += 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "slicing: 10/30  (20 s left)", "slicing: 20/30  (10 s left)", "slicing: 30/30  (0 s left)"
    ]  # fmt: skip


def test_a_second_stage_that_counts_from_the_start_is_timed_by_itself(clock: Clock, capsys):
    with progress_bar("volumes") as report:
        report(90, 100, "surveying")
        clock.now += 60
        report(1, 100, "slicing")
        clock.now += 10
        report(11, 100, "slicing")
    assert capsys.readouterr().err.splitlines()[-1] == "volumes: 11/100 slicing (89 s left)"
