import os
import signal
from pathlib import Path

import pytest

from extract.errors import ExtractError
from extract.parallel import map_ordered


def square(number: int) -> int:
    return number * number


def note_and_return(path: Path) -> Path:
    path.write_text("")
    return path


def kill_own_process(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse_three(number: int) -> int:
    if number == 3:
        raise ExtractError("three: expected another number")
    return number


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_results_come_in_the_order_of_the_items(workers: int, chunk_size: int):
    assert list(map_ordered(square, range(21), workers, chunk_size)) == [n * n for n in range(21)]
    assert list(map_ordered(square, [], workers, chunk_size)) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_taken", [1, 2, 17])
def test_results_that_are_no_longer_wanted_end_in_silence(num_taken: int):
    for _ in range(10):
        results = map_ordered(square, range(40), 2)
        assert [next(results) for _ in range(num_taken)] == [n * n for n in range(num_taken)]
        results.close()  # as a full disk or Ctrl-C does
    assert list(map_ordered(square, range(5), 2)) == [0, 1, 4, 9, 16]


def test_no_more_is_under_way_than_the_workers_need(tmp_path: Path):
    paths = [tmp_path / str(number) for number in range(40)]
    results = map_ordered(note_and_return, paths, 2)
    next(results)
    assert len(list(tmp_path.iterdir())) <= 5
    results.close()


def test_an_error_of_an_item_is_the_callers():
    results = map_ordered(refuse_three, range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ExtractError, match="three: expected another number"):
        next(results)


def test_a_killed_worker_is_told_in_a_sentence_and_the_next_work_is_done():
    with pytest.raises(ExtractError, match=r"one was killed from outside.*--workers"):
        list(map_ordered(kill_own_process, range(10), 2))
    assert list(map_ordered(square, range(3), 2)) == [0, 1, 4]
