"""`python -m ecodatum`."""

from ecodatum.cli import main

main()
