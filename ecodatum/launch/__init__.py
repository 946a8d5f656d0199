"""Launching jobs through submitit; knows nothing of what the jobs do."""
