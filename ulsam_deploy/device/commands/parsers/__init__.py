"""The words of each command that a board has; importing them imports no numpy and no engine."""
