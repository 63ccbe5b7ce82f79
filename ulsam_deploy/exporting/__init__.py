"""One export from top to bottom: options, preparation, building, the bundle."""
