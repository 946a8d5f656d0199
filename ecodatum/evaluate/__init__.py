"""Zero-shot evaluation: tasks as data, metrics, and the groups that DataComp averages."""
