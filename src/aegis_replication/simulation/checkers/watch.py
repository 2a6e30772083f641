"""Who looks on? All checkers of a cluster, fed by its hosts and clients as things happen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aegis_replication.consensus import invariants
from aegis_replication.engine.effects import Effects
from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import LogWrite, RecoveredGroup, SnapshotMeta
from aegis_replication.simulation.checkers import linearizability
from aegis_replication.simulation.checkers.agreement import AgreementChecker
from aegis_replication.simulation.checkers.durability import DurabilityChecker
from aegis_replication.simulation.checkers.leases import Acknowledged, check_leases
from aegis_replication.simulation.checkers.linearizability import Operation
from aegis_replication.simulation.checkers.machines import MachineChecker, WatchedDurableMachine, WatchedMachine
from aegis_replication.simulation.checkers.members import MembersChecker
from aegis_replication.simulation.checkers.model import SessionModel
from aegis_replication.simulation.checkers.pressure import PressureChecker
from aegis_replication.simulation.checkers.transfers import check_named, check_sent
from aegis_replication.simulation.checkers.user_model import Query, UserModel
from aegis_replication.simulation.checkers.witness import check_in_order
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.host_settings import empty_group
from aegis_replication.simulation.own_disk import KeyValueOnDisk, own_disk
from aegis_replication.simulation.workload import Client, Journal, Pending
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.base import Machine
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine


class Watch:
    """The checkers of one run. Each of its methods raises InvariantBroken when a promise was broken."""

    # fmt: off
    __slots__ = ("acknowledged", "agreement", "durability", "groups", "hosts", "machines", "members", "pressure",
                 "_make_machine")
    # fmt: on

    def __init__(
        self,
        groups: Sequence[GroupId],
        make_machine: Callable[[], Machine],
        make_model: Callable[[], SessionModel],
    ) -> None:
        self.groups = tuple(groups)
        self.durability = DurabilityChecker()
        self.agreement = {group: AgreementChecker(group, self.durability) for group in groups}
        self.members = {group: MembersChecker(group, self.durability, self._format_highest) for group in groups}
        self.machines = {group: MachineChecker(group, make_model()) for group in groups}
        self.pressure = {group: PressureChecker() for group in groups}
        self.acknowledged = {group: Acknowledged() for group in groups}
        # All of the cluster; filled as they are made.
        self.hosts: dict[NodeId, Host] = {}
        self._make_machine = make_machine

    def make_machine(self, node: NodeId, group: GroupId) -> Machine:
        """A replica's machine, watched."""
        machine, checker = self._make_machine(), self.machines[group]
        if not isinstance(machine, DurableSessionMachine):
            return WatchedMachine(machine, node, checker)
        if isinstance(machine.own, KeyValueOnDisk):
            machine.own.disk = own_disk(self.hosts[node].disk, group)
        return WatchedDurableMachine(machine, node, checker)

    @property
    def elections(self) -> int:
        return sum(agreement.elections for agreement in self.agreement.values())

    # --- hosts ---

    def on_recovered(self, host: Host, recovered: Mapping[GroupId, RecoveredGroup]) -> None:
        for group in self.groups:
            found = recovered.get(group) or empty_group()
            self.durability.on_recovered(host.node, group, found)
            self.agreement[group].on_restarted(host.node)
            for entry in found.entries:
                if entry.index not in found.damaged:
                    self.agreement[group].on_found(host.node, entry)

    def on_effects(self, host: Host, effects: Effects) -> None:
        node, agreement, durability = host.node, self.agreement, self.durability
        for target, group, message in effects.messages:
            durability.on_sent(node, group, target, message)
            agreement[group].on_sent(node, target, message)
            self.members[group].on_sent(node, target, message, host.replica(group))
            check_sent(node, target, message, host.replica(group), host.settings.limits.chunk_bytes)
        for write in effects.writes:
            durability.shadow(node, write.group).write(write)
            host.disk.faults["entry_repaired"] += len(write.repairs)
            agreement[write.group].on_write(node, write, host.replica(write.group))
            self.members[write.group].on_write(node, write, host.replica(write.group))
        for change in effects.changes:
            agreement[change.group].on_change(node, change, host.replica(change.group))
            check_leases(host, change, self.hosts)

    def on_durable(self, host: Host, write: LogWrite) -> None:
        self.durability.shadow(host.node, write.group).settle(write.number)

    def on_snapshot(self, host: Host, group: GroupId, meta: SnapshotMeta) -> None:
        self.durability.shadow(host.node, group).name_snapshot(meta.id)
        check_named(host, group, meta)

    def on_turn(self, host: Host) -> None:
        for group, replica in host.engine.replicas.items():
            invariants.check(replica.raft)
            self.agreement[group].on_turn(host.node, replica)
            self.members[group].on_turn(host.node, replica)
            self.pressure[group].on_turn(host.node, replica)

    def _format_highest(self, node: NodeId) -> int:
        return int(self.hosts[node].settings.config.format_highest)

    def forget(self, node: NodeId) -> None:
        """The disk of `node` is gone for good."""
        self.durability.forget(node)
        for agreement in self.agreement.values():
            agreement.forget(node)

    def set_aside(self, node: NodeId) -> Callable[[], None]:
        """Another disk is mounted in the place of `node`'s; what comes back says that its own is there again."""
        shadows = {key: shadow for key, shadow in self.durability.shadows.items() if key[0] == node}
        said = [(agreement, agreement.said_by(node)) for agreement in self.agreement.values()]
        self.forget(node)

        def put_back() -> None:
            self.forget(node)
            self.durability.shadows.update(shadows)
            for agreement, words in said:
                agreement.remember(node, words)

        return put_back

    # --- clients ---

    def on_called(self, pending: Pending) -> None:
        """A client asks: whatever it will be told includes everything acknowledged until now."""
        pending.since = self.machines[pending.asked.group].acknowledged

    def on_answer(self, client: Client, pending: Pending, result: Any) -> None:
        """A client was told something: is it what the committed log says?"""
        group = pending.asked.group
        machine, committed = self.machines[group], len(self.agreement[group].committed)
        body = pending.asked.body
        if pending.session is not None:
            machine.on_acknowledged(pending.session.name, pending.sequence, result, committed)
            self.acknowledged[group].note(client.clock.now_ms, machine.acknowledged)
        if pending.asked.staleness_ms:
            pending.since = self.acknowledged[group].before(pending.called_ms - pending.asked.staleness_ms)
            if isinstance(body, ask.Get):
                page = {} if result is None else {body.key: (result[0], result[1])}
                machine.on_page(page, [body.key], pending.since, committed)
        if isinstance(body, ask.Range):
            page = {key: (value, version) for key, value, version in result[0]}
            machine.on_page(page, [key for key, _ in pending.asked.actions], pending.since, committed)
        elif isinstance(body, ask.GetMany):
            page = {key: (item[0], item[1]) for key, item in zip(body.keys, result, strict=True) if item is not None}
            machine.on_page(page, body.keys, pending.since, committed)
        elif isinstance(machine.model, UserModel) and pending.asked.is_query:
            machine.model.on_query(Query(ask.encode_query(body), result, pending.since, committed))

    # --- at the end ---

    def on_end(self, hosts: Sequence[Host], journal: Journal) -> None:
        """All replicas stand at the same entry with the same state, and the history of all clients is linearizable."""
        for group in self.groups:
            newest = max((host.replica(group).raft for host in hosts), key=lambda raft: raft.log.committed)
            members = newest.configuration.members
            for host in hosts:
                if host.node not in members:
                    continue  # it was removed: it stays where it was
                replica = host.replica(group)
                self.machines[group].compare(host.node, replica.applied, replica.machine.digest())
            model = self.machines[group].model
            if isinstance(model, UserModel):
                model.check_queries()
        self._check_real_time(journal)
        try:
            anomaly = linearizability.check(journal.operations)
        except linearizability.Undecided:
            anomaly = self._check_by_log(journal)
        if anomaly is not None:
            raise InvariantBroken("linearizable per key", str(anomaly))

    def _check_by_log(self, journal: Journal) -> linearizability.Anomaly | None:
        """With the log as a witness, where clients' answers alone allow too many orders."""
        placed: list[tuple[int, Operation]] = []
        reads: list[Operation] = []
        for operation, pending in zip(journal.operations, journal.asked, strict=True):
            if pending.asked.is_query:
                reads.append(operation)
                continue
            if position := self._position(pending):
                placed.append((position, operation))
        return check_in_order(placed, reads)

    def _position(self, pending: Pending) -> int:
        """When the log applied a command, in the order of all effects; 0: never."""
        name = pending.session.name if pending.session is not None else b""
        return self.machines[pending.asked.group].model.position(name, pending.sequence, pending.asked.body)

    def _check_real_time(self, journal: Journal) -> None:
        """A command that was over before another was asked for has its effect before it."""
        for group in self.groups:
            commands = [
                each for each in journal.answered if each[0].asked.group == group and not each[0].asked.is_query
            ]
            latest: Pending | None = None
            for pending, returned in sorted(commands, key=lambda each: self._position(each[0])):
                if latest is not None and returned < latest.called:
                    raise InvariantBroken(
                        "effects in the order of real time",
                        f"group {group}: {pending.asked.body!r:.150} was over before {latest.asked.body!r:.150} was "
                        "asked for, and has its effect after it",
                    )
                if latest is None or pending.called > latest.called:
                    latest = pending
