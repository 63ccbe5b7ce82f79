"""Time: measuring a callable, and what the samples say."""

from ulsam_deploy.device.bench.measure import Samples, measure, peak_rss
from ulsam_deploy.device.bench.statistics import Summary, early_stopping, fewest_samples, percentile, summarize

__all__ = ["Samples", "Summary", "early_stopping", "fewest_samples", "measure", "peak_rss", "percentile", "summarize"]
