"""DataComp's own scripts: a pinned checkout, run unmodified under a compatibility layer."""
