"""Finds attention in a captured graph by its operations, whoever wrote the module and however it is spelled."""
