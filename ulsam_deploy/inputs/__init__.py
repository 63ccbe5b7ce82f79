"""The user's own inputs: probes to check on, and the calibration set."""
