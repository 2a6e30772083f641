"""Does an embedded database do what `open` says: in memory, durable, on its own thread, one voter of several?"""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from free_ports import addresses

import aegis_replication as aegis
from aegis_replication.errors import ConfigError, DirectoryInUse, InvalidArgument, Unavailable, WrongIdentity
from aegis_replication.local import Database


class Counter(aegis.StateMachine):
    total: int = 0

    @aegis.command
    def add(self, count: int) -> int:
        self.total += count
        return self.total


async def test_without_a_path_nothing_outlives_it() -> None:
    async with aegis.open() as db:
        await db.put("k", "v")

    async with aegis.open() as db:
        assert await db.get("k") is None


async def test_with_a_path_everything_acknowledged_outlives_it(tmp_path: Path) -> None:
    async with aegis.open(tmp_path / "made" / "for me") as db:
        await asyncio.gather(*(db.put(f"k{number}", "v") for number in range(50)))

    async with aegis.open(tmp_path / "made" / "for me") as db:
        assert await db.count() == 50
        assert await db.put("k0", "w") == 51


async def test_two_databases_in_memory_are_strangers(caplog: pytest.LogCaptureFixture) -> None:
    async with aegis.open() as one, aegis.open() as other:
        await one.put("k", "v")

        assert await other.get("k") is None
        assert "replaced another node" not in caplog.text


async def test_a_users_machine_is_kept_as_well(tmp_path: Path) -> None:
    async with aegis.open(tmp_path, state_machine=Counter) as db:
        assert await db.call(Counter.add, 2) == 2

    async with aegis.open(tmp_path, state_machine=Counter) as db:
        assert await db.machine(Counter).add(3) == 5


async def test_a_directory_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with aegis.open(tmp_path) as db:
        with pytest.raises(DirectoryInUse, match="in use by process"):
            await aegis.open(tmp_path).start()

        assert await db.put("k", "v") == 1


async def test_another_nodes_directory_is_refused(tmp_path: Path) -> None:
    async with aegis.open(tmp_path):
        pass

    with pytest.raises(WrongIdentity, match="belongs to node n1"):
        await aegis.open(tmp_path, node_id="n2").start()
    with pytest.raises(WrongIdentity, match="cluster aegis"):
        await aegis.open(tmp_path, cluster="other").start()


async def test_after_a_failed_start_the_directory_is_free(tmp_path: Path) -> None:
    async with aegis.open(tmp_path) as db:
        await db.put("k", "v")

    with pytest.raises(WrongIdentity, match=r"its disk knows n1 .* say n1, n2"):
        await aegis.open(tmp_path, peers=["n2"]).start()

    async with aegis.open(tmp_path) as db:
        assert await db.count() == 1


async def test_a_closed_database_says_so() -> None:
    async with aegis.open() as db:
        pass

    with pytest.raises(Unavailable, match="closed"):
        await db.put("k", "v")


# --- a thread of its own --------------------------------------------------------------------------------------------


async def test_with_its_own_thread_a_busy_caller_costs_no_office() -> None:
    async with aegis.open(own_thread=True) as db:
        await db.increment("n")
        node = db.node
        turns, term = node.turns, node.replica().raft.term

        while node.turns < turns + 20:  # its heartbeats go on, whatever this loop does
            time.sleep(0.01)  # noqa: ASYNC251

        assert await db.increment("n") == 2
        assert node.replica().raft.term == term


async def test_requests_are_handled_on_the_nodes_thread_and_answers_here() -> None:
    async with aegis.open(own_thread=True) as db:
        node, threads = db.node, set()
        handle = node.on_requests
        node.on_requests = lambda *arguments: (  # type: ignore[method-assign]
            threads.add(threading.current_thread().name) or handle(*arguments)  # type: ignore[func-returns-value]
        )

        await asyncio.gather(*(db.increment("n") for _ in range(10)))

        assert threads == {"aegis-n1"}


