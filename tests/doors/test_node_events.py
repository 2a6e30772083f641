"""Does a program that embeds a node learn what changes there?"""

import asyncio
import contextlib
import threading

from aegis_replication import LocalCluster, RaftConfig, RaftNode, open, sync
from aegis_replication.engine.events import RoomChanged
from aegis_replication.events import (
    DiskFilled,
    DiskHasRoom,
    Drained,
    LeaderChanged,
    LeadershipGained,
    LeadershipLost,
    MembersChanged,
    NodeEvent,
    SnapshotInstalled,
    SnapshotMade,
)
from aegis_replication.node.event_streams import EventStream


async def until(stream: EventStream, kind: type[NodeEvent]) -> NodeEvent:
    """The next event of that kind."""
    async with asyncio.timeout(60):
        async for event in stream:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the stream ended without {kind.__name__}")


async def test_a_leader_that_is_killed_is_followed_by_one_that_says_so() -> None:
    async with LocalCluster(3) as cluster:
        old = str(cluster.leader)
        streams = {name: node.events() for name, node in cluster.nodes.items()}

        await cluster.kill(old)
        new = await cluster.wait_leader()

        gained = await until(streams[new], LeadershipGained)
        assert isinstance(gained, LeadershipGained)
        assert gained.term == cluster.nodes[new].replica().raft.term
        other = next(name for name in cluster.nodes if name != new)
        changed = [event async for event in stream_until_leader(streams[other], new)]
        assert changed[-1] == LeaderChanged(1, gained.term, new)
        assert [event async for event in streams[old]] == []  # a killed node says nothing, and its stream ends


async def stream_until_leader(stream: EventStream, leader: str):  # type: ignore[no-untyped-def]
    async with asyncio.timeout(60):
        async for event in stream:
            yield event
            if isinstance(event, LeaderChanged) and event.leader == leader:
                return


async def test_a_drained_leader_tells_that_it_lost_its_office_and_is_done() -> None:
    async with LocalCluster(3) as cluster:
        leader = cluster.nodes[str(cluster.leader)]
        stream, term = leader.events(), leader.replica().raft.term

        is_done = await leader.drain(timeout=60)

        lost, drained = await until(stream, LeadershipLost), await until(stream, Drained)
        assert is_done
        assert isinstance(lost, LeadershipLost)
        assert lost.term == term
        assert drained == Drained(True)


async def test_a_change_of_members_is_told_on_every_node() -> None:
    async with LocalCluster(3) as cluster:
        db = cluster.client(timeout=60)
        away = next(name for name in cluster.nodes if name != cluster.leader)
        streams = {name: node.events() for name, node in cluster.nodes.items() if name != away}

        await db.remove_node(away)

        for stream in streams.values():
            event = await until(stream, MembersChanged)
            assert isinstance(event, MembersChanged)
            assert event.voters == tuple(name for name in ("n1", "n2", "n3") if name != away)
            assert (event.learners, event.leaving) == ((), ())


async def test_snapshots_made_and_installed_are_told() -> None:
    async with LocalCluster(3, snapshot_threshold=20, trailing_entries=0) as cluster:
        db = cluster.client(timeout=60)
        behind = next(name for name in cluster.nodes if name != cluster.leader)
        made = cluster.nodes[str(cluster.leader)].events()
        cluster.partition([behind])
        stream = cluster.nodes[behind].events()

        # Until the leader, which keeps what a follower that it heard lately still needs, has forgotten that.
        needed = cluster.nodes[behind].replica().raft.log.last_index + 1
        async with asyncio.timeout(60):
            while cluster.nodes[str(cluster.leader)].replica().raft.log.first <= needed:
                await db.put("k", "v")
        snapshot = await until(made, SnapshotMade)
        cluster.heal()
        installed = await until(stream, SnapshotInstalled)

        assert isinstance(snapshot, SnapshotMade)
        assert isinstance(installed, SnapshotInstalled)
        assert snapshot.size_bytes > 0
        assert installed.index >= 20
        assert installed.source in cluster.nodes


async def test_a_full_disk_is_told_once_and_so_is_room() -> None:
    async with open() as db:
        stream = db.events()

        for room_bytes in (1000, 500, None, None):
            db.node._on_event(RoomChanged(room_bytes, "the disk is full"))
            await db.put("k", "v") if room_bytes is None else await db.get("k")
        await db.close()

        told = [event async for event in stream if isinstance(event, DiskFilled | DiskHasRoom)]
        assert told == [DiskFilled("the disk is full"), DiskHasRoom()]


async def test_a_database_on_a_thread_of_its_own_is_heard_on_this_loop() -> None:
    async with open(own_thread=True, snapshot_threshold=5) as db:
        stream = db.events()

        for number in range(10):
            await db.put(f"k{number}", "v")

        assert isinstance(await until(stream, SnapshotMade), SnapshotMade)


async def test_a_raft_node_that_starts_again_has_new_streams() -> None:
    node = RaftNode(RaftConfig(1), cluster="streams")
    await node.start()
    await node.wait_leader()
    first = node.events()
    await node.stop()
    assert [event async for event in first] == []

    await node.start()
    second = node.events()
    gained = await until(second, LeadershipGained)
    await node.stop()

    assert isinstance(gained, LeadershipGained)


def test_a_blocking_program_reads_with_a_plain_for() -> None:
    got: list[NodeEvent] = []
    with contextlib.closing(sync.open(snapshot_threshold=5).start()) as db:
        stream = db.events()
        reader = threading.Thread(target=lambda: got.extend(stream))
        reader.start()
        for number in range(10):
            db.put(f"k{number}", "v")
    reader.join(60)

    assert any(isinstance(event, SnapshotMade) for event in got)
