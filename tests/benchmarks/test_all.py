"""The comparison of two commits."""

import pathlib

import pytest

from benchmarks import all as comparison
from benchmarks import harness
from benchmarks.harness import Spread


def test_what_takes_longer_is_marked_unless_other_load_did_it():
    found = {
        "ring": {"wall time": Spread(1.2, 1.1, 1.3), "processor time": Spread(1.04, 1.0, 1.1)},
        "unet": {"wall time": Spread(1.2, 1.1, 1.3), "peak memory": Spread(1.06, 1.06, 1.06)},
    }
    text, worse = comparison.table(found, ["unet"], slack=0.05)
    assert worse == 2
    ends = [line.rstrip() for line in text.splitlines()[-4:]]
    assert [end.endswith("WORSE") for end in ends] == [True, False, False, True]
    assert ends[2].endswith("other load")


def test_times_are_the_inverse_of_rates():
    assert comparison.inverse(Spread(0.5, 0.25, 2.0)) == (2.0, 0.5, 4.0)


def test_a_commit_that_is_not_there_is_named():
    with pytest.raises(harness.BenchmarkError, match="no commit 'nowhere'"), comparison.checkout("nowhere"):
        pass


@pytest.mark.full
def test_another_commit_is_imported_from_its_own_files(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if harness.commit_of(harness.ROOT) == "unknown":
        pytest.skip("this is no checkout")
    with comparison.checkout("HEAD") as root:
        assert root != harness.ROOT
        assert (root / "benchmarks" / "jax_worker.py").is_file()
        ratios = comparison.compare_imports(root, 1)
    assert 0.2 < ratios["import"].median < 5
    assert not pathlib.Path(root).exists()
