"""Operators: samples in, named score columns out; one module a family."""
