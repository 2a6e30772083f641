"""Does every cluster still say what its transcript says?

A transcript is blocks, a blank line between two: commands, `----`, and everything the cluster said. Lines that begin
with `#` are for the reader. `quietly COMMAND` leaves out the messages and the disks; `leader` as a name is whoever
leads the latest term. What the commands are: `Teller`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    terms_of,
)

from aegis_replication.consensus.changes import AddLearner, Demote, Promote, Remove, Replace
from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from aegis_replication.consensus.output import Output
from aegis_replication.errors import AegisError
from aegis_replication.log import Entry, EntryId, LogWrite

DIRECTORY = Path(__file__).parent
TRANSCRIPTS = sorted(DIRECTORY.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_cluster_says_what_the_transcript_says(path: Path, is_rewriting: bool) -> None:
    written = path.read_text(encoding="utf-8")

    said = retell(written)

    if is_rewriting:
        path.write_text(said, encoding="utf-8")
    else:
        assert said == written, f"{path.name}: if the cluster is right, run pytest tests/scenarios --rewrite"


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 20


def test_a_transcript_that_is_wrong_is_noticed() -> None:
    said = retell("cluster a b c\nelect a\n----\nnothing happens\n")

    assert "a: leader in term 2" in said
    assert "nothing happens" not in said


def retell(transcript: str) -> str:
    """The transcript with what the cluster really says."""
    teller = Teller()
    blocks = []
    for block in transcript.strip().split("\n\n"):
        commands = block.split("\n----")[0].splitlines()
        if all(line.startswith("#") for line in commands):
            blocks.append("\n".join(commands))
            continue
        for line in commands:
            if not line.startswith("#"):
                teller.do(line)
        blocks.append("\n".join([*commands, "----", *teller.take()]))
    return "\n\n".join(blocks) + "\n"


class TellingCluster(Cluster):
    """A cluster that tells all it does."""

    def tell_to(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def on_output(self, name: str, output: Output) -> None:
        tell = self._tell
        for change in output.changes:
            following = f" of {change.leader}" if change.leader not in (None, name) else ""
            tell(f"{name}: {change.role}{following} in term {change.term}: {change.why}")
        for target, message in output.messages:
            lost = " (lost)" if (name, target) in self.cuts or target not in self.rafts else ""
            tell(f"  {name} -> {target}: {describe(message)}{lost}")
        if output.write is not None:
            tell(f"  {name} writes {describe_write(output.write)}")
        if output.committed:
            tell(f"{name}: applies {ids(output.committed)}")
        for ticket, index in output.reads:
            tell(f"{name}: read {ticket} may be served at {index}")
        for target in output.snapshots:
            tell(f"{name}: {target} needs the snapshot")
        for source, chunk in output.chunks:
            tell(f"  {name} stores bytes {chunk.offset} to {chunk.offset + len(chunk.data)} of a snapshot of {source}")

    def _send_chunk(self, name: str, target: str, offset: int) -> None:
        super()._send_chunk(name, target, offset)
        self._tell(f"  {name} -> {target}: {describe(self.network[-1][2])}")


class Teller:
    """Carries out a transcript's commands on a cluster."""

    def __init__(self) -> None:
        self.cluster = TellingCluster("a")
        self.lines: list[str] = []
        self.is_quiet = False

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines or ["(nothing)"]

    def tell(self, line: str) -> None:
        if not (self.is_quiet and line.startswith("  ")):
            self.lines.append(line)

    def do(self, line: str) -> None:
        verb, *words = line.split()
        self.is_quiet = verb == "quietly"
        if self.is_quiet:
            verb, *words = words
        try:
            COMMANDS[verb](self, *(self.cluster.leader if word == "leader" else word for word in words))
        except AegisError as error:
            self.tell(f"{type(error).__name__}: {error}")

    def start_cluster(self, *words: str) -> None:
        """cluster NAME... [voters=abc] [seed=N] [any setting of RaftConfig=N]: boot all, with clean disks."""
        names = [word for word in words if "=" not in word]
        settings = dict(word.split("=") for word in words if "=" in word)
        voters = settings.pop("voters", None)
        numbers = {key: int(value) for key, value in settings.items() if value not in ("on", "off")}
        switches = {key: value == "on" for key, value in settings.items() if value in ("on", "off")}
        self.cluster = TellingCluster(names, voters=voters, **numbers, **switches)
        self.cluster.tell_to(lambda line: None)
        self.cluster.run()
        self.cluster.tell_to(self.tell)

    def elect(self, name: str) -> None:
        """elect NAME: it loses patience first; then whatever follows."""
        self.cluster.elect(name)

    def time_out(self, name: str) -> None:
        """timeout NAME: its deadline comes; nobody else's clock moves. Then whatever follows."""
        self.cluster[name].tick(self.cluster[name].deadline_ms)
        self.cluster.run()

    def lose_patience(self, name: str) -> None:
        """impatient NAME: its deadline comes; nothing else happens yet."""
        self.cluster[name].tick(self.cluster[name].deadline_ms)
        self.cluster.take(name)

    def pass_time(self, duration_ms: str) -> None:
        """pass MS: time passes for all, in steps of 10 ms."""
        self.cluster.pass_time(float(duration_ms))

    def propose(self, name: str, *payloads: str) -> None:
        """propose NAME COMMAND...: appended there; nothing leaves yet."""
        for payload in payloads:
            self.cluster.propose(payload.encode(), to=name)

    def put(self, name: str, *payloads: str) -> None:
        """put NAME COMMAND...: proposed one by one, and whatever follows each."""
        for payload in payloads:
            self.cluster.propose(payload.encode(), to=name)
            self.cluster.run()

    def read(self, name: str) -> None:
        """read NAME: a linearizable read, and whatever follows."""
        self.cluster[name].read()
        self.cluster.run()

    def run(self, rounds: str = "") -> None:
        """run [N]: everything that can happen happens, or N rounds of it (take all output, finish writes, deliver)."""
        self.cluster.run(int(rounds) if rounds else None)

    def take_output(self, name: str) -> None:
        """take NAME: its output is carried out; writes wait for the disk, messages for `deliver`."""
        self.cluster.take(name)

    def finish(self, name: str, count: str = "1000") -> None:
        """finish NAME [N]: its disk finishes all, or the N oldest, of its writes."""
        self.cluster.finish_writes(name, int(count))

    def deliver(self, source: str, target: str, count: str = "1000") -> None:
        """deliver A B [N]: all, or the N oldest, messages on the way from A to B arrive."""
        for _ in range(int(count)):
            positions = [
                position for position, packet in enumerate(self.cluster.network) if packet[:2] == (source, target)
            ]
            if not positions:
                return
            self.cluster.deliver(positions[0])

    def keep_back(self, source: str, target: str) -> None:
        """late A B: the messages on the way from A to B will come later, with `arrive`."""
        self.late = [packet for packet in self.cluster.network if packet[:2] == (source, target)]
        self.cluster.network = [packet for packet in self.cluster.network if packet not in self.late]

    def arrive(self) -> None:
        """arrive: what was kept back by `late` is on its way again."""
        self.cluster.network += self.late
        self.late = []

    def lose(self) -> None:
        """lose: all messages on their way are lost."""
        self.cluster.network.clear()

    def cut(self, one: str, *others: str) -> None:
        """cut A B...: no messages between A and each of these, either way."""
        for other in others:
            self.cluster.cut(one, other)

    def cut_one_way(self, one: str, *others: str) -> None:
        """cut-one-way A B...: no messages from A to these."""
        for other in others:
            self.cluster.cut(one, other, one_way=True)

    def isolate(self, name: str) -> None:
        """isolate NAME: no messages to or from it."""
        self.cluster.isolate(name)

    def heal(self) -> None:
        """heal: all links work again."""
        self.cluster.heal()

    def crash(self, *names: str) -> None:
        """crash NAME...: at once; unfinished writes are lost."""
        for name in names:
            self.cluster.crash(name)

    def start(self, *names: str) -> None:
        """start NAME...: again, from its disk."""
        for name in names:
            self.cluster.start(name)

    def hold_disk(self, *names: str) -> None:
        """hold-disk NAME...: its writes take until `finish`."""
        self.cluster.held_disks.update(names)

    def release_disk(self, *names: str) -> None:
        """release-disk NAME...: its writes finish by themselves again."""
        self.cluster.held_disks.difference_update(names)

    def save_snapshot(self, name: str, keep_from: str = "") -> None:
        """snapshot NAME [KEEP]: of what it has applied; its log then starts behind, or at entry KEEP."""
        self.cluster.snapshot(name, keep_from=int(keep_from) if keep_from else None)

    def lose_peer(self, name: str, peer: str) -> None:
        """lost-peer NAME PEER: NAME sees its connection to PEER break."""
        self.cluster[name].on_peer_lost(peer)
        self.cluster.run()

    def hand_over(self, leader: str, target: str) -> None:
        """timeout-now LEADER TARGET: the leader asks TARGET to start an election."""
        self.cluster[target].step(leader, TimeoutNow(self.cluster[leader].term))
        self.cluster.run()

    def change(self, leader: str, what: str, *words: str) -> None:
        """change LEADER add X [promote], promote X, demote X, remove X, replace X Y, [jointly]: and what follows."""
        joint = words[-1] == "jointly"
        names = [word for word in words if word not in ("jointly", "promote")]
        kind = {"add": AddLearner, "promote": Promote, "demote": Demote, "remove": Remove, "replace": Replace}[what]
        options = {"promote": True} if what == "add" and "promote" in words else {}
        if self.cluster[leader].propose_change(kind(*names, **options), joint=joint) is None:
            self.tell(f"{leader}: it is so already")
        self.cluster.run()

    def transfer(self, leader: str, *target: str) -> None:
        """transfer LEADER [TARGET]: it hands over, and whatever follows."""
        self.cluster[leader].transfer(*target)
        self.cluster.run()

    def show_members(self, *names: str) -> None:
        """members NAME...: voters, outgoing voters, learners as each has them in force, and since which entry."""
        for name in names or sorted(self.cluster.rafts):
            raft = self.cluster[name]
            held = raft.configuration
            halves = " and ".join("".join(half) for half in (held.voters, held.outgoing) if half)
            learners = f", learners {''.join(held.learners)}" if held.learners else ""
            self.tell(f"{name}: voters {halves}{learners} since entry {raft.configuration_index}")

    def show(self, *names: str) -> None:
        """status [NAME...]: role, term, leader, vote, log, commit index and applied index of each."""
        for name in names or sorted(self.cluster.rafts):
            raft = self.cluster[name]
            start = f"{raft.log.base.index}| " if raft.log.base.index else ""
            terms = " ".join(map(str, terms_of(raft)))
            log = raft.log
            self.tell(
                f"{name}: {raft.role} term {raft.term} leader {raft.leader or '-'} voted {raft.voted_for or '-'} "
                f"log [{start}{terms}] durable {log.durable} committed {log.committed} applied {raft.applied_to}"
            )


