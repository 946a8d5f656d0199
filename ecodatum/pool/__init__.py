"""CommonPool's layout: parts, shards, uids, subsets, resharding; the only code that knows it."""
