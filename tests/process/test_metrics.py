"""Does a real cluster serve every metric that is listed, with figures that are true?"""

import asyncio
import re
import urllib.request
from pathlib import Path

import pytest

from aegis_replication.client.client import connect
from aegis_replication.observability.metrics import METRICS

pytest.importorskip("prometheus_client", reason="the extra http is not installed")

from prometheus_client.parser import text_string_to_metric_families as parse

HUNG_SECONDS = 60.0
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def scrape(node) -> str:
    with urllib.request.urlopen(f"http://{node.http_address}/metrics", timeout=HUNG_SECONDS) as answer:
        return answer.read().decode()


async def test_a_cluster_serves_what_the_page_lists_and_it_is_true(cluster_of):
    cluster = cluster_of(http=True)
    cluster.start()
    leader = await asyncio.to_thread(cluster.wait_leader)
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        for number in range(50):
            await database.put(f"nobody-may-see/{number}", b"nobody-may-see")
        await asyncio.to_thread(cluster.wait_caught_up)
    for node in cluster.nodes.values():  # the door counts its own answers: from the second one on there is something
        await asyncio.to_thread(scrape, node)

    texts = {name: await asyncio.to_thread(scrape, node) for name, node in cluster.nodes.items()}
    samples = {
        name: {
            (each.name, *(value for _, value in sorted(each.labels.items()))): each.value
            for family in parse(text)
            for each in family.samples
        }
        for name, text in texts.items()
    }

    listed = set(re.findall(r"^\| `(\w+)` \| (?:gauge|counter|histogram)", PAGE.read_text(), re.MULTILINE))
    served = {name for text in texts.values() for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)}
    assert served == listed
    assert {each.name for each in METRICS} < listed
    assert not any("nobody-may-see" in text for text in texts.values())

    group = cluster.status()[leader]["groups"]["1"]
    followers = sorted(set(cluster.nodes) - {leader})
    assert [name for name, each in samples.items() if each["aegis_raft_is_leader", "1"]] == [leader]
    for name, each in samples.items():
        assert each["aegis_node_ready",] == each["aegis_raft_has_leader", "1"] == each["aegis_raft_is_voter", "1"] == 1
        assert each["aegis_raft_term", "1"] == group["term"]
        assert each["aegis_raft_applied_index", "1"] >= 50
        assert each["aegis_raft_apply_lag_entries", "1"] == 0
        assert each["aegis_loop_lag_seconds_count",] > 0
        assert each["aegis_loop_turns_total",] > 50
        assert each["aegis_wal_fsync_duration_seconds_count",] > 0
        assert each["aegis_wal_bytes_total",] > 50 * len("nobody-may-see")
        assert 0 < each["aegis_disk_free_bytes",] < each["aegis_disk_size_bytes",]
        assert {peer: each["aegis_peer_connected", peer] for peer in cluster.nodes if peer != name} == dict.fromkeys(
            set(cluster.nodes) - {name}, 1
        )
    assert samples[leader]["aegis_raft_proposals_total", "1"] >= 50
    assert samples[leader]["aegis_raft_proposal_duration_seconds_count", "1"] >= 50
    assert samples[leader]["aegis_door_requests_total", "clients"] >= 50
    assert [samples[leader]["aegis_raft_peer_match_lag_entries", "1", peer] for peer in followers] == [0, 0]
    assert all(samples[name]["aegis_raft_proposals_total", "1"] == 0 for name in followers)
