"""The words of each command, one module a command: ``add(commands)`` says what a user can type after its name."""
