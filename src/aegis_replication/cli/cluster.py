"""What can be asked of a cluster as a whole?"""

from typing import Literal

from cyclopts import App

from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_record, say
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.ids import NodeId

app = App(name="cluster", help="Who leads the cluster, how it answers reads, and how it survives a lost majority.")
app.command("aegis_replication.cli.recover:app", name="recover", help="Go on with one survivor (--unsafe).")


@app.command(help_epilogue=examples("aegis cluster transfer-leader", "aegis cluster transfer-leader n2"))
def transfer_leader(node: str | None = None, /, *, target: Target = TARGET, format: Format = FORMAT) -> None:
    """Let another node lead: NODE, or whoever is best. Nothing is lost; writes wait for a moment.

    A NODE that leads already stays; a learner, or a node that doesn't answer, is refused.

    Parameters
    ----------
    node
        Who is to lead.
    """

    async def main() -> NodeId:
        async with target.connect() as database:
            return await database.transfer_leader(node)

    leader = run(main())
    if format.output == "table":
        say(f"aegis: {leader} leads")
    else:
        print_record({"leader": leader}, format.output)


@app.command(help_epilogue=examples("aegis cluster lease", "aegis cluster lease on", "aegis cluster lease off -o json"))
def lease(switch: Literal["on", "off"] | None = None, /, *, target: Target = TARGET, format: Format = FORMAT) -> None:
    """Let the leader answer reads by lease, without asking a majority: on or off; without a word, say how it is.

    Quicker reads for a trust in clocks: with leases on, a read may be stale if a node's clock runs more than a tenth
    too fast or too slow, and after a crash it takes longer until another leads. docs/guarantees.md says all of it.

    Parameters
    ----------
    switch
        on or off.
    """

    async def main() -> int:
        async with target.connect() as database:
            members = await (database.members() if switch is None else database.set_lease(switch == "on"))
            return members.lease_ms

    lease_ms = run(main())
    if format.output == "table":
        say(f"aegis: leases are on: {lease_ms} ms" if lease_ms else "aegis: leases are off")
    else:
        print_record({"lease": "on" if lease_ms else "off", "lease_ms": lease_ms}, format.output)
