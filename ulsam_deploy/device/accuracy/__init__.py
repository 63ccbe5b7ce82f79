"""Accuracy on labelled data: of an artifact, with an interval, and compared with the network that it was made from.

Standard library and numpy only (pictures need Pillow); device-safe.
"""

from ulsam_deploy.device.accuracy.labelled import Labelled, open_labelled
from ulsam_deploy.device.accuracy.measuring import Accuracy, Hits, hits, judged
from ulsam_deploy.device.accuracy.statistics import Paired, paired

__all__ = ["Accuracy", "Hits", "Labelled", "Paired", "hits", "judged", "open_labelled", "paired"]
