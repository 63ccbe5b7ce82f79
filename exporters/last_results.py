"""Which tensors of an artifact are results that no product reads any more: their largest values must not be clipped.

Between products a value beyond the usual range may be clipped, and rounds all others less. Behind the last product that
value is the answer: clipped logits make the best class a tie.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ulsam_deploy.graph.ownership import Operator


def last_results(operators: Sequence[Operator], outputs: Iterable[str], products: Collection[str]) -> set[str]:
    """The ``outputs``, and every tensor that leads to one without being read by a product.

    Args:
        operators: All operators of the artifact.
        outputs: The names of its outputs.
        products: The names of the operators that are products.
    """
    made = {operator.output: operator for operator in operators}
    found: set[str] = set()
    open_ = list(outputs)
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            if name in made and made[name].name not in products:
                open_.extend(made[name].inputs)
    return found
