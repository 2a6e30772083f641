"""How is counted on all replicas at once? Counters: growing, signed, resettable, and bounded by escrow."""

from typing import Any, ClassVar, TypeAlias

from aegis_replication.crdt.delta import Delta, Round
from aegis_replication.crdt.kernel import CausalContext, Store
from aegis_replication.crdt.replica import Replica
from aegis_replication.errors import ActorReused, InsufficientRights, InvalidArgument
from aegis_replication.vector_clock import Dot
from aegis_replication.vector_clock.codec import COUNT_MAX, actor_id, count


class GCounter(Replica):
    """Counts up. Each actor keeps its total under its latest dot; the value is the sum of the highest per actor."""

    __slots__ = ()
    NAME: ClassVar[str] = "GCounter"
    IS_RESETTABLE: ClassVar[bool] = False

    def increment(self, by: int = 1) -> Delta:
        count(by, "increment", least=1)
        old = own_dot(self)
        total = count(self._store.get(old, 0) + by, "total")
        return replace_own(self, old, total)

    def value(self) -> int:
        return sum(latest(self._store).values())

    def node_value(self, actor: str | int) -> int:
        """What one actor has counted."""
        total = latest(self._store).get(actor_id(actor), 0)
        return int(total)

    @staticmethod
    def read_payload(plain: Any) -> int:
        return count(plain, "total")


class PNCounter(Replica):
    """Counts up and down: two totals per actor."""

    __slots__ = ()
    NAME: ClassVar[str] = "PNCounter"
    IS_RESETTABLE: ClassVar[bool] = False

    def increment(self, by: int = 1) -> Delta:
        return self._change(count(by, "increment", least=1), 0)

    def decrement(self, by: int = 1) -> Delta:
        return self._change(0, count(by, "decrement", least=1))

    def value(self) -> int:
        return sum(plus - minus for plus, minus in latest(self._store).values())

    def node_value(self, actor: str | int) -> int:
        plus, minus = latest(self._store).get(actor_id(actor), (0, 0))
        return int(plus - minus)

    @staticmethod
    def read_payload(plain: Any) -> tuple[int, int]:
        return read_pair(plain)

    def _change(self, plus: int, minus: int) -> Delta:
        old = own_dot(self)
        before = self._store.get(old, (0, 0))
        return replace_own(self, old, (count(before[0] + plus, "total"), count(before[1] + minus, "total")))


class ResettableCounter(Replica):
    """Counts up and down, and can be reset exactly: a reset takes what it saw, and nothing counted beside it.

    Changes share one dot until a copy of it leaves; `collect` folds the dots below a stable cut into one.
    """

    __slots__ = ("_round",)
    NAME: ClassVar[str] = "ResettableCounter"

    def increment(self, by: int = 1) -> Delta:
        return self._change(count(by, "increment", least=1), 0)

    def decrement(self, by: int = 1) -> Delta:
        return self._change(0, count(by, "decrement", least=1))

    def reset(self, *, context: CausalContext | None = None) -> Delta:
        """Back to 0; with a read context, without what that client had not read."""
        return self._take(self._observed(self._store, context))

    def value(self) -> int:
        return net(self._store)

    @classmethod
    def resolve(cls, dot: Dot, mine: Any, theirs: Any) -> Any:
        return larger(dot, mine, theirs)

    @staticmethod
    def read_payload(plain: Any) -> tuple[int, int]:
        return read_pair(plain)

    @classmethod
    def collect_store(cls, store: Store, cut: CausalContext) -> int:
        return fold(store, cut)

    def _begin(self, store: Store, context: CausalContext, stable: CausalContext, settings: Any) -> None:
        super()._begin(store, context, stable, settings)
        # Where the next change is counted, while it is open and not reset.
        self._round: Round | None = None

    def _change(self, plus: int, minus: int) -> Delta:
        round = self._round
        if round is None or not round.is_open or round.dot not in self._store:
            round = self._round = Round(self._mint(), {})
            self._rounds.append(round)
        dot = round.dot
        before = self._store.get(dot, (0, 0))
        total = count(before[0] + plus, "total"), count(before[1] + minus, "total")
        self._store[dot] = round.fragment[dot] = total
        return self._emit(round.fragment, (dot,), round=round)


Row: TypeAlias = tuple[int, int, tuple[tuple[str, int], ...]]
"""What one actor has made, spent and handed to others, in total."""


