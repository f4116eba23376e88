"""The times of launches."""

import pytest

from benchmarks import harness, launches


@pytest.mark.full
def test_a_launch_keeps_its_programs_in_the_cache_that_it_is_given(tmp_path):
    took = launches.launched(("--config=ring",), tmp_path / "cache", tmp_path / "run")
    assert min(took) > 0.5
    assert list((tmp_path / "cache" / "gan_jax").rglob("*cache*"))
    assert list((tmp_path / "run" / "samples").glob("*.png"))


@pytest.mark.full
def test_a_launch_that_fails_is_an_error_with_what_it_said(tmp_path):
    with pytest.raises(harness.BenchmarkError, match="Unknown objective 'nothing'"):
        launches.launched(("--config=ring", "--config.objective=nothing"), tmp_path, tmp_path / "run")
