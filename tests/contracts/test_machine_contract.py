"""Does every machine keep the contract: equal logs give equal results and states, and a snapshot is the state?"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from aegis_replication.log import Entry, Kind, make_entry
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.base import Failure, Machine
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import StateMachine, call, command, query
from aegis_replication.state_machine.user_machine import machine_for

ENTRIES = 120


@dataclasses.dataclass
class Account:
    owner: str
    balance: int
    history: list[int]


class Bank(StateMachine):
    """A user's machine, with commands that often fail halfway."""

    def __init__(self) -> None:
        self.accounts = {}
        self.owners = set()
        self.turnover = 0

    accounts: dict[int, Account]
    owners: set[str]
    turnover: int

    @command
    def open(self, number: int, owner: str) -> bool:
        self.owners.add(owner)
        return self.accounts.setdefault(number, Account(owner, 100, [self.clock_ms])).owner == owner

    @command
    def transfer(self, source: int, target: int, amount: int) -> int:
        for number, change in ((source, -amount), (target, amount)):
            account = self.accounts[number]
            account.balance += change
            account.history.append(change)
            self.turnover += abs(change)
        if self.accounts[source].balance < 0:
            raise ValueError(f"account {source} has too little")
        return self.accounts[source].balance

    @command
    def close(self, number: int) -> Account:
        return self.accounts.pop(number)

    @query
    def total(self) -> int:
        return sum(account.balance for account in self.accounts.values())


def key_value_commands(random: Random) -> Iterator[Any]:
    while True:
        key = b"%d" % random.randrange(40)
        yield random.choice(
            (
                ask.Put(key, random.randbytes(random.choice((1, 20_000)))),
                ask.Put(key, b"%d" % random.randrange(5)),
                ask.Delete(key),
                ask.Take(key),
                ask.Increment(key, random.randrange(-5, 5)),
                ask.CompareAndSet(key, random.choice((None, b"1")), expect=b"%d" % random.randrange(5)),
                ask.DeleteRange(key, None, random.randrange(3)),
                ask.Batch((ask.Put(key, b"b"), ask.Increment(b"9"), ask.Delete(b"8")), (ask.Condition(b"7", None, 0),)),
            )
        )


def bank_commands(random: Random) -> Iterator[Any]:
    while True:
        number, other = random.randrange(12), random.randrange(12)
        yield random.choice(
            (
                call(Bank.open, number, f"owner {number % 5}"),
                call(Bank.transfer, number, other, random.randrange(60)),
                call(Bank.transfer, number, other, random.randrange(60)),
                call(Bank.close, number),
            )
        )


class Kit:
    """A kind of machine with a log that puts it through its paces, and a query."""

    def __init__(self, make: Callable[[], Machine], bodies: Callable[[Random], Iterator[Any]], query: bytes) -> None:
        self.make, self.bodies, self.query = make, bodies, query

    def entries(self, seed: int) -> list[Entry]:
        """A log with sessions that are opened, retried, left idle and evicted."""
        random = Random(seed)
        bodies = self.bodies(random)
        maker = self.make()
        sent: list[bytes] = [ask.encode_open(bytes(16))]
        entries = []
        for index in range(1, ENTRIES + 1):
            batch: list[bytes] = []
            for _ in range(random.randrange(1, 8)):
                name = bytes([random.randrange(6)]) * 16
                sequence = random.randrange(1, 40)
                batch.append(
                    random.choice(
                        (
                            ask.encode_open(name),
                            ask.encode_command(ask.NO_SESSION, 0, 0, next(bodies)),
                            ask.encode_command(name, sequence, random.randrange(sequence + 1), next(bodies)),
                            random.choice(sent),
                        )
                    )
                )
            for each in batch:
                maker.check(each)
            sent += batch
            stamp = index * 200_000 << 16  # over an hour in twenty entries
            entries.append(make_entry(1, 1, index, Kind.COMMANDS, maker.join(batch), count=len(batch), stamp=stamp))
        return entries


KITS = {
    "key-value": Kit(
        lambda: SessionMachine(KeyValueMachine(), sessions_max=4), key_value_commands, ask.encode_query(ask.Range())
    ),
    "user's": Kit(lambda: machine_for(Bank), bank_commands, ask.encode_query(call(Bank.total))),
}


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    return KITS[request.param]


@pytest.fixture(params=range(3))
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def encoded(results: Sequence[Any]) -> list[bytes]:
    """Results as clients see them."""
    return [msgspec.msgpack.encode((type(result) is Failure, result)) for result in results]


def test_one_result_per_command_in_order(kit: Kit, seed: int) -> None:
    machine = kit.make()

    for entry in kit.entries(seed):
        assert len(machine.apply(entry)) == entry.count


def test_equal_logs_give_equal_results_states_and_answers(kit: Kit, seed: int) -> None:
    one, other = kit.make(), kit.make()

    for entry in kit.entries(seed):
        assert encoded(one.apply(entry)) == encoded(other.apply(entry))
        assert one.digest() == other.digest()

    assert encoded([one.query(kit.query)]) == encoded([other.query(kit.query)])
    assert list(one.freeze()) == list(other.freeze())


def test_a_restored_machine_goes_on_as_if_it_had_been_there(kit: Kit, seed: int) -> None:
    entries = kit.entries(seed)
    one, other = kit.make(), kit.make()
    for entry in entries[:5]:
        other.apply(entry)  # what was there before is gone after a restore

    for position, entry in enumerate(entries):
        if position % 10 == 0:
            other.restore(one.freeze())
            assert other.digest() == one.digest()
        assert encoded(one.apply(entry)) == encoded(other.apply(entry))

    assert list(one.freeze()) == list(other.freeze())


def test_a_freeze_shows_the_state_of_its_moment_however_late_its_pieces_are_pulled(kit: Kit, seed: int) -> None:
    entries = kit.entries(seed)
    machine = kit.make()
    for entry in entries[: ENTRIES // 2]:
        machine.apply(entry)
    expected = list(machine.freeze())

    frozen = [machine.freeze() for _ in range(2)]
    pulled: list[list[bytes]] = [[], []]
    for entry in entries[ENTRIES // 2 :]:
        machine.apply(entry)
        pulled[0] += [piece for piece in [next(frozen[0], None)] if piece is not None]
    pulled[0] += frozen[0]
    pulled[1] += frozen[1]

    assert pulled == [expected, expected]


def test_a_query_leaves_no_trace(kit: Kit, seed: int) -> None:
    machine = kit.make()
    for entry in kit.entries(seed):
        machine.apply(entry)
    before = list(machine.freeze())

    machine.query(kit.query)
    machine.query(b"nonsense")

    assert list(machine.freeze()) == before


def test_a_digest_tells_states_apart(kit: Kit, seed: int) -> None:
    machine = kit.make()
    digests = {machine.digest()}

    for entry in kit.entries(seed)[:20]:
        before = b"".join(machine.freeze())
        machine.apply(entry)
        if b"".join(machine.freeze()) != before:
            assert machine.digest() not in digests
        digests.add(machine.digest())

    assert len(digests) > 10


def test_the_log_of_this_suite_meets_what_it_is_meant_to_meet(kit: Kit) -> None:
    statuses: set[int] = set()
    for seed in range(3):
        machine = kit.make()
        for entry in kit.entries(seed):
            statuses |= {result.status for result in machine.apply(entry) if type(result) is Failure}

    assert len(statuses) >= 3  # expired, refused, and the machine's own
