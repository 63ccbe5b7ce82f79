"""Finds attention in a captured graph by its operations, whatever module it is in and however it is written."""
