"""Boards: emulated here or reached through the user's own ssh, and the runner that is sent to them."""
