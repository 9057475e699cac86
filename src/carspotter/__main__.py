"""`python -m carspotter`, where the command itself is not on the path."""

from carspotter.cli.main import app

app(prog_name="carspotter")
