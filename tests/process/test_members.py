"""Do members come, go and take each other's places on real nodes, under load, and nothing is lost?"""

import asyncio
import json
import shutil
import time
from contextlib import asynccontextmanager
from random import Random

import pytest

from aegis_replication.cli import endings
from aegis_replication.client.client import connect
from aegis_replication.demo.copies import compare_copies
from aegis_replication.errors import AegisError, LearnerLags, OutcomeUnknown, WouldLoseQuorum
from aegis_replication.processes import LocalProcesses, ask_status
from aegis_replication.simulation.checkers import linearizability
from aegis_replication.simulation.checkers.linearizability import FOREVER, UNKNOWN, Operation

HUNG_SECONDS = 60.0
SEED = 20261124


def until(what: str, is_true) -> None:
    deadline = time.monotonic() + HUNG_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, f"hung: {what}"
        time.sleep(0.02)


def group_of(cluster: LocalProcesses, name: str) -> dict:
    return ask_status(cluster.nodes[name].client_address)["groups"]["1"]


def started(cluster: LocalProcesses) -> LocalProcesses:
    cluster.start()
    cluster.wait_leader()
    until("every directory is known", lambda: all(row["incarnation"] for row in listed(cluster)))
    return cluster


def listed(cluster: LocalProcesses) -> list[dict]:
    async def main():
        async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
            return await database.members()

    members = asyncio.run(main())
    return [{name: getattr(row, name) for name in row.__struct_fields__} for row in members.members]


def roles(cluster: LocalProcesses) -> dict[str, str]:
    return {row["node"]: row["role"] for row in listed(cluster)}


@asynccontextmanager
async def judged(cluster: LocalProcesses, seed: int):
    """A few clients on a few registers while the block runs; then their history must be linearizable."""
    history: list[Operation] = []
    ending = asyncio.Event()
    moments = iter(range(10**9))

    async def play(index: int, database) -> None:
        random = Random(f"{seed}/{index}")
        number = 0
        while not ending.is_set():
            number += 1
            key, value = f"register/{random.randrange(3)}", b"%d.%d" % (index, number)
            action = random.choice([("get",), ("get",), ("put", value), ("delete",)])
            called = next(moments)
            try:
                if action[0] == "get":
                    found = await database.get(key, timeout=HUNG_SECONDS)
                    result = found.value if found is not None else None
                elif action[0] == "put":
                    result = await database.put(key, value, timeout=HUNG_SECONDS) > 0
                else:
                    result = await database.delete(key, timeout=HUNG_SECONDS) > 0
            except OutcomeUnknown:
                history.append(Operation(str(index), key, action, called, FOREVER, UNKNOWN))
            else:
                history.append(Operation(str(index), key, action, called, next(moments), result))
            await asyncio.sleep(0.01)

    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database, asyncio.TaskGroup() as group:
        for index in range(3):
            group.create_task(play(index, database))
        try:
            yield history
        finally:
            ending.set()
    assert linearizability.check(history) is None


async def test_five_nodes_are_replaced_one_by_one_under_load_and_kills(cluster_of, loaded):
    cluster = started_cluster = await asyncio.to_thread(started, cluster_of(count=5))
    random, founders = Random(SEED), sorted(cluster.nodes)

    async with judged(cluster, SEED) as history, loaded(cluster, SEED) as load:
        for number, old in enumerate(founders, 6):
            await load.wait_more(150)
            new = cluster.add(f"n{number}")
            new.options = [*new.options, "--learner"]
            await asyncio.to_thread(new.start)
            victim = random.choice([name for name in cluster.nodes if name not in (old, new.node)])
            async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as operator:
                replacing = asyncio.create_task(replaced(operator, old, new))
                await asyncio.to_thread(cluster.nodes[victim].kill)
                await asyncio.to_thread(cluster.nodes[victim].start)
                await replacing
            await load.wait_more(100)
            await asyncio.to_thread(cluster.forget, old)
        await load.wait_more(200)
        load.end()
        lost = await load.find_lost()

    print(f"seed {SEED}: {load.acknowledged} acknowledged, {len(history)} judged")
    assert lost == []
    assert sorted(cluster.nodes) == ["n10", "n6", "n7", "n8", "n9"]
    assert await asyncio.to_thread(roles, cluster) == dict.fromkeys(cluster.nodes, "voter")
    await asyncio.to_thread(cluster.wait_caught_up)
    assert set((await asyncio.to_thread(cluster.stop)).values()) == {0}
    assert compare_copies({name: node.directory for name, node in started_cluster.nodes.items()}).equal


