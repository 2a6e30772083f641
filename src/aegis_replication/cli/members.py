"""How does an operator see and change the members of a cluster? Every command may be repeated."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from cyclopts import App, Parameter

from aegis_replication.admin import MemberList
from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_json, print_rows, say
from aegis_replication.cli.progress import progress
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.client.client import Client
from aegis_replication.errors import InvalidArgument, UnknownMember
from aegis_replication.ids import NodeId

_COLUMNS = ("node", "role", "is_leader", "lag_entries", "is_level", "silent_ms", "priority", "address")
_TITLES = {
    "is_leader": "leads",
    "lag_entries": "lag",
    "is_level": "level",
    "silent_ms": "silent ms",
    "address": "peer address",
}

Wait = Annotated[bool, Parameter(negative="--no-wait")]
Waiting = Annotated[float, Parameter(name="--timeout")]

OnProgress = Callable[[MemberList], None]


def _app(name: str, *lines: str) -> App:
    return App(name=name, help_epilogue=examples(*lines))


list_app = _app("list", "aegis node list", "aegis node list -o json")
add_app = _app("add", "aegis node add n4=10.0.0.4:7481", "aegis node add n4=10.0.0.4:7481 --learner")
remove_app = _app("remove", "aegis node remove n3")
promote_app = _app("promote", "aegis node promote n4")
demote_app = _app("demote", "aegis node demote n4")
replace_app = _app("replace", "aegis node replace n3 n4=10.0.0.4:7481")


@list_app.default
def list_members(*, target: Target = TARGET, format: Format = FORMAT) -> None:
    """Who the members are, how far each is, and who leads, as the leader sees it."""
    members = _with_client(target, lambda db, _: db.members())
    _print(members, format)
    if members.pending:
        say(f"aegis: a change is under way: {members.pending}")
    behind = _behind(members)
    if behind:
        say(f"aegis: format {members.format} is written until all members know a newer one: {behind}")


@add_app.default
def add(
    node: str,
    /,
    *,
    learner: Annotated[bool, Parameter(negative=())] = False,
    wait: Wait = True,
    target: Target = TARGET,
    format: Format = FORMAT,
) -> None:
    """Add a node: it gets the log as a learner, and becomes a voter once it has caught up.

    Start it first, with an empty data directory:  aegis node start --name n4 --data ./n4 --join HOST:PORT
    (that asks to be added by itself). What is so already stays as it is.

    Parameters
    ----------
    node
        Its name and where its peers connect, such as n4=10.0.0.4:7481.
    learner
        Let it stay a learner: it gets every entry and counts for nothing.
    wait
        Until it is a voter, or --timeout is over; it goes on by itself in any case.
    """
    name, address = _named(node)
    members = _with_client(
        target,
        lambda db, told: db.add_node(name, address, voter=not learner, wait=wait, on_progress=told),
        watched=name,
    )
    _done(members, name, format)


@remove_app.default
def remove(node: str, /, *, target: Target = TARGET, format: Format = FORMAT) -> None:
    """Remove a node from the members; then stop it. The leader hands over first. Refused if no majority would be left.

    Parameters
    ----------
    node
        Its name.
    """
    members = _with_client(target, lambda db, _: db.remove_node(node))
    say(f"aegis: {node} is no member any more: stop it")
    _print(members, format)


@promote_app.default
def promote(node: str, /, *, target: Target = TARGET, format: Format = FORMAT) -> None:
    """Make a learner a voter; refused while it lags (exit code 5).

    Parameters
    ----------
    node
        Its name.
    """
    _done(_with_client(target, lambda db, _: db.promote(node)), node, format)


@demote_app.default
def demote(node: str, /, *, target: Target = TARGET, format: Format = FORMAT) -> None:
    """Make a voter a learner.

    Parameters
    ----------
    node
        Its name.
    """
    _done(_with_client(target, lambda db, _: db.demote(node)), node, format)


@replace_app.default
def replace(old: str, new: str, /, *, wait: Wait = True, target: Target = TARGET, format: Format = FORMAT) -> None:
    """Put a new node in the place of a voter, in one change, once it has caught up. The old one may be dead.

    Start the new one first, with an empty data directory and --join. What is so already stays as it is.

    Parameters
    ----------
    old
        The voter that goes.
    new
        The node that comes, and where its peers connect, such as n4=10.0.0.4:7481.
    wait
        Until it is done, or --timeout is over; it goes on by itself in any case.
    """
    name, address = _named(new)
    members = _with_client(
        target, lambda db, told: db.replace_node(old, name, address, wait=wait, on_progress=told), watched=name
    )
    _done(members, name, format)


# --- how ------------------------------------------------------------------------------------------------------------


def _named(text: str) -> tuple[NodeId, str]:
    name, separator, address = text.partition("=")
    if not separator or not name or not address:
        raise InvalidArgument(f"{text!r} names no node and address: write NAME=HOST:PORT, such as n4=10.0.0.4:7481")
    return name, address


def _with_client(
    target: Target, work: Callable[[Client, OnProgress], Awaitable[MemberList]], *, watched: NodeId = ""
) -> MemberList:
    """What `work` returns; how far `watched` has caught up is shown meanwhile."""

    async def main() -> MemberList:
        with progress() as shown:
            is_begun = False
            total = 0

            def told(members: MemberList) -> None:
                nonlocal is_begun, total
                row = members.find(watched)
                if row is None or row.role == "voter":
                    return
                if not is_begun:
                    is_begun, total = True, row.match_index + row.lag_entries
                    shown.begin(f"{watched} catches up", total)
                shown.update(min(row.match_index, total))

            async with target.connect() as database:
                members = await work(database, told)
            if is_begun:
                shown.end()
            return members

    return run(main())


def _done(members: MemberList, node: NodeId, format: Format) -> None:
    row = members.find(node)
    if row is None:
        raise UnknownMember(f"{node} was removed meanwhile")
    what = {"joining": "is a learner, and a voter as soon as it has caught up", "leaving": "is on its way out"}
    say(f"aegis: {node} {what.get(row.role, f'is a {row.role}')}")
    _print(members, format)


def _behind(members: MemberList) -> str:
    """Who holds back the next format that others know already; "" when nobody does."""
    highest = max(row.format_highest for row in members.members)
    if highest <= members.format:
        return ""
    return ", ".join(
        f"{row.node} knows up to {row.format_highest}" if row.format_highest else f"{row.node} is not there to say"
        for row in members.members
        if row.format_highest <= members.format
    )


def _print(members: MemberList, format: Format) -> None:
    rows = [{name: getattr(row, name) for name in row.__struct_fields__} for row in members.members]
    if format.output == "json":
        head = {name: getattr(members, name) for name in members.__struct_fields__ if name != "members"}
        print_json({**head, "members": rows})
    else:
        print_rows(rows, format.output, columns=_COLUMNS, titles=_TITLES)
