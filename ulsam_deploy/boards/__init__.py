"""Boards: emulated here or reached through the user's own ssh, and the runner that they are given."""
