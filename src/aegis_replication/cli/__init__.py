"""The command `aegis`: one file per noun; `main` is where it starts."""