class BoundedCounter(Replica):
    """Never falls below its bound, without asking anyone: each replica spends only rights that it holds.

    Incrementing makes rights, decrementing spends them, `transfer` hands them on (Balegas et al. 2015). All replicas
    must be made with the same bound.
    """

    __slots__ = ()
    NAME: ClassVar[str] = "BoundedCounter"
    IS_RESETTABLE: ClassVar[bool] = False

    def __init__(self, actor: str | int | None = None, *, bound: int = 0) -> None:
        super().__init__(actor)
        self._settings = self.read_settings(bound)

    def increment(self, by: int = 1) -> Delta:
        return self._change(plus=count(by, "increment", least=1))

    def decrement(self, by: int = 1) -> Delta:
        """InsufficientRights: this replica doesn't hold that many; others may."""
        self._require_rights(count(by, "decrement", least=1))
        return self._change(minus=by)

    def transfer(self, to: str | int, amount: int) -> Delta:
        """Hands rights to another replica, which can spend them once it has merged this."""
        to = actor_id(to)
        if to == self._actor:
            raise InvalidArgument(f"{to!r} can't transfer to itself: name another replica")
        self._require_rights(count(amount, "amount", least=1))
        return self._change(transfer=(to, amount))

    def rights(self, actor: str | int | None = None) -> int:
        """How much an actor (by default this replica) may still take, as far as is known here."""
        name = self._actor if actor is None else actor_id(actor)
        held = 0
        rows: dict[str, Row] = latest(self._store)
        for owner, (plus, minus, transfers) in rows.items():
            if owner == name:
                held += plus - minus - sum(amount for _, amount in transfers)
            held += sum(amount for target, amount in transfers if target == name)
        return held

    def value(self) -> int:
        rows: dict[str, Row] = latest(self._store)
        return self.bound + sum(plus - minus for plus, minus, _ in rows.values())

    @property
    def bound(self) -> int:
        bound: int = self._settings
        return bound

    @classmethod
    def read_settings(cls, plain: Any) -> int:
        if type(plain) is int and abs(plain) <= COUNT_MAX:
            return plain
        raise InvalidArgument(f"bound {plain!r}: give a whole number of 63 bits, such as 0")

    @staticmethod
    def plain_payload(payload: Any) -> Any:
        return [payload[0], payload[1], payload[2]]

    @staticmethod
    def read_payload(plain: Any) -> Row:
        plus, minus, transfers = plain
        sent = tuple((actor_id(target), count(amount, least=1)) for target, amount in transfers)
        if sent != tuple(sorted(dict(sent).items())):
            raise InvalidArgument(f"transfers {sent!r}: one per target, sorted, expected")
        return count(plus), count(minus), sent

    def _require_rights(self, wanted: int) -> None:
        if self._actor is not None and wanted > (available := self.rights()):
            raise InsufficientRights(self._actor, wanted, available)

    def _change(self, plus: int = 0, minus: int = 0, transfer: tuple[str, int] | None = None) -> Delta:
        old = own_dot(self)
        before: Row = self._store.get(old, (0, 0, ()))
        sent: dict[str, int] = dict(before[2])
        if transfer is not None:
            target, amount = transfer
            sent[target] = count(sent.get(target, 0) + amount, "transferred")
        row = count(before[0] + plus, "total"), count(before[1] + minus, "total"), tuple(sorted(sent.items()))
        return replace_own(self, old, row)


# --- totals per actor: of an actor's dots the latest counts, which replaced the others -------------------------------


def latest(store: Store) -> dict[str, Any]:
    """Each actor's payload under its highest dot. There are more of one actor only while deltas are missing."""
    return {actor: store[actor, number] for actor, number in sorted(store)}  # a later number replaces an earlier


def own_dot(counter: Replica) -> Dot | None:
    """The dot of this replica's total, if it has counted."""
    actor = counter.actor
    if actor is None:
        return None
    dot = (actor, counter._context.highest(actor))
    return dot if dot in counter._store else None


def replace_own(counter: Replica, old: Dot | None, total: Any) -> Delta:
    return counter._put(total, () if old is None else (old,))


# --- dots that only rise ---------------------------------------------------------------------------------------------


def larger(dot: Dot, mine: Any, theirs: Any) -> Any:
    """Of two totals of one dot the later, which is at least the other in each part."""
    if mine == theirs or (mine[0] >= theirs[0] and mine[1] >= theirs[1]):
        return mine
    if theirs[0] >= mine[0] and theirs[1] >= mine[1]:
        return theirs
    raise ActorReused(*dot, f"{mine!r} here and {theirs!r} there")


def net(leaf: Store) -> int:
    """What was counted up less what was counted down."""
    return int(sum(plus - minus for plus, minus in leaf.values()))


def fold(store: Store, cut: CausalContext) -> int:
    """One dot in place of all below the cut. All replicas take the highest, so folded and not folded states join."""
    below = sorted(dot for dot in store if dot in cut)
    if len(below) < 2:
        return 0
    plus, minus = (sum(store[dot][part] for dot in below) for part in (0, 1))
    for dot in below[:-1]:
        del store[dot]
    store[below[-1]] = (plus, minus)
    return len(below) - 1


def read_pair(plain: Any) -> tuple[int, int]:
    plus, minus = plain
    return count(plus, "total"), count(minus, "total")
