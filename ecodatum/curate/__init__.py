"""Curation: scores to votes, votes to a label model, and everything to a subset."""
