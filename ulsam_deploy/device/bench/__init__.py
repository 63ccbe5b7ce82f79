"""Time: measuring a callable, and what the samples say."""
