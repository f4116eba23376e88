"""Which cases of a parametrised test are in the tiers `full` and `slow`, outside the default test command."""

import pytest


def full_except(kept, cases):
    """The cases, those that are not in `kept` marked `full`.

    Representatives of a fact stay in the default command; the other names, sizes and settings are run on request.
    """
    return [case if case in kept else pytest.param(case, marks=pytest.mark.full) for case in cases]


def full(*case):
    """A single case of the tier `full`."""
    return pytest.param(*case, marks=pytest.mark.full)


def slow(*case):
    """A single case of the tier `slow`: outside CI, before a release."""
    return pytest.param(*case, marks=pytest.mark.slow)
