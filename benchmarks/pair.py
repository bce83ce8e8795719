"""The two builds that a benchmark migrates between."""

import argparse

from qmptests import builds
from qmptests.builds import Build


def parse(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Build, Build]:
    """The command line's options, with `--source` and `--destination`, and these two resolved."""
    parser.add_argument("--source", default="debian:trixie")
    parser.add_argument("--destination", default="debian:trixie-backports")
    options = parser.parse_args()
    source = builds.resolve(options.source, progress=print)
    destination = builds.resolve(options.destination, progress=print)
    return options, source, destination
