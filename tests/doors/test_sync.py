"""Does the blocking API do the same, from any number of threads?"""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aegis_replication import InvalidArgument, StateMachine, Unavailable, command, query, sync
from aegis_replication.loop_thread import LoopThread


class Counter(StateMachine):
    total: int = 0

    @command
    def add(self, count: int) -> int:
        """Add."""
        self.total += count
        return self.total

    @query
    def current(self) -> int:
        return self.total


def test_calls_block_and_answer_as_the_async_ones() -> None:
    with sync.open() as db:
        version = db.put("k", "v")
        found = db.get("k")

        assert found is not None
        assert (found.value, found.version) == (b"v", version)
        assert db.cas("k", "w", expect="v")
        assert db.increment("n", 3) == 3
        assert [item and item.value for item in db.get_many(["k", "x"])] == [b"w", None]
        assert db.batch().put("a", "1").delete("k").commit()
        assert len(db.batch().put("a", "1")) == 1
        assert db.count() == 2
        assert db.list(prefix="a").cursor is None
        assert [status.role for status in db.status()] == ["leader"]
        with pytest.raises(InvalidArgument, match="timeout"):
            db.get("k", timeout=0)
        assert db.node.is_leader


def test_a_scan_is_an_iterator_that_may_be_left_early() -> None:
    with sync.open() as db:
        for number in range(600):
            db.put(f"k{number:03}", "v")

        assert [item.key for item in db.scan(prefix="k", limit=100)] == [f"k{n:03}".encode() for n in range(600)]
        for item in db.scan():
            assert item.key == b"k000"
            break


def test_many_threads_share_a_client_while_a_leader_is_killed() -> None:
    with sync.LocalCluster(3) as cluster:
        db = cluster.client(timeout=60)

        def count(_: int) -> None:
            for _ in range(25):
                db.increment("n")

        with ThreadPoolExecutor(8) as threads:
            counting = [threads.submit(count, number) for number in range(8)]
            killed = cluster.wait_leader(timeout=60)
            cluster.kill(killed)
            for each in counting:
                each.result()
        cluster.start(killed)

        found = db.get("n")
        assert found is not None
        assert found.value == b"200"
        assert sorted(cluster.nodes) == ["n1", "n2", "n3"]
        cluster.partition(["n1"])
        cluster.heal()
        assert cluster.wait_leader(timeout=60) == cluster.leader


def test_a_users_machine_is_called_by_method() -> None:
    with sync.LocalCluster(1, state_machine=Counter) as cluster:
        counter = cluster.client().machine(Counter)

        assert counter.add(2) == 2
        assert counter.add(1, timeout=5) == 3
        assert counter.current() == 3
        assert counter.add.__doc__ == "Add."
        assert dir(counter) == ["add", "current"]
        assert cluster.client().call(Counter.add, 1) == 4


def test_connect_reaches_a_node_by_its_address(tmp_path: Path) -> None:
    with sync.open(tmp_path, listen="127.0.0.1:0") as node:
        address = node.node.doors[1].address  # type: ignore[attr-defined]

        with sync.connect(address) as db:
            assert db.put("k", "v") == 1
            assert node.count() == 1


def test_a_call_after_the_end_is_refused() -> None:
    with sync.open() as db:
        pass

    with pytest.raises(Unavailable, match="closed"):
        db.put("k", "v")


def test_a_blocking_call_on_its_own_loop_is_refused_instead_of_waiting_for_itself() -> None:
    thread = LoopThread("mine")
    thread.start()

    async def careless() -> None:
        thread.call(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="wait for itself"):
        thread.call(careless())
    thread.stop()
    with pytest.raises(Unavailable, match="its thread has ended"):
        thread.call(asyncio.sleep(0))


@pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform == "darwin", reason="no fork here that is safe with threads"
)
def test_after_a_fork_the_child_is_told_and_can_open_anew() -> None:
    with sync.open() as db:
        db.put("k", "v")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                try:
                    db.get("k")
                except Unavailable:
                    with sync.open() as another:
                        code = 0 if another.put("k", "v") == 1 else 2
            finally:
                os._exit(code)

        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert "aegis-sync" in {thread.name for thread in threading.enumerate()}