COMMANDS: dict[str, Callable[..., None]] = {
    "cluster": Teller.start_cluster,
    "elect": Teller.elect,
    "timeout": Teller.time_out,
    "impatient": Teller.lose_patience,
    "pass": Teller.pass_time,
    "propose": Teller.propose,
    "put": Teller.put,
    "read": Teller.read,
    "run": Teller.run,
    "take": Teller.take_output,
    "finish": Teller.finish,
    "deliver": Teller.deliver,
    "late": Teller.keep_back,
    "arrive": Teller.arrive,
    "lose": Teller.lose,
    "cut": Teller.cut,
    "cut-one-way": Teller.cut_one_way,
    "isolate": Teller.isolate,
    "heal": Teller.heal,
    "crash": Teller.crash,
    "start": Teller.start,
    "hold-disk": Teller.hold_disk,
    "release-disk": Teller.release_disk,
    "snapshot": Teller.save_snapshot,
    "lost-peer": Teller.lose_peer,
    "timeout-now": Teller.hand_over,
    "status": Teller.show,
    "change": Teller.change,
    "transfer": Teller.transfer,
    "members": Teller.show_members,
}


def ids(entries: list[Entry] | tuple[Entry, ...]) -> str:
    """The entries as term:index, first to last."""
    first, last = text(entries[0].id), text(entries[-1].id)
    return first if first == last else f"{first} to {last}"


