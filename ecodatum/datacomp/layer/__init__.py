"""What every Python process of a DataComp script is given; see aliases.py for what and why."""
