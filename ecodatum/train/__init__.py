"""Training: builds open_clip's arguments as DataComp does, and runs its trainer."""