async def test_calls_cross_to_the_thread_and_back_in_any_number(tmp_path: Path) -> None:
    async with aegis.open(tmp_path, own_thread=True) as db:
        totals = await asyncio.gather(*(db.increment("n") for _ in range(3000)))

        assert sorted(totals) == [*range(1, 3001)]
        assert [item.key async for item in db.scan()] == [b"n"]


async def test_the_thread_ends_with_the_database(tmp_path: Path) -> None:
    async with aegis.open(tmp_path, own_thread=True):
        assert "aegis-n1" in {thread.name for thread in threading.enumerate()}

    assert "aegis-n1" not in {thread.name for thread in threading.enumerate()}


async def test_a_failed_start_on_a_thread_is_an_error_here_and_ends_the_thread(tmp_path: Path) -> None:
    async with aegis.open(tmp_path):
        with pytest.raises(DirectoryInUse):
            await aegis.open(tmp_path, own_thread=True).start()

    assert "aegis-n1" not in {thread.name for thread in threading.enumerate()}


async def test_a_node_on_a_busy_loop_counts_its_late_turns_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with aegis.open(election_timeout=(1000, 2000), heartbeat_interval=20) as db:
        await db.put("k", "v")

        while not db.node.slow_turns:
            time.sleep(0.1)  # noqa: ASYNC251
            await asyncio.sleep(0.001)

        assert "the event loop was busy elsewhere" in caplog.text


# --- one voter of several -------------------------------------------------------------------------------------------


async def opened(databases: list[Database]) -> list[Database]:
    for database in databases:
        await database.start()
    return databases


async def closed(databases: list[Database]) -> None:
    for database in databases:
        await database.close()


async def test_nodes_of_one_program_find_each_other_by_the_clusters_name() -> None:
    databases = await opened([aegis.open(node_id=each, peers=[1, 2, 3], cluster="by name") for each in (1, 2, 3)])

    totals = [await each.increment("n") for each in databases]

    assert totals == [1, 2, 3]
    await closed(databases)


async def test_nodes_on_threads_of_their_own_find_each_other_too() -> None:
    databases = await opened(
        [aegis.open(node_id=each, peers=[1, 2, 3], cluster="threads", own_thread=True) for each in (1, 2, 3)]
    )

    totals = [await each.increment("n", timeout=60) for each in databases]

    assert totals == [1, 2, 3]
    await closed(databases)


async def test_voters_on_the_network_serve_each_others_callers(tmp_path: Path) -> None:
    *peers, one, two, three = addresses(6)
    databases = await opened(
        [
            aegis.open(tmp_path / str(each), node_id=each, peers=dict(zip((1, 2, 3), peers)), listen=listen)
            for each, listen in ((1, one), (2, two), (3, three))
        ]
    )

    totals = [await each.increment("n", timeout=60) for each in databases]
    async with aegis.connect(f"aegis://{one},{two},{three}") as client:
        totals.append(await client.increment("n", timeout=60))

    assert totals == [1, 2, 3, 4]
    await closed(databases)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"peers": {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2"}}, ConfigError, "listen is missing"),
        ({"peers": {"n2": "127.0.0.1:2"}, "listen": "127.0.0.1:3"}, ConfigError, "no address for n1"),
        ({"listen": "0.0.0.0:7480"}, ConfigError, "not encrypted yet.*insecure=True"),
        ({"peers": {"n1": "10.0.0.1:1"}, "listen": "127.0.0.1:2"}, ConfigError, r"peers\['n1'\] = '10.0.0.1:1'"),
        ({"node_id": "a/b"}, InvalidArgument, "is not a name"),
        ({"election_timeout": (10, 20)}, ConfigError, "must exceed heartbeat_interval"),
        ({"state_machine": 5}, InvalidArgument, "is no state machine"),
        ({"timeout": 0}, InvalidArgument, "timeout = 0"),
    ],
)
async def test_bad_options_get_one_clear_error(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await aegis.open(**options).start()


async def test_an_open_address_that_is_asked_for_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    async with aegis.open(listen="0.0.0.0:0", insecure=True):
        pass

    assert "insecure: listen = '0.0.0.0:0'" in caplog.text