async def replaced(operator, old: str, new) -> None:
    """Until it is done: what was asked for may be asked for again."""
    deadline = time.monotonic() + HUNG_SECONDS
    while True:
        try:
            await operator.replace_node(old, new.node, new.peer_address, timeout=HUNG_SECONDS)
        except (OutcomeUnknown, WouldLoseQuorum):  # the leader was killed; or more than one node is away just now
            assert time.monotonic() < deadline, f"hung: {new.node} in the place of {old}"
            await asyncio.sleep(0.2)
        else:
            return


def test_a_wiped_voter_is_refused_under_its_old_name_until_it_is_added_anew(cluster_of):
    """As in bugs of others (rethinkdb 5289, openraft 2002): the same name with an empty log made two quorums."""
    cluster = started(cluster_of())
    leader = cluster.wait_leader()
    wiped = next(name for name in sorted(cluster.nodes) if name != leader)
    other = next(name for name in sorted(cluster.nodes) if name not in (leader, wiped))
    cluster.nodes[wiped].kill()
    shutil.rmtree(cluster.nodes[wiped].directory)
    cluster.nodes[wiped].start()
    until("the wiped node is refused", lambda: "a directory made anew has forgotten" in log_of(cluster, wiped))

    # With the other one gone too there is no majority: the wiped one must not make one.
    cluster.nodes[other].kill()
    until("nobody leads", lambda: cluster.leader() is None)
    assert group_of(cluster, wiped)["role"] != "leader"
    time.sleep(1.0)
    assert cluster.leader() is None
    cluster.nodes[other].start()
    cluster.wait_leader()

    run(cluster, lambda database: database.remove_node(wiped))
    run(cluster, lambda database: database.add_node(wiped, cluster.nodes[wiped].peer_address))
    assert roles(cluster) == dict.fromkeys(cluster.nodes, "voter")


def log_of(cluster: LocalProcesses, name: str) -> str:
    return cluster.nodes[name].log_path.read_text(errors="replace")


def run(cluster: LocalProcesses, use):
    async def main():
        async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
            return await use(database)

    return asyncio.run(main())


def test_sigterm_hands_over_before_the_leader_stops(cluster_of):
    cluster = started(cluster_of())
    leader = cluster.wait_leader()
    term = group_of(cluster, leader)["term"]

    assert cluster.nodes[leader].terminate() == 0

    following = [name for name in cluster.nodes if name != leader]
    until("another leads", lambda: cluster.leader() in following)
    assert "handed over" in "".join(log_of(cluster, name) for name in following)
    assert group_of(cluster, following[0])["term"] == term + 1


def test_a_removed_node_that_runs_on_disturbs_nobody_and_says_so(cluster_of):
    cluster = started(cluster_of())
    leader = cluster.wait_leader()
    removed = next(name for name in sorted(cluster.nodes) if name != leader)
    cluster.wait_caught_up()  # a node that hasn't been heard yet is no reason to refuse

    run(cluster, lambda database: database.remove_node(removed))
    until("it knows", lambda: group_of(cluster, removed)["membership"] == "removed")
    term = group_of(cluster, leader)["term"]
    cluster.nodes[removed].kill()
    cluster.nodes[removed].start()  # with the peers of its first start, as a unit file has them
    until("it is refused", lambda: "is not a member" in log_of(cluster, removed))

    assert (cluster.leader(), group_of(cluster, leader)["term"]) == (leader, term)


def test_a_leader_that_is_removed_is_followed_by_another(cluster_of):
    cluster = started(cluster_of())
    leader = cluster.wait_leader()

    members = run(cluster, lambda database: database.remove_node(leader))

    assert leader not in [row.node for row in members.members]
    until("another leads", lambda: cluster.leader() not in (None, leader))


def test_an_address_that_changes_is_learned_from_the_node_itself(cluster_of):
    cluster = started(cluster_of())
    leader = cluster.wait_leader()
    moved = next(name for name in sorted(cluster.nodes) if name != leader)
    node = cluster.nodes[moved]
    assert node.terminate() == 0
    node.peer_address = cluster.add("spare").peer_address
    node.peers = {**node.peers, moved: node.peer_address}
    del cluster.nodes["spare"]

    node.start()

    until(
        "its new address is known",
        lambda: {row["node"]: row["address"] for row in listed(cluster)}[moved] == node.peer_address,
    )
    cluster.wait_caught_up()


