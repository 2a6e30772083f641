"""A replicated machine that keeps its state in SQLite: accounts, and transfers that happen once, whatever crashes.

Each entry of the log is one transaction of the database, together with the log's position and the clients' sessions.
So a node that starts again takes from the log only what its database doesn't hold yet.

python examples/sqlite_machine.py
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from aegis_replication import CommandFailed, InvalidCommand, RaftConfig, RaftNode, StorageError
from aegis_replication.log import Entry
from aegis_replication.state_machine.base import FAILED, INVALID, Failure


class Deposit(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Add to an account. Result: what is in it now."""

    account: str
    amount: int


class Transfer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """From one account to another. Result: what is left in the first."""

    source: str
    target: str
    amount: int


class Balance(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Ask what is in an account."""

    account: str


_QUERY = msgspec.msgpack.Decoder(Balance)
_LINE = msgspec.msgpack.Decoder(tuple[str, int])

_SCHEMA = """
create table if not exists accounts (name text primary key, amount integer not null) without rowid;
create table if not exists sessions (name blob primary key, row blob not null) without rowid;
create table if not exists position (only integer primary key check (only = 1), term integer, log_index integer);
insert or ignore into position values (1, 0, 0);
"""


class Accounts:
    """A DurableCommandMachine on one SQLite file."""

    kind = "accounts"

    def __init__(self, path: Path) -> None:
        self.handlers: Mapping[type, Callable[[Any], Any]] = {Deposit: self._deposit, Transfer: self._transfer}
        self._path = path
        self._db: sqlite3.Connection

    # --- the disk ---

    def open(self) -> tuple[int, int]:
        try:
            self._db = self._connect()
            self._db.executescript(_SCHEMA)
            term, index = self._db.execute("select term, log_index from position").fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}: move it away, and this node starts from its snapshot") from None
        return term, index

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        # With a write-ahead log a crash takes away the last transactions, whole ones; `sync` flushes it.
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        return db

    def sessions(self) -> Iterable[tuple[bytes, bytes]]:
        return self._db.execute("select name, row from sessions").fetchall()

    def begin(self, entry: Entry) -> None:
        self._db.execute("begin immediate")

    def commit(self, term: int, index: int, rows: Mapping[bytes, bytes | None]) -> None:
        self._keep(term, index, rows)
        self._db.execute("commit")

    def _keep(self, term: int, index: int, rows: Mapping[bytes, bytes | None]) -> None:
        kept = [(name, row) for name, row in rows.items() if row is not None]
        self._db.executemany("delete from sessions where name = ?", [(name,) for name in rows])
        self._db.executemany("insert into sessions values (?, ?)", kept)
        self._db.execute("update position set term = ?, log_index = ?", (term, index))

    def sync(self, term: int, index: int) -> None:
        self._db.execute("pragma synchronous = full")  # the next commit flushes the whole write-ahead log
        self._db.execute("update position set term = ?, log_index = ?", (term, index))
        self._db.execute("pragma synchronous = normal")

    def close(self) -> None:
        self._db.close()  # what has no commit is undone

    # --- copies of the state ---

    def freeze(self) -> Iterator[bytes]:
        reader = self._connect()  # a transaction of its own: it goes on seeing this moment
        reader.execute("begin")
        lines = reader.execute("select name, amount from accounts order by name")
        first = lines.fetchone()

        def pieces() -> Iterator[bytes]:
            try:
                if first is not None:
                    yield msgspec.msgpack.encode(first)
                for line in lines:
                    yield msgspec.msgpack.encode(line)
            finally:
                reader.close()

        return pieces()

    def restore_at(self, pieces: Iterable[bytes], term: int, index: int, rows: Mapping[bytes, bytes | None]) -> None:
        self._db.execute("pragma synchronous = full")
        self._db.execute("begin immediate")
        try:
            self._db.execute("delete from accounts")
            self._db.execute("delete from sessions")
            self._db.executemany("insert into accounts values (?, ?)", (_LINE.decode(piece) for piece in pieces))
            self._keep(term, index, rows)
            self._db.execute("commit")
        except BaseException:
            self._db.execute("rollback")
            raise
        finally:
            self._db.execute("pragma synchronous = normal")

    # --- what it does ---

    def check(self, command: Any) -> None:
        if not 0 < command.amount < 2**40:
            raise InvalidCommand(f"amount = {command.amount}: give 1 to {2**40 - 1}")

    def _amount(self, account: str) -> int:
        found = self._db.execute("select amount from accounts where name = ?", (account,)).fetchone()
        return 0 if found is None else int(found[0])

    def _set(self, account: str, amount: int) -> int:
        self._db.execute("insert or replace into accounts values (?, ?)", (account, amount))
        return amount

    def _deposit(self, command: Deposit) -> int:
        return self._set(command.account, self._amount(command.account) + command.amount)

    def _transfer(self, command: Transfer) -> int | Failure:
        left = self._amount(command.source) - command.amount
        if left < 0:  # before anything was changed
            return Failure(FAILED, ("TooLittle", f"{command.source} lacks {-left}"))
        self._set(command.source, left)
        self._set(command.target, self._amount(command.target) + command.amount)
        return self._amount(command.source)

    def query(self, query: bytes) -> Any:
        try:
            return self._amount(_QUERY.decode(query).account)
        except msgspec.MsgspecError as error:
            return Failure(INVALID, f"not a query of accounts: {error}")


async def leader_of(nodes: list[RaftNode]) -> RaftNode:
    """The node that leads, as soon as one does."""
    while True:
        for node in nodes:
            if await node.wait_leader() == node.id:
                return node
        await asyncio.sleep(0.01)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        nodes = [
            # The function makes the machine anew at each start, on the same database.
            RaftNode(
                RaftConfig(number, [1, 2, 3]),
                root / str(number),
                state_machine=lambda number=number: Accounts(root / f"{number}.db"),
                cluster="accounts",
            )
            for number in (1, 2, 3)
        ]
        for node in nodes:
            await node.start()
        leader = await leader_of(nodes)
        print("ada has", await leader.propose(Deposit("ada", 100)))
        print("ada has", await leader.propose(Transfer("ada", "bob", 30)))
        try:
            await leader.propose(Transfer("ada", "bob", 300))
        except CommandFailed as error:
            print("refused:", error)

        for node in nodes:
            await node.stop()
        for node in nodes:
            await node.start()
        leader = await leader_of(nodes)
        print("after a restart bob has", await leader.read(Balance("bob")))
        for node in nodes:
            await node.stop()


if __name__ == "__main__":
    asyncio.run(main())
