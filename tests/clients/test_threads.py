"""Work that is handed to threads."""

import threading

import pytest

from peatkeep.clients.threads import Threads


def test_all_is_done_when_the_threads_are_left() -> None:
    done: list[int] = []
    with Threads(2, "worker") as threads:
        for number in range(20):
            threads.start(lambda number=number: done.append(number))  # type: ignore[misc]
    assert sorted(done) == list(range(20))


def test_an_error_is_raised_where_one_waits_and_the_others_go_on() -> None:
    done: list[str] = []
    with Threads(1, "worker") as threads:
        broken = threads.start(lambda: int("no number"))  # type: ignore[arg-type, return-value]
        whole = threads.start(lambda: done.append("whole"))
        with pytest.raises(ValueError, match="no number"):
            broken.wait()
        broken.join()
        whole.wait()
    assert done == ["whole"]


def test_what_is_given_up_is_over_without_being_done() -> None:
    done: list[str] = []
    gate = threading.Event()
    with Threads(1, "worker") as threads:
        threads.start(gate.wait)  # type: ignore[arg-type]
        job = threads.start(lambda: done.append("given up"))
        job.give_up()
        gate.set()
        job.wait()
    assert done == []


def test_after_an_error_only_what_has_begun_is_waited_for() -> None:
    done: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        gate.wait()
        done.append("first")

    threads = Threads(1, "worker")
    threads.__enter__()
    threads.start(first)
    begun.wait()
    second = threads.start(lambda: done.append("second"))
    third = threading.Thread(target=threads.__exit__, args=(KeyboardInterrupt, None, None))
    third.start()
    second.wait()
    gate.set()
    third.join()
    assert done == ["first"]
