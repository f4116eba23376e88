"""The arithmetic of the comparisons, on programs whose times are known."""

import dataclasses
import itertools
import json
import subprocess
import sys

import pytest

from benchmarks import flops, games, harness, versus


class Scripted:
    """A program whose rates and other load follow a script, over and over."""

    def __init__(self, name, rates, loads=(0.0,)):
        self.name = name
        self.description = {}
        self.asked = []
        self._rates, self._loads = itertools.cycle(rates), itertools.cycle(loads)

    def play(self, rounds):
        self.asked.append(rounds)
        seconds = rounds / next(self._rates)
        return harness.Played(rounds, seconds, 2 * seconds, next(self._loads), {"asked": rounds})

    def close(self):
        pass


PLAN = harness.Plan(pairs=4, seconds=1.0, warm_up=0.0, tolerance=0.05, max_attempts=3)


def test_the_ratio_is_the_median_of_the_pairs_ratios():
    # The first value of each script is the warm-up's. Ratios 2, 4, 8, 16: median 6, and no rate's own median ratio.
    ours = Scripted("ours", [10, 20, 80, 80, 160])
    theirs = Scripted("theirs", [10, 10, 20, 10, 10])
    result = harness.compare(ours, theirs, PLAN)
    assert result.ratio == pytest.approx((6.0, 2.0, 16.0))
    assert result.cpu_ratio == pytest.approx((6.0, 2.0, 16.0))
    assert result.trusted
    assert (result.clean, result.tried) == (4, 4)


def test_pairs_that_other_load_touched_are_dropped():
    # Every second repetition of the second program is touched, and eight times slower.
    ours = Scripted("ours", [10])
    theirs = Scripted("theirs", [5, 5, 5 / 8], loads=[0.0, 0.0, 0.9])
    theirs.play(1)
    theirs.play(1)
    theirs.play(1)
    result = harness.compare(ours, theirs, PLAN)
    assert result.ratio == pytest.approx((2.0, 2.0, 2.0))
    assert result.clean == 4
    assert result.tried > 4


def test_a_machine_that_is_never_quiet_is_not_trusted():
    busy = Scripted("busy", [10], loads=[1.0])
    result = harness.compare(busy, Scripted("quiet", [10]), PLAN)
    assert not result.trusted
    assert (result.clean, result.tried) == (0, 12)
    assert "TOUCHED" in harness.pairs_cell(result)
    assert result.ratio.median == pytest.approx(1.0)
    assert harness.verdict(result, bar=0.5) == "0.5 not judged"


def test_a_trusted_comparison_is_judged_by_its_median():
    result = harness.compare(Scripted("ours", [20]), Scripted("theirs", [10]), PLAN)
    assert harness.verdict(result, bar=2.0) == "2.0 met"
    assert harness.verdict(result, bar=2.1) == "2.1 MISSED"


def test_repetitions_last_equally_long():
    fast, slow = Scripted("fast", [1000]), Scripted("slow", [10])
    harness.compare(fast, slow, PLAN)
    assert fast.asked[-1] == 1000
    assert slow.asked[-1] == 10


def test_a_worker_answers_and_its_prints_stay_out_of_the_answers(tmp_path, monkeypatch):
    program = (
        "from benchmarks import harness\n"
        "def play(rounds):\n"
        "    print('noise')\n"
        "    return {'twice': 2 * rounds}\n"
        "harness.serve({'parameters': 3}, play, add=lambda a, b: {'sum': a + b})\n"
    )
    (tmp_path / "scripted_worker.py").write_text(program)
    path = {"PYTHONPATH": str(tmp_path)}
    with harness.Worker("scripted", "scripted_worker", {}, environment=path) as worker:
        assert worker.description["parameters"] == 3
        played = worker.play(21)
        assert played.report["twice"] == 42
        assert played.rounds == 21
        assert worker.ask("add", a=1, b=2) == {"sum": 3}


def test_a_worker_that_dies_is_one_clear_error(tmp_path):
    (tmp_path / "dying_worker.py").write_text("import sys\nsys.exit(7)\n")
    with pytest.raises(harness.BenchmarkError, match="ended with code 7"):
        harness.Worker("dying", "dying_worker", {}, environment={"PYTHONPATH": str(tmp_path)})


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/stat")
def test_a_busy_process_counts_as_other_load():
    import subprocess

    before = harness.machine_load()
    subprocess.run([sys.executable, "-c", "x = 0\nfor i in range(4_000_000): x += i"], check=True)
    assert harness.other_load(before, 0.0) > 0.5


def test_a_repetition_is_a_multiple_of_the_schedules_period():
    """At 10 rounds a second and 1 s: the nearest multiple, and at least one whole schedule."""
    for period, expected in ((1, 10), (4, 8), (6, 12), (16, 16)):
        plan = dataclasses.replace(PLAN, period=period)
        assert harness.warmed_up(Scripted("any", [10]), plan) == expected


