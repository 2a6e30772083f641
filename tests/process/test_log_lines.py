"""What does a node's run leave in its log? Each change of state once, as JSON, and nothing of keys or values."""

import asyncio
import json
from collections import Counter

from aegis_replication.client.client import connect

HUNG_SECONDS = 60.0


async def test_a_run_says_each_change_of_state_once_and_no_key_or_value(cluster_of):
    cluster = cluster_of(options=("--log-format", "json"))
    cluster.start()
    leader = await asyncio.to_thread(cluster.wait_leader)
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        await database.put("a-key-nobody-may-see\nlevel=error", b"a-value-nobody-may-see")
        assert cluster.nodes[leader].terminate() == 0
        await database.put("another-key-nobody-may-see", b"a-value-nobody-may-see")
    cluster.stop()

    for name, node in cluster.nodes.items():
        text = node.log_path.read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        roles = Counter((line["term"], line["role"], line["leader"]) for line in lines if "role" in line)
        members = [line for line in lines if "voters" in line]
        said = Counter(line["message"] for line in lines if line["logger"] == "aegis.node")

        assert "nobody-may-see" not in text
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
        assert all(line.get("node") == name for line in lines), text
        assert roles, text
        assert set(roles.values()) == {1}, text
        assert [line["voters"] for line in members] == ["n1,n2,n3"]
        assert sum(count for message, count in said.items() if "is ready" in message) == 1
        assert said["draining: others are to lead what this node leads"] == 1
        assert said["stopped; everything acknowledged is on disk"] == 1
    assert "drained: it leads nothing any more" in cluster.nodes[leader].log_path.read_text()
