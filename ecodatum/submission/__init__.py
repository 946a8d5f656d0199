"""A run's way to DataComp's leaderboard: it is checked, bundled, and sent by DataComp's own script."""
