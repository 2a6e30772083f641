"""How does a shell learn our words?"""

from typing import Literal

from cyclopts import App

from aegis_replication.cli.main import make_app
from aegis_replication.cli.options import examples
from aegis_replication.cli.output import print_bytes

app = App(
    name="completion",
    help_epilogue=examples(
        "source <(aegis completion bash)", "aegis completion fish > ~/.config/fish/completions/aegis.fish"
    ),
)


@app.default
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the script that completes `aegis` in SHELL."""
    print_bytes(make_app().generate_completion(shell=shell).encode())
