"""What does Raft look like without anything around it? Three nodes, one leader, a failover.

python examples/raft_node.py
"""

import asyncio

from aegis_replication import NotLeader, RaftConfig, RaftNode
from aegis_replication.state_machine.commands import Get, Put


async def leader_of(nodes: list[RaftNode]) -> RaftNode:
    """The node that leads, as soon as one does."""
    while True:
        for node in nodes:
            if await node.wait_leader() == node.id:
                return node
        await asyncio.sleep(0.01)


async def main() -> None:
    # Ids alone are found in this program; {1: "127.0.0.1:7101", ...} goes over TCP, and a directory makes it durable.
    nodes = [
        RaftNode(
            RaftConfig(node_id=each, peers=[1, 2, 3], election_timeout=(150, 300), heartbeat_interval=50), "memory"
        )
        for each in (1, 2, 3)
    ]
    for node in nodes:
        await node.start()

    leader = await leader_of(nodes)
    print("version:", await leader.propose(Put(b"key", b"value")))

    follower = next(node for node in nodes if node is not leader)
    await follower.wait_leader()
    try:
        await follower.propose(Put(b"key", b"other"))
    except NotLeader as refusal:
        print("the refusal names the leader:", refusal.leader == leader.id)

    await leader.stop()
    nodes.remove(leader)
    successor = await leader_of(nodes)
    found = await successor.read(Get(b"key"))
    print("the next leader knows it:", found.value, "in a later term:", successor.term > 1)

    for node in nodes:
        await node.stop()


asyncio.run(main())
