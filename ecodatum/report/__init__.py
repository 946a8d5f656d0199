"""Tables and tracking of finished runs."""