def text(at: EntryId) -> str:
    return f"{at.term}:{at.index}"


def describe(message: Message) -> str:
    """A message in a few words: its kind, its term, and what is not as always."""
    kind = type(message).__name__
    words = [kind, str(message.term)]
    if isinstance(message, RequestVote):
        words += ["last", text(message.last), *["pre"] * message.pre, *["force"] * message.force]
    elif isinstance(message, VoteReply):
        words += ["granted" if message.granted else "refused", *["pre"] * message.pre]
    elif isinstance(message, AppendEntries):
        words += ["after", text(message.previous), "commit", str(message.commit)]
        words += ["round", str(message.round)] if message.round else []
        words += ["entries", ids(message.entries)] if message.entries else []
    elif isinstance(message, AppendReply):
        words += ["round", str(message.round)] if message.round else []
        words += ["matched", str(message.matched)] if message.matched else []
        words += ["refused", str(message.refused), "hint", text(message.hint)] if message.refused else []
    elif isinstance(message, InstallSnapshot):
        words += ["at", text(message.meta.id), "bytes", str(message.offset), "to"]
        words += [str(message.offset + len(message.data)), "of", str(message.total_bytes)]
    elif isinstance(message, SnapshotReply):
        words += ["at", text(message.snapshot)]
        words += ["installed", str(message.installed)] if message.installed else ["wants", str(message.next_offset)]
    return " ".join(words)


def describe_write(write: LogWrite) -> str:
    """What goes to disk, in the order in which it does."""
    parts = []
    if write.snapshot is not None:
        parts.append(f"snapshot {text(write.snapshot.id)}" + (", whole log reset" if write.reset else ""))
    if write.hard_state is not None:
        parts.append(f"term {write.hard_state.term} vote {write.hard_state.voted_for or '-'}")
    if write.entries:
        parts.append(f"entries {ids(write.entries)}")
    return ", ".join(parts)