def test_a_joining_node_waits_for_a_cluster_of_its_name(cluster_of):
    cluster = started(cluster_of())
    stranger = cluster.add("n4")
    stranger.options = ["--cluster", "another"]
    stranger.start()

    until("it is refused", lambda: "not a member yet" in log_of(cluster, "n4"))

    assert "you belong to 'another'" in log_of(cluster, "n4")
    assert group_of(cluster, "n4")["membership"] == "waiting"
    assert sorted(roles(cluster)) == ["n1", "n2", "n3"]


def test_a_joining_node_that_was_interrupted_begins_no_cluster_of_its_own(cluster_of):
    cluster = cluster_of()
    node = cluster.add("n4")
    node.join = "127.0.0.1:1"
    node.start()
    until("it asks", lambda: "not a member yet" in log_of(cluster, "n4"))
    node.kill()
    node.join = ""  # started again without --join, and without peers
    node.peers = {}
    node.start()

    until("it runs again", lambda: log_of(cluster, "n4").count("is ready") == 2)

    assert group_of(cluster, "n4")["membership"] == "waiting"
    assert group_of(cluster, "n4")["role"] == "follower"


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def aegis(cluster_of):
    import subprocess
    import sys

    cluster = started(cluster_of())

    def call(*words: str, timeout: str = "20") -> tuple[int, str, str]:
        command = [sys.executable, "-m", "aegis_replication.cli.main", *words, "--endpoints", cluster.endpoints]
        ran = subprocess.run([*command, "--timeout", timeout], capture_output=True, text=True, timeout=HUNG_SECONDS)
        return ran.returncode, ran.stdout, ran.stderr

    call.cluster = cluster
    return call


def test_the_commands_change_members_and_may_be_repeated(aegis):
    cluster = aegis.cluster
    new = cluster.add("n4")
    new.options = [*new.options, "--learner"]
    new.start()
    until("it is a learner", lambda: roles(cluster).get("n4") == "learner")

    for words in (
        ("node", "promote", "n4"),
        ("node", "demote", "n4"),
        ("node", "replace", "n3", f"n4={new.peer_address}"),
        ("node", "add", f"n4={new.peer_address}"),
        ("node", "remove", "n3"),
        ("cluster", "transfer-leader", "n4"),
    ):
        for _ in range(2):
            code, _, talk = aegis(*words)
            assert (code, talk.count("bug of ours")) == (endings.OK, 0), (words, talk)

    code, out, _ = aegis("node", "list", "-o", "json")
    answer = json.loads(out)
    assert code == endings.OK
    assert (answer["leader"], sorted(row["node"] for row in answer["members"])) == ("n4", ["n1", "n2", "n4"])
    assert set(answer["members"][0]) == {
        "node", "role", "is_leader", "match_index", "lag_entries", "is_level", "silent_ms", "replaces", "priority",
        "address", "client_address", "incarnation",
    }  # fmt: skip


def test_the_commands_refuse_what_can_not_be_saying_why(aegis):
    cluster = aegis.cluster
    leader = cluster.wait_leader()
    others = [name for name in sorted(cluster.nodes) if name != leader]

    assert aegis("node", "promote", "n9")[0] == endings.NOT_FOUND
    assert aegis("node", "add", "n9")[0] == endings.USAGE
    assert aegis("node", "add", "n9=nowhere")[0] == endings.USAGE
    assert aegis("cluster", "transfer-leader", "n9")[0] == endings.NOT_FOUND
    cluster.nodes[others[0]].kill()
    time.sleep(0.5)
    code, _, talk = aegis("node", "remove", others[1])
    assert code == endings.CONFLICT
    assert f"{others[0]} gave no sign of life lately" in talk
    code, _, talk = aegis("node", "add", "n9=127.0.0.1:1", timeout="2")
    assert code == endings.UNAVAILABLE
    assert "n9 was added and catches up" in talk
    code, _, talk = aegis("node", "promote", "n9")
    assert code == endings.CONFLICT
    assert "isn't level yet" in talk
    assert aegis("node", "remove", "n9")[0] == endings.OK


async def test_the_client_raises_what_the_leader_refused(cluster_of):
    cluster = await asyncio.to_thread(started, cluster_of())
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        await database.add_node("n9", "127.0.0.1:1", wait=False)

        with pytest.raises(LearnerLags):
            await database.promote("n9")
        with pytest.raises(AegisError, match="host:port"):
            await database.add_node("n8", "nowhere")
