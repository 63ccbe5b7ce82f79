"""What airspeed velocity follows from commit to commit: ``make track``."""