def test_memory_is_counted_above_that_of_the_imports():
    programs = [Scripted("ours", [1]), Scripted("theirs", [1])]
    result = dataclasses.replace(
        harness.compare(*programs, PLAN),
        descriptions=({"import_mb": 200.0}, {"import_mb": 300.0}),
        reports=({"peak_mb": 500.0}, {"peak_mb": 400.0}),
    )
    assert versus.memory_above_import(result) == (300.0, 100.0)


def test_settings_are_saved_without_the_machines_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    flags = harness.arguments("").parse_args(["--torch-python", "/some/where/python", "--pairs", "3"])
    harness.save(flags, "toy", {"games": {}})
    text = (tmp_path / "results" / "toy.json").read_text()
    assert json.loads(text)["settings"]["pairs"] == 3
    assert "/some/where" not in text


def test_flops_of_a_turn_by_hand():
    # One unit each: the generator 2 -> 3 -> 5, the critic 5 -> 7 -> 1.
    layers = flops.Multiplications(flops.dense_stack(2, 3, 5), flops.dense_stack(5, 7, 1))
    assert layers == ([6, 15], [35, 7])
    # Fakes 21; each of real and fake: forward 42, by kernels 42, by hidden units 7.
    assert flops.critic_turn(layers) == 21 + 2 * (42 + 42 + 7)
    # Forward 21 and 42; back through the critic 42; by kernels 21, by hidden units 15.
    assert flops.generator_turn(layers) == 21 + 42 + 42 + 21 + 15


def test_flops_of_the_dcgan_by_hand():
    # 28 -> 14 -> 7 with 4 x 4 kernels: 14^2 * 16 * 1 * 64, 7^2 * 16 * 64 * 128, 7^2 * 128.
    game = games.DCGAN(objective="wgan", size=28, channels=1)
    assert game.multiplications.critic == [200_704, 6_422_528, 6_272]
    assert game.multiplications.generator == [128 * 6_272, 6_422_528, 200_704]


def test_flops_of_r3gan_by_hand():
    game = games.R3GAN(size=8, width=4, blocks=1, group_size=4, latent=3, batch_size=2)
    # Inside a block are 8 channels in groups of 4, so that each reads 4: 4^2 * (4 * 8, 9 * 4 * 8, 8 * 4).
    small, large = [512, 4608, 512], [2048, 18_432, 2048]
    generator, critic = [12, *small, *large, 64 * 3 * 4], [768, *large, *small, 16 * 4, 4]
    assert game.multiplications == (generator, critic)
    g, d = sum(generator), sum(critic)
    # Two penalties of three products a layer, but for the last; the generator's turn scores real examples too.
    assert game.turns == {
        "critic": 4 * (g + 2 * (3 * d - 768) + 2 * 3 * (d - 4)),
        "generator": 4 * (3 * d + 3 * g - 12),
    }


def test_flops_of_stylegan2_by_hand():
    game = games.StyleGAN2(
        size=8, width=2, most=4, style=3, layers=2, latent=5, channels=1, batch_size=2, mixing=0.0
    )
    mapping = [15, 9]
    # From 4 x 4 x 4 to 8 x 8 x 2; before each convolution its scales, 3 times the channels in.
    synthesis = [12, 2304, 12, 64, 12, 16 * 9 * 4 * 2, 6, 2304, 6, 128]
    critic = [128, 2304, 16 * 9 * 2 * 4, 16 * 2 * 4, 16 * 9 * 5 * 4, 64 * 4, 4]
    assert game.multiplications == ([*mapping, *synthesis], critic)
    g, d, before = 24 + sum(synthesis), sum(critic), sum(critic[:4])
    turns = {
        "critic": 4 * (g + 2 * (3 * d - 128)),
        "r1": 4 * (4 * (d - 4) + 2 * before - 128),
        "generator": 4 * (2 * d + 3 * g - 15),
        "path_length": 2 * (6 * sum(synthesis) + 3 * 24 - 15),
    }
    assert game.turns == turns
    assert game.flops == turns["critic"] + turns["generator"] + turns["r1"] / 16 + turns["path_length"] / 4
    mixed = dataclasses.replace(game, mixing=0.9).turns
    assert mixed["critic"] - turns["critic"] == 4 * 24
    assert mixed["generator"] - turns["generator"] == 4 * (3 * 24 - 15)


def test_results_of_the_benchmark_before_are_no_changes_of_the_code(tmp_path):
    def git(*arguments):
        user = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *user, *arguments], cwd=tmp_path, check=True, capture_output=True)

    code, result = tmp_path / "code.py", tmp_path / "benchmarks/results/ring.json"
    result.parent.mkdir(parents=True)
    for file in (code, result):
        file.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "Begin")
    clean = harness.commit_of(tmp_path)
    result.write_text("2")
    assert harness.commit_of(tmp_path) == clean
    code.write_text("2")
    assert harness.commit_of(tmp_path) == f"{clean} with changes"
