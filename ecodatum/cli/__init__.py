"""The command line: parses, calls, prints."""

from ecodatum.cli.app import main

__all__ = ["main"]
