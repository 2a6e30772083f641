"""What is running here?"""

from cyclopts import App

from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_bytes, print_record

app = App(name="version", help_epilogue=examples("aegis version", "aegis version -o json"))


@app.default
def version(*, format: Format = FORMAT) -> None:
    """Print versions: aegis, Python, and the parts that matter in a report of trouble."""
    from aegis_replication.observability.versions import PARTS, versions

    record = versions()
    if format.output == "table":
        parts = ", ".join(f"{part} {record[part]}" for part in PARTS if record[part])
        print_bytes(f"aegis {record['aegis']} (Python {record['python']}, {record['system']}, {parts})".encode())
    else:
        print_record(record, format.output)
