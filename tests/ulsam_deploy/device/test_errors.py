"""One exit code for several outcomes: the gravest, and never success where one of them failed."""

from __future__ import annotations

import itertools

from ulsam_deploy.device.errors import PRECEDENCE, Exit, combine


def test_no_failure_is_ever_lost() -> None:
    for count in (1, 2, 3):
        for codes in itertools.combinations((*PRECEDENCE, Exit.OK), count):
            assert (combine(codes) is Exit.OK) == (set(codes) == {Exit.OK})


def test_the_order_is_the_documented_one() -> None:
    order = [6, 70, 3, 1, 2, 4, 5]
    assert list(PRECEDENCE) == order
    for place in range(len(order)):
        assert combine(reversed(order[place:])) == order[place]


def test_nothing_at_all_is_success() -> None:
    assert combine([]) is Exit.OK
