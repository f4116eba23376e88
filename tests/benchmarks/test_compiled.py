"""What the stored programs for TPUs and GPUs have to hold; `python -m benchmarks.compiled` makes them."""

import json

import pytest

from benchmarks import compiled, harness
from benchmarks.compiled import STORED, broken, modules_of, table
from benchmarks.targets import TARGETS

PROGRAMS = json.loads(STORED.read_text())["programs"]
ROWS = [(name, target) for name, by_target in PROGRAMS.items() for target in by_target]


@pytest.mark.parametrize(("name", "target"), ROWS)
def test_no_program_calls_back_dilates_kernels_or_keeps_a_state_twice(name, target):
    assert target in TARGETS
    assert broken(name, target, PROGRAMS[name][target]) == []


def test_every_fault_is_found():
    row = {
        "callbacks": ["callback"],
        "float64": True,
        "donated arrays": 3,
        "arrays of the state": 4,
        "dilated": ["conv ['f32[2,8,8,3]', 'f32[3,3,3,3]'] -> ['f32[2,8,8,3]'], rhs_dilate=2x2"],
        "operands of convolutions": {"f32 x bf16": 1},
    }
    assert len(broken("dcgan_bfloat16", "h100-1", row)) == 5


def test_statistics_by_groups_of_a_device_leave_at_most_eight_reductions_a_round():
    """One for the gradients of each turn, and those of the running averages, which wait for nothing."""
    for target in ("h100-8", "v5e-4"):
        plain, grouped = (PROGRAMS[f"dcgan_{kind}"][target] for kind in ("batch_norm", "group_statistics"))
        assert plain["all-reduces"] > 8
        assert grouped["all-reduces"] <= 8


def test_seeds_side_by_side_leave_a_gpu_no_fast_gradient_of_a_kernel():
    """In sequence it has its own operation for all but the smallest layer."""
    filter_gradient = "__cudnn$convBackwardFilter"
    by_way = {way: PROGRAMS[f"dcgan_seeds_{way}"]["h100-1"] for way in ("in_turn", "side_by_side")}
    assert by_way["in_turn"]["convolutions"][filter_gradient] > 0
    assert filter_gradient not in by_way["side_by_side"]["convolutions"]
    assert len(by_way["side_by_side"]["dilated"]) > len(by_way["in_turn"]["dilated"])


def test_a_row_says_whether_the_code_has_changed_since(monkeypatch):
    monkeypatch.setattr(compiled, "code_of", lambda name: {"experiments.ring": "abc"})
    rows = [{}, {"code": {"experiments.ring": "abc"}}, {"code": {"experiments.ring": "abd"}}]
    assert [compiled.age("ring", row) for row in rows] == ["unknown", "current", "older"]


def test_every_program_names_modules_of_this_project():
    """A module that does not exist would have the digest of no code."""
    modules = {module for name in compiled.PROGRAMS for module in modules_of(name)}
    assert len(modules) == 8
    for module in modules:
        assert (harness.ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


def test_the_table_has_a_line_for_every_program(monkeypatch):
    monkeypatch.setattr(compiled, "code_of", lambda name: {})
    assert len(table(PROGRAMS).splitlines()) == len(ROWS) + 2
