"""What does each call of the client do? On a cluster of three nodes in memory."""

import asyncio
from typing import Any

import msgspec
import pytest

from aegis_replication import wire
from aegis_replication.client.client import Client, connect
from aegis_replication.errors import (
    CommandFailed,
    InvalidArgument,
    InvalidCommand,
    LevelNotSupported,
    LimitExceeded,
    NotAnInteger,
    OutcomeUnknown,
    Unavailable,
)
from aegis_replication.local import LocalCluster
from aegis_replication.state_machine.commands import KeyValue, Put
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import StateMachine, command, query


async def cluster_client(cluster: LocalCluster, **items: str) -> Client:
    db = cluster.client()
    for key, value in items.items():
        await db.put(key, value)
    return db


async def test_a_value_comes_back_with_the_version_of_its_write(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()

    version = await db.put("k", "v")

    assert await db.get("k") == KeyValue(b"k", b"v", version)
    assert await db.get(b"k") == KeyValue(b"k", b"v", version)
    assert await db.get("absent") is None


async def test_text_is_stored_as_utf_8(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()

    await db.put("käse", "größer")

    found = await db.get("käse".encode())
    assert found is not None
    assert found.value.decode() == "größer"


async def test_get_many_keeps_the_order_and_says_what_is_absent(aegis_cluster: LocalCluster) -> None:
    db = await cluster_client(aegis_cluster, a="1", b="2")

    found = await db.get_many(["b", "nothing", "a"])

    assert [item and item.value for item in found] == [b"2", None, b"1"]
    assert await db.get_many([]) == []


async def test_get_many_goes_on_where_a_reply_was_cut(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()
    keys = [f"k{number}" for number in range(6)]
    for key in keys:
        await db.put(key, bytes(400_000))

    found = await db.get_many(keys)

    assert [item and len(item.value) for item in found] == [400_000] * 6


async def test_delete_and_take_say_what_was_there(aegis_cluster: LocalCluster) -> None:
    db = await cluster_client(aegis_cluster, a="1", b="2")

    assert await db.delete("a") == 1
    assert await db.delete("a") == 0
    assert await db.take("b") == KeyValue(b"b", b"2", 2)
    assert await db.take("b") is None
    assert await db.count() == 0


async def test_compare_and_set_by_value_and_by_version(aegis_cluster: LocalCluster) -> None:
    db = await cluster_client(aegis_cluster, k="1")

    assert await db.cas("k", "2", expect="1")
    refused = await db.cas("k", "3", expect="1")
    assert not refused
    assert await db.cas("k", "3", expect_version=refused.version)
    assert await db.cas("new", "1", expect_version=0)
    assert not await db.cas("new", "2", expect_version=0)
    assert await db.cas("k", None, expect="3")
    assert await db.get("k") is None


async def test_compare_and_set_needs_something_to_compare_with(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()

    with pytest.raises(InvalidArgument, match=r"expect_version=.*absent"):
        await db.cas("k", "v")
    with pytest.raises(InvalidArgument, match=r"expect_version=.*absent"):
        db.batch().require("k")


async def test_increment_counts_and_refuses_what_is_no_number(aegis_cluster: LocalCluster) -> None:
    db = await cluster_client(aegis_cluster, word="x")

    assert await db.increment("n") == 1
    assert await db.increment("n", -5) == -4
    with pytest.raises(NotAnInteger):
        await db.increment("word")
    with pytest.raises(InvalidArgument, match="by = '1'"):
        await db.increment("n", "1")  # type: ignore[arg-type]
    with pytest.raises(InvalidCommand, match="64-bit"):
        await db.increment("n", 2**63)


async def test_pages_follow_each_other_by_cursor(aegis_cluster: LocalCluster) -> None:
    db = await cluster_client(aegis_cluster, a1="1", a2="2", a3="3", b="4")

    page = await db.list(prefix="a", limit=2)
    rest = await db.list(prefix="a", limit=2, cursor=page.cursor)

    assert [item.key for item in page.items] == [b"a1", b"a2"]
    assert [item.key for item in rest.items] == [b"a3"]
    assert rest.cursor is None
    assert [item.key for item in (await db.list(start="a2", end="b")).items] == [b"a2", b"a3"]
    assert len((await db.list()).items) == 4


async def test_scan_goes_through_all_pages(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()
    await asyncio.gather(*(db.put(f"k{number:03}", str(number)) for number in range(100)))

    found = [item.value async for item in db.scan(prefix="k", limit=7)]

    assert found == [str(number).encode() for number in range(100)]
    assert [item async for item in db.scan(prefix="nothing")] == []


async def test_count_and_delete_range_take_the_same_ranges(aegis_cluster: LocalCluster) -> None:
    db = await cluster_client(aegis_cluster, a1="1", a2="2", a3="3", b="4")

    assert await db.count(prefix="a") == 3
    assert await db.delete_range(prefix="a", limit=1) == 1
    assert await db.delete_range(start="a2", end="a3") == 1
    assert [item.key async for item in db.scan()] == [b"a3", b"b"]
    with pytest.raises(InvalidArgument, match="no range was named"):
        await db.delete_range()
    assert await db.delete_range(start="") == 2


async def test_a_batch_happens_as_a_whole_or_not_at_all(aegis_cluster: LocalCluster) -> None:
    db = await cluster_client(aegis_cluster, a="1", b="2")

    batch = db.batch().require("a", expect="1").put("a", "10").delete("b").increment("n").delete_prefix("zz")
    done = await batch.commit()
    refused = await db.batch().require("a", expect="1").put("a", "11").commit(timeout=5)

    assert done
    assert len(batch) == len(done.results) == 4
    assert not refused
    assert refused.failed == 0
    assert [(item.key, item.value) async for item in db.scan()] == [(b"a", b"10"), (b"n", b"1")]
    assert await db.write_batch([Put(b"raw", b"1")])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda db: db.put(1, "v"), InvalidArgument, "key 1 is a int"),
        (lambda db: db.put("k", 5), InvalidArgument, "a value of type int"),
        (lambda db: db.put("k" * 70_000, "v"), LimitExceeded, "a key has 70,000 bytes, the limit is 65,536"),
        (lambda db: db.put("k", bytes(1_100_000)), LimitExceeded, "a value has 1,100,000 bytes"),
        (lambda db: db.list(prefix="a", start="b"), InvalidArgument, "one or the other"),
        (lambda db: db.list(limit=0), InvalidArgument, "limit = 0: give 1 to 10,000"),
        (lambda db: db.list(limit=True), InvalidArgument, "whole number"),
        (lambda db: db.get("k", consistency="one"), LevelNotSupported, "what works is 'linearizable'"),
    ],
)
async def test_bad_arguments_get_one_clear_error(
    aegis_cluster: LocalCluster, call: Any, error: type[Exception], text: str
) -> None:
    db = aegis_cluster.client()

    with pytest.raises(error, match=text):
        await call(db)


async def test_status_tells_of_every_node_once(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()
    follower = next(name for name in aegis_cluster.nodes if name != aegis_cluster.leader)
    await aegis_cluster.stop(follower)

    statuses = {status.address: status for status in await db.status()}

    assert sorted(statuses) == ["n1", "n2", "n3"]
    assert statuses[follower].role == "unreachable"
    assert "isn't running" in statuses[follower].error
    assert sorted(status.role for status in statuses.values()) == ["follower", "leader", "unreachable"]
    assert statuses[str(aegis_cluster.leader)].node == aegis_cluster.leader


# --- a machine of your own ------------------------------------------------------------------------------------------


class Inventory(StateMachine):
    stock: dict[str, int]

    def __init__(self) -> None:
        self.stock = {}

    @command
    def receive(self, sku: str, count: int = 1) -> int:
        """Take in."""
        self.stock[sku] = self.stock.get(sku, 0) + count
        return self.stock[sku]

    @command
    def reserve(self, sku: str, count: int) -> None:
        left = self.stock.get(sku, 0)
        self.stock[sku] = 0
        if left < count:
            raise ValueError(f"only {left} of {sku}")
        self.stock[sku] = left - count

    @query
    def available(self, sku: str) -> int:
        return self.stock.get(sku, 0)

    def unmarked(self) -> None: ...


@pytest.mark.aegis(state_machine=Inventory)
async def test_methods_of_a_users_machine_are_awaited_like_local_ones(aegis_cluster: LocalCluster) -> None:
    shop = aegis_cluster.client().machine(Inventory)

    assert await shop.receive("cup", 5) == 5
    assert await shop.receive("cup", timeout=5) == 6
    assert await shop.receive(sku="cup", count=1) == 7
    await shop.reserve("cup", 3)
    assert await shop.available("cup") == 4
    assert "receive" in dir(shop)
    assert shop.receive.__doc__ == "Take in."


@pytest.mark.aegis(state_machine=Inventory)
async def test_a_command_that_raises_is_an_error_here_and_changes_nothing(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()
    await db.call(Inventory.receive, "cup", 2)

    with pytest.raises(CommandFailed, match="ValueError: only 2 of cup"):
        await db.call(Inventory.reserve, "cup", 3)

    assert await db.query(Inventory.available, "cup") == 2


@pytest.mark.aegis(state_machine=Inventory)
async def test_what_does_not_fit_a_users_machine_is_refused(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client()
    shop = db.machine(Inventory)

    with pytest.raises(InvalidArgument, match="missing a required argument"):
        await shop.reserve("cup")
    with pytest.raises(InvalidCommand):
        await shop.reserve("cup", "three")
    with pytest.raises(InvalidArgument, match=r"is a @query: use query\(\)"):
        await db.call(Inventory.available, "cup")
    with pytest.raises(InvalidArgument, match=r"is a @command: use call\(\)"):
        await db.query(Inventory.receive, "cup")
    with pytest.raises(InvalidArgument, match="neither a @command nor a @query"):
        await db.call(Inventory.unmarked)
    with pytest.raises(InvalidArgument, match=r"such as Inventory\.reserve"):
        await db.call("reserve", "cup", 3)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="no command or query 'resrve'"):
        _ = shop.resrve
    with pytest.raises(InvalidArgument, match="no StateMachine"):
        db.machine(dict)  # type: ignore[arg-type]
    with pytest.raises(InvalidCommand):
        await db.put("k", "v")


# --- trouble --------------------------------------------------------------------------------------------------------


async def test_fifty_writers_lose_and_double_nothing_while_leaders_stop(aegis_cluster: LocalCluster) -> None:
    db = aegis_cluster.client(timeout=60)
    running, counts = True, dict.fromkeys(range(50), 0)
    progress = asyncio.Event()

    async def writer(number: int) -> None:
        while running:
            total = await db.increment(f"n{number}")
            counts[number] += 1
            assert total == counts[number]
            progress.set()

    writers = [asyncio.ensure_future(writer(number)) for number in range(50)]
    for stop in (aegis_cluster.stop, aegis_cluster.kill, aegis_cluster.kill):
        leader = await aegis_cluster.wait_leader(timeout=60)
        await stop(leader)
        progress.clear()
        await progress.wait()  # acknowledged by another leader
        await aegis_cluster.start(leader)
    running = False
    await asyncio.gather(*writers)

    found = await db.get_many([f"n{number}" for number in range(50)])
    assert [int(item.value) for item in found if item] == [*counts.values()]


async def test_without_a_quorum_the_outcome_of_a_write_is_unknown_and_nothing_is_lost(
    aegis_cluster: LocalCluster,
) -> None:
    db = aegis_cluster.client()
    await db.put("k", "1")
    leader = str(aegis_cluster.leader)
    aegis_cluster.partition([leader])

    with pytest.raises((OutcomeUnknown, Unavailable)):
        await Client(_only(aegis_cluster, leader), [leader]).put("k", "2", timeout=1.0)
    aegis_cluster.heal()
    await db.put("k", "3", timeout=60)

    found = await db.get("k")
    assert found is not None
    assert found.value == b"3"


class _only:
    """Dials one node and pretends that there is no other."""

    def __init__(self, cluster: LocalCluster, node: str) -> None:
        self._dialer, self._node = cluster.client()._router._links._dialer, node

    async def dial(self, address: str, **options: Any) -> Any:
        if address != self._node:
            raise Unavailable(f"{address} can't be reached")
        return await self._dialer.dial(address, **options)


async def test_a_clients_writes_survive_that_all_nodes_stop(tmp_path: Any) -> None:
    async with LocalCluster(3, directory=tmp_path) as cluster:
        db = cluster.client(timeout=60)
        await asyncio.gather(*(db.put(f"k{number}", "v") for number in range(200)))

        for name in [*cluster.nodes]:
            await cluster.kill(name)
        for name in ("n1", "n2", "n3"):
            await cluster.start(name)

        assert await db.count(prefix="k") == 200
        assert await db.put("k0", "w") == 201


@pytest.mark.aegis(1, state_machine=lambda: SessionMachine(KeyValueMachine(), sessions_max=1))
async def test_clients_whose_sessions_push_each_other_out_still_count_right(aegis_cluster: LocalCluster) -> None:
    one, other = aegis_cluster.client(), aegis_cluster.client()

    for _ in range(20):
        await one.increment("n")
        await other.increment("n")

    assert await one.increment("n", 0) == 40


# --- over TCP -------------------------------------------------------------------------------------------------------


async def test_packets_of_one_turn_leave_in_one_write() -> None:
    """A server that only counts reads: a hundred calls made in one turn come in a few of them."""
    reads: list[int] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = wire.Hello("client", wire.PROTOCOL_LOWEST, wire.PROTOCOL_HIGHEST, node="n1")
        writer.write(wire.encode_hello(hello))
        await reader.read(65536)
        status = {"addresses": {}, "groups": {"1": {"role": "leader"}}}
        while packets := await reader.read(65536):
            whole, _ = wire.split_packets(packets, 65536)
            reads.append(len(whole))
            for packet in whole:
                number = int.from_bytes(packet[5:13], "little")
                body = msgspec.msgpack.encode(status if packet[0] == wire.STATUS else None)
                writer.write(wire.encode_reply(number, wire.OK, body))
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with connect(f"aegis://127.0.0.1:{port}") as db:
        await db.get("first")
        reads.clear()
        await asyncio.gather(*(db.get(f"k{number}") for number in range(100)))

    assert sum(reads) == 100
    assert len(reads) <= 3
    await ended.wait()
    server.close()
    await server.wait_closed()
