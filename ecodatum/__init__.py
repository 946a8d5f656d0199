"""EcoDatum: a reproducible benchmark harness for DataComp."""

__version__ = "0.1.0"
