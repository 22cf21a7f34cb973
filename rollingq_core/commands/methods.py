"""``methods``: list the methods that there are, and what they can be trained on."""

import argparse

from rollingq_core.methods import METHODS, Method
from rollingq_core.tables import Table


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "methods",
        help="list the methods",
        description="List the methods by the names that --method takes.",
        epilog="example: python -m rollingq_core methods",
    )
    parser.set_defaults(run=run, stopped="stopped; run it again")


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    rows = [[name, method.label, _needs(method)] for name, method in METHODS.items()]
    print(Table(["method", "called", "modalities"], rows, ""))


def _needs(method: Method) -> str:
    return "all" if method.modalities is None else ", ".join(method.modalities)
