"""What can be asked of a cluster as a whole?"""

from cyclopts import App

from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_record, say
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.ids import NodeId

app = App(name="cluster", help="Who leads the cluster.")


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
