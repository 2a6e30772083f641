"""A whole cluster in your hands: start, crash, cut and heal nodes, ask as a client, and let virtual time pass.

>>> from aegis_replication.simulation import Cluster
>>> cluster = Cluster(3, seed=7)
>>> cluster.put("k", "1")
>>> cluster.crash(cluster.leader(), losing="unsynced")
>>> cluster.get("k")
b'1'

Everything is checked while it happens: whatever breaks a promise raises InvariantBroken at that very step, with the
story of what led there.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from aegis_replication.admin import AdminRequest
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.engine.events import PeerLost
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.errors import CommandFailed, InvalidArgument, InvariantBroken, OutcomeUnknown, Unavailable
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import EntryId
from aegis_replication.simulation.checkers.watch import Watch
from aegis_replication.simulation.clock import Clock
from aegis_replication.simulation.disk import ROOT, DiskSpeed, Losing, SimulatedDisk
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.host_settings import HostSettings
from aegis_replication.simulation.network import CALM, Network, Weather
from aegis_replication.simulation.operator import Operator, Task
from aegis_replication.simulation.standing import has_caught_up, is_level, running, standing
from aegis_replication.simulation.subject import KeyValueSubject, Subject, UserSubject
from aegis_replication.simulation.trace import Trace
from aegis_replication.simulation.workload import Ask, Client, Journal, Pending
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.sessions import IDLE_MS, SESSIONS_MAX
from aegis_replication.state_machine.user import QUERY_KIND, StateMachine, call, decode_answer, method_of
from aegis_replication.storage.base import Identity, Storage
from aegis_replication.storage.directory import DirectoryStorage

GROUP: GroupId = 1

CALM_CONFIG = RaftConfig(snapshot_threshold=200, trailing_entries=20)


class Cluster:
    """Nodes "a", "b", "c", ... that talk over a simulated network, each with its own disk; they start at once.

    Times are virtual milliseconds. Equal arguments and equal calls give equal runs.
    """

    def __init__(
        self,
        nodes: int | Sequence[NodeId] = 3,
        *,
        seed: int = 0,
        config: RaftConfig = CALM_CONFIG,
        groups: Sequence[GroupId] = (GROUP,),
        weather: Weather = CALM,
        speed: DiskSpeed | None = None,
        flush_aside: bool = False,
        segment_bytes: int = 1024 * 1024,
        sessions_max: int = SESSIONS_MAX,
        idle_ms: int = IDLE_MS,
        machine: type[StateMachine] | Subject | None = None,
        limits: ReplicaLimits | None = None,
        priorities: Mapping[NodeId, int] | None = None,
        lease: bool = False,
        clock_error: float = 0.0,
    ) -> None:
        names = [chr(ord("a") + number) for number in range(nodes)] if isinstance(nodes, int) else list(nodes)
        if not names or len(set(names)) != len(names) or any(name.startswith("#") for name in names):
            raise InvalidArgument(f"nodes = {nodes!r}: give a number from 1 to 26, or different names")
        self.seed = seed
        self.clock = Clock(seed)
        # How often each kind of fault really happened.
        self.faults: Counter[str] = Counter()
        self.trace = Trace(self.clock)
        self.network = Network(self.clock, self._deliver, weather=weather, faults=self.faults)
        self.journal = Journal()
        self._segment_bytes = segment_bytes
        config = config.replace(node_id=names[0], peers=names)
        subject: Subject = UserSubject(machine) if isinstance(machine, type) else machine or KeyValueSubject()
        self.watch = Watch(
            groups,
            lambda: subject.make_machine(sessions_max, idle_ms),
            lambda: subject.make_model(sessions_max, idle_ms),
        )
        self._config, self._groups, self._speed = config, tuple(groups), speed
        self._flush_aside, self._limits = flush_aside, limits
        self._priorities = dict(priorities or {})
        self._wiped = 0
        self._lease_ms, self._clock_error = int(lease) * int(config.election_timeout_min_ms), clock_error
        self.hosts: dict[NodeId, Host] = self.watch.hosts
        for name in names:
            self._make_host(name, is_founder=True)
        self.operators: dict[int, Operator] = {}
        self.clients: dict[int, Client] = {}
        self._answers: dict[tuple[int, int], Any] = {}
        # Your hands: one client that asks wherever it likes, and for each node one that asks only there.
        self._doors: dict[NodeId | None, Client] = {}
        for name in names:
            self.start(name)

    def _make_host(self, name: NodeId, *, is_founder: bool) -> Host:
        settings = HostSettings(
            self._config.replace(priority=self._priorities.get(name, 1)),
            self._groups,
            self.watch.make_machine,
            self._open_storage,
            aside=self._flush_aside,
            limits=self._limits or ReplicaLimits(frame_bytes=self._segment_bytes // 4),
        )
        settings.lease_ms, settings.clock_error = self._lease_ms, self._clock_error
        disk = SimulatedDisk(self.clock.random(f"disk {name}"), self.faults, self._speed)
        incarnation = self.clock.random(f"incarnation {name}").getrandbits(64)
        parts = (name, settings, self.clock, disk, self._send, self.watch, self.trace)
        host = self.hosts[name] = Host(*parts, incarnation=incarnation, is_founder=is_founder)
        return host

    def _open_storage(self, disk: SimulatedDisk, node: NodeId) -> Storage:
        identity = Identity("simulated", node, self.hosts[node].incarnation)
        return DirectoryStorage.open(f"{ROOT}/data", identity, files=disk, segment_bytes=self._segment_bytes)

    # --- what passes between sites ---

    def _send(self, source: str, target: str, packet: bytes) -> None:
        self.network.send(source, target, packet, once=target.startswith("#") or source.startswith("#"))

    def _deliver(self, source: str, target: str, packet: bytes) -> None:
        if target.startswith("#"):
            number = int(target[1:])
            client = self.clients.get(number) or self.operators[number]
            self.trace.note(client.site, f"is answered by {source}", None, mark=packet)
            client.receive(packet)
        elif source.startswith("#"):
            self.hosts[target].request(int(source[1:]), packet)
        elif self._may_pass(self.hosts[source], self.hosts[target]):
            self.hosts[target].receive(source, packet)

    def _may_pass(self, source: Host, target: Host) -> bool:
        """Is there a connection between the two? Each refuses a member with another data directory, and strangers."""
        why_not = target.why_not(source) or source.why_not(target)
        if why_not:
            self.faults["wiped_refused" if "directory" in why_not else "stranger_refused"] += 1
            self.trace.note(target.node, f"has no connection with {source.node}:", why_not)
            return False
        if target.is_up and target.met.get(source.node) != (source.incarnation, source.life):
            target.meet(source)
        return True

    # --- nodes ---

    @property
    def nodes(self) -> list[NodeId]:
        return list(self.hosts)

    def start(self, node: NodeId) -> None:
        """A new process on a node's disk."""
        host = self._host(node)
        if host.is_retired:
            return
        host.start()
        if host.is_up:
            for other in self.hosts.values():
                if other is not host and other.is_up and not host.why_not(other) and not other.why_not(host):
                    other.meet(host)
                    host.meet(other)

    def add_node(self, name: NodeId | None = None) -> Host:
        """One more node, with an empty disk, that waits to be added to the group; it starts at once."""
        if name is None:
            name = next(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in self.hosts)
        if name in self.hosts:
            raise InvalidArgument(f"there is a node {name!r} already: give another name")
        host = self._make_host(name, is_founder=False)
        for client in self.clients.values():
            client.nodes.append(name)
        self.start(name)
        return host

    def wipe(self, node: NodeId) -> None:
        """Put an empty disk in the place of a node's; it is down after that."""
        host = self._host(node)
        self.crash(node, losing="nothing")
        self._wiped += 1
        host.disk = SimulatedDisk(self.clock.random(f"disk {node} {self._wiped}"), self.faults, self._speed)
        host.incarnation = self.clock.random(f"incarnation {node} {self._wiped}").getrandbits(64)
        self.watch.forget(node)
        self.trace.note(node, "has an empty disk")

    def retire(self, node: NodeId) -> None:
        """Switch a node off for good."""
        self.crash(node, losing="nothing")
        self._host(node).is_retired = True

    def add_operator(self, group: GroupId = GROUP) -> Operator:
        """Somebody who can ask for changes of a group's members."""
        index = 900 + len(self.operators)
        operator = self.operators[index] = Operator(index, group, self.clock, lambda: self.nodes, self._send)
        return operator

    def administer(self, request: AdminRequest, *, within_ms: float = 10_000.0) -> bool:
        """Ask for a change of members or a hand-over and let time pass until it is done (True) or refused (False)."""
        operator = next(iter(self.operators.values()), None) or self.add_operator()
        results: list[bool] = []
        operator.do(Task([request], lambda asked, done: results.append(done), must=False))
        self.wait_until(lambda: bool(results), f"answer to {request}", within_ms=within_ms)
        return results[0]

    def stop(self, node: NodeId) -> None:
        """End a node's process in good order."""
        self._host(node).stop()
        self._miss(node)

    def crash(self, node: NodeId, *, losing: Losing = "some") -> None:
        """Cut a node's power (losing "some", the "beginning" or all "unsynced" of its writes), or end its process."""
        self._host(node).crash(losing)
        self._miss(node)

    def _miss(self, node: NodeId) -> None:
        for other in self.hosts.values():
            if other.node != node:
                other.tell(PeerLost(node))

    def pause(self, node: NodeId) -> None:
        """Give a node's process no time, as SIGSTOP does."""
        self._host(node).pause()

    def resume(self, node: NodeId) -> None:
        """Let it go on."""
        self._host(node).resume()

    def _host(self, node: NodeId) -> Host:
        if node not in self.hosts:
            raise InvalidArgument(f"there is no node {node!r}: the nodes are {', '.join(self.hosts)}")
        return self.hosts[node]

    def leader(self, group: GroupId = GROUP) -> NodeId:
        """The node that leads with the highest term; waits until there is one. Raises Unavailable after 10 s."""
        self.wait_until(lambda: self._leader(group) is not None, f"a leader of group {group}")
        found = self._leader(group)
        assert found is not None, f"group {group} lost its leader between two steps"
        return found

    def _leader(self, group: GroupId) -> NodeId | None:
        leading = [
            (host.replica(group).raft.term, name)
            for name, host in self.hosts.items()
            if host.is_up and host.replica(group).raft.is_leader
        ]
        return max(leading)[1] if leading else None

    # --- links ---

    def partition(self, *sides: Iterable[NodeId]) -> None:
        """Cut every link between nodes of different sides; clients reach all."""
        split = [list(side) for side in sides]
        for position, side in enumerate(split):
            for other in split[position + 1 :]:
                self.network.split(side, other)
        self.trace.note("network", "is split", split)

    def isolate(self, node: NodeId) -> None:
        """Cut a node off from all others; clients still reach it."""
        self.partition([node], [name for name in self.hosts if name != node])

    def cut(self, source: NodeId, target: NodeId) -> None:
        """Nothing passes from `source` to `target`; the other way it does."""
        self.network.cut(source, target)
        self.trace.note("network", f"is cut from {source} to {target}")

    def heal(self) -> None:
        """Make every link whole, quick and reliable."""
        self.network.heal()
        self.network.weather = CALM
        self.trace.note("network", "is healed")

    # --- time ---

    def run(self, duration_ms: float) -> None:
        """Let time pass."""
        until_ms = self.clock.now_ms + duration_ms
        while self.clock.next_ms is not None and self.clock.next_ms <= until_ms:
            self.step()
        self.clock.now_ms = max(self.clock.now_ms, until_ms)

    def wait_until(self, is_true: Callable[[], bool], what: str, *, within_ms: float = 10_000.0) -> None:
        """Let time pass until `is_true()`. Raises Unavailable, naming `what`, when it takes longer."""
        until_ms = self.clock.now_ms + within_ms
        while not is_true():
            if self.clock.next_ms is None or self.clock.next_ms > until_ms:
                raise Unavailable(f"seed {self.seed}: no {what} within {within_ms:.0f} ms of virtual time")
            self.step()

    def step(self) -> None:
        """The smallest thing that can happen next. A broken promise carries the seed and the story from here."""
        try:
            self.clock.step()
        except InvariantBroken as broken:
            broken.add_note(f"seed {self.seed}, step {self.clock.steps}, {self.clock.now_ms:.3f} ms of virtual time")
            broken.add_note("\n".join(self.trace.story()))
            raise

    # --- clients ---

    def add_client(self, index: int, choose: Callable[..., Ask] | None, **options: Any) -> Client:
        """One more client; it asks nothing before `begin`."""
        client = Client(
            index,
            clock=self.clock,
            nodes=self.nodes,
            send=self._send,
            journal=self.journal,
            choose=choose,
            on_called=self.watch.on_called,
            on_answer=self._on_answer,
            **options,
        )
        self.clients[index] = client
        return client

    def _on_answer(self, client: Client, pending: Pending, result: Any) -> None:
        self.watch.on_answer(client, pending, result)
        if client.index <= 0:
            self._answers[client.index, pending.number] = result

    def _door(self, at: NodeId | None) -> Client:
        door = self._doors.get(at)
        if door is None:
            door = self._doors[at] = self.add_client(-len(self._doors), None)
            if at is not None:
                door.nodes = [self._host(at).node]
        return door

    def put(self, key: str | bytes, value: str | bytes) -> int:
        """Set `key`; its new version. As all of these do: waits, tries other nodes, raises OutcomeUnknown."""
        name, text = ask.text_key(key), ask.text_key(value)
        version: int = self.ask(Ask(GROUP, ask.Put(name, text), ((name, ("put", text)),)))
        return version

    def send(self, key: str | bytes, value: str | bytes, *, at: NodeId) -> None:
        """Ask one node to set `key`, and don't wait for an answer."""
        name, text = ask.text_key(key), ask.text_key(value)
        self._door(at).ask(Ask(GROUP, ask.Put(name, text), ((name, ("put", text)),)), timeout_ms=1_000.0)

    def get(
        self,
        key: str | bytes,
        *,
        at: NodeId | None = None,
        anywhere: bool = False,
        staleness_ms: int = 0,
        within_ms: float = 10_000.0,
    ) -> bytes | None:
        """The value of `key`; `at`: one node's answer; `anywhere`: also a follower's; or so old. Raises Unavailable."""
        name = ask.text_key(key)
        asked = Ask(GROUP, ask.Get(name), ((name, ("get",)),), True, anywhere or staleness_ms > 0, staleness_ms)
        item = self.ask(asked, at=at, within_ms=within_ms)
        return None if item is None else item[0]

    def increment(self, key: str | bytes, by: int = 1) -> int:
        """Add to the number in `key`; the sum."""
        name = ask.text_key(key)
        total: int = self.ask(Ask(GROUP, ask.Increment(name, by), ((name, ("increment", by)),)))
        return total

    def cas(self, key: str | bytes, value: str | bytes, *, expect: str | bytes | None) -> bool:
        """Set `key` if it holds `expect` (None: if it is absent); whether it did."""
        name, text = ask.text_key(key), ask.text_key(value)
        expected = None if expect is None else ask.text_key(expect)
        version = 0 if expected is None else None
        swap = ask.CompareAndSet(name, text, expect=expected, expect_version=version)
        return bool(self.ask(Ask(GROUP, swap, ((name, ("cas", text, expected)),)))[0])

    def delete(self, key: str | bytes) -> bool:
        """Remove `key`; whether it was there."""
        name = ask.text_key(key)
        return bool(self.ask(Ask(GROUP, ask.Delete(name), ((name, ("delete",)),))))

    def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Run a command or query of your own machine: `cluster.call(Inventory.reserve, "teapot", 1)`.

        Raises CommandFailed if the method does.
        """
        is_query = method_of(method).kind == QUERY_KIND
        result = self.ask(Ask(GROUP, call(method, *arguments), (), is_query=is_query))
        if isinstance(result, tuple):
            raise CommandFailed(*self._door(None).last_failure)
        return decode_answer(method, msgspec.msgpack.encode(result))

    def ask(self, asked: Ask, *, at: NodeId | None = None, within_ms: float = 10_000.0) -> Any:
        """Send any request and let time pass until it is answered; the machine's answer as plain values."""
        door = self._door(at)
        number = door.ask(asked, timeout_ms=within_ms)
        until_ms = self.clock.now_ms + within_ms + 1_000.0
        while number in door.pending and self.clock.next_ms is not None and self.clock.next_ms <= until_ms:
            self.step()
        if (door.index, number) in self._answers:
            return self._answers.pop((door.index, number))
        door.pending.pop(number, None)
        what = f"{type(asked.body).__name__} on group {asked.group}"
        if asked.is_query:
            raise Unavailable(f"seed {self.seed}: no answer to {what} within {within_ms:.0f} ms of virtual time")
        raise OutcomeUnknown(what, f"seed {self.seed}: no answer within {within_ms:.0f} ms of virtual time")

    # --- when all is well again ---

    def recover(self, *, within_ms: float = 10_000.0) -> None:
        """Heal the network, start every node, and wait until each group has one leader and all replicas caught up.

        Raises InvariantBroken("liveness") when that takes longer.
        """
        self.revive()
        goals: dict[GroupId, EntryId] = {}
        try:
            self.wait_until(
                lambda: all(has_caught_up(self.hosts, group, goals) for group in self.watch.groups),
                "leader and replicas that have caught up",
                within_ms=within_ms,
            )
        except Unavailable:
            raise InvariantBroken("liveness", standing(self.hosts, within_ms)) from None

    def revive(self) -> None:
        """Heal the network and the disks, and see that every node runs."""
        self.heal()
        for name, host in self.hosts.items():
            host.disk.speed = DiskSpeed()
            host.disk.failing = host.disk.full = host.disk.full_in_place = False
            host.disk.cut_at = 0
            if host.state == "paused":
                self.resume(name)
            elif host.state != "up":
                self.start(name)

    def check(self) -> None:
        """What can only be judged at the end: equal states, and a linearizable history. Call after `recover`.

        Clients must have stopped asking.
        """
        self.wait_until(
            lambda: all(is_level(self.hosts, group) for group in self.watch.groups),
            "moment at which all replicas stand at the same entry",
        )
        self.watch.on_end(running(self.hosts), self.journal)
