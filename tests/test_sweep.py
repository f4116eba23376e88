"""Sweeps: every combination once, resumed where it was stopped, compared at the end."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
import types

import numpy as np
import pytest

from gan_jax.cli import sweep_files, sweep_grid, sweep_report, sweeping
from gan_jax.cli.errors import UsageError
from gan_jax.data import from_arrays
from gan_jax.data.stream import array_reader, from_reader
from gan_jax.runs.provenance import data_fingerprint

CONFIG = {"learning_rate": 0.0, "objective": "gan", "rounds": 8, "flip": False, "nested": {"x": 1}}


@pytest.mark.parametrize(
    ("swept", "said"),
    [
        (["learning_rate=1,2"], "--sweep is config.FIELD=VALUE,VALUE"),
        (["config.learning_rate="], "--sweep is config.FIELD=VALUE,VALUE"),
        (["config.learning_rat=1"], "did you mean 'learning_rate'"),
        (["config.learning_rate=1,x"], "learning_rate is a number like 0.0, got 'x'"),
        (["config.rounds=1.5"], "rounds is a number like 8, got '1.5'"),
        (["config.flip=yes"], "flip is true or false, got 'yes'"),
        (["config.rounds=1,1"], "different values"),
        (["config.rounds=1,"], "different values"),
        (["config.rounds=1,01"], "different values"),
        (["config.rounds=1", "config.rounds=2"], "names rounds twice"),
    ],
)
def test_what_cannot_be_swept_is_said(swept, said):
    with pytest.raises(UsageError, match=said):
        sweep_grid.parse(swept, CONFIG)


def test_the_grid_has_every_combination_and_hands_the_other_flags_on():
    argv = "launch.py --config=ring --sweep=config.lr=1,2 --jobs 2 --metrics=frechet --config.seeds=3 --workdir=w"
    points = sweep_grid.grid(argv.split(), {"lr": ("1", "2"), "data": ("a/b", "a_b", "c")})
    assert [point.name for point in points] == [
        f"lr={lr},data={data}" for lr in "12" for data in ("a_b", "a_b-2", "c")
    ]
    assert [name.replace("-2", "") for name in (points[0].name, points[1].name)] == ["lr=1,data=a_b"] * 2
    assert points[4].train == ("--config=ring", "--config.seeds=3", "--config.lr=2", "--config.data=a_b")
    assert points[4].evaluate == ("--mode=evaluate", "--metrics=frechet", "--config=ring")
    tracked = sweep_grid.grid(["launch.py", "--track=wandb", "--weights=raw"], {"lr": ("1",)})[0]
    assert tracked.train == ("--track=wandb", "--config.lr=1")
    assert tracked.evaluate == ("--mode=evaluate", "--weights=raw")
    assert sweep_grid.parse(["config.nested.x=1,2"], CONFIG) == {"nested.x": ("1", "2")}


def evaluation(frechet, precision=0.5, seeds=1):
    numbers = [{"frechet": frechet + seed, "precision": precision, "samples": 9} for seed in range(seeds)]
    parts = [{"samples": {"ema": of_seed}} for of_seed in numbers]
    single = {"step": 8, "samples": parts[0]["samples"]}
    return single if seeds == 1 else {**single, "seeds": list(range(seeds)), "each": parts}


def test_the_table_has_intervals_over_seeds_and_marks_the_best():
    """The half width for 1, 2, 3 is t(.975; 2) / sqrt 3 = 4.3027 / 1.7321 = 2.484."""
    rows = [
        sweep_report.Row({"lr": "1"}, evaluation(1.0, 0.5, seeds=3)),
        sweep_report.Row({"lr": "2"}, evaluation(5.0, 0.9)),
    ]
    assert sweep_report.table(rows) == [
        ["lr", "round", "frechet", "precision"],
        ["1", "8", "2 ± 2.5 *", "0.5 ± 0"],
        ["2", "8", "5", "0.9 *"],
    ]


def test_none_is_the_best_of_equals():
    rows = [
        sweep_report.Row({"lr": lr}, evaluation(2.0, precision)) for lr, precision in (("1", 0.5), ("2", 0.9))
    ]
    assert [row[2:] for row in sweep_report.table(rows)[1:]] == [["2", "0.5"], ["2", "0.9 *"]]
    worse = sweep_report.Row({"lr": "3"}, evaluation(7.0, 0.9))
    assert [row[2:] for row in sweep_report.table([*rows, worse])[1:]] == [
        ["2", "0.5"],
        ["2", "0.9"],
        ["7", "0.9"],
    ]


def test_a_run_with_a_seed_that_is_not_finite_is_not_the_best():
    """NaN is a text in a file; the mean over the other seeds is shown, and how many they are."""
    broken = evaluation(0.0, seeds=2)
    broken["each"][1]["samples"]["ema"]["frechet"] = "NaN"
    rows = [sweep_report.Row({"lr": "1"}, broken), sweep_report.Row({"lr": "2"}, evaluation(5.0, seeds=2))]
    assert [row[2] for row in sweep_report.table(rows)[1:]] == ["0 (1 of 2)", "5.5 ± 6.4 *"]


def measured(lr, frechet, **fields):
    mark = {"extractor": "pixels", "seed": 0, "data": "1", "fake": 9, "key": "k", "metrics": ["frechet"]}
    return sweep_report.Row(
        {"lr": lr}, {**evaluation(frechet), "fingerprints": {"scores": {**mark, **fields}}}
    )


def test_numbers_that_were_measured_otherwise_are_not_ranked():
    rows = [measured("1", 2.0), measured("2", 1.0, extractor="pixels, given to the critic")]
    assert [row[2] for row in sweep_report.table(rows)[1:]] == ["2", "1"]
    assert sweep_report.differences(rows) == [
        "lr=2 is not comparable with the first row (extractor pixels against pixels, given to the critic): frechet."
    ]


def test_runs_of_other_seeds_are_compared():
    rows = [measured("1", 2.0), measured("2", 1.0, seed=1, data="2", key="other")]
    assert [row[2] for row in sweep_report.table(rows)[1:]] == ["2", "1 *"]
    assert sweep_report.differences(rows) == []


def test_runs_of_other_examples_are_not_ranked():
    """As in a sweep over `config.data`, or where images were replaced between two launches of a sweep."""
    rows = [
        dataclasses.replace(measured("1", 2.0), examples="uint8[9, 8, 8, 1] sha256:aa"),
        dataclasses.replace(measured("2", 1.0, data="2"), examples="uint8[9, 8, 8, 1] sha256:bb"),
    ]
    assert [row[2] for row in sweep_report.table(rows)[1:]] == ["2", "1"]
    assert sweep_report.differences(rows) == [
        "lr=2 is not comparable with the first row (examples uint8[9, 8, 8, 1] sha256:aa against uint8[9, 8, 8, 1] "
        "sha256:bb): frechet, precision."
    ]


def test_the_examples_of_a_run_are_found_in_its_record(tmp_path):
    """Whatever its source calls them: data on the device, with labelled ones, augmented, and a stream."""
    x, y = np.arange(6.0, dtype=np.float32).reshape(6, 1), np.arange(6) % 2
    resident = from_arrays({"x": x, "y": y}, 2)
    sources = [
        resident,
        from_arrays({"x": x}, 2, labelled={"x": x[:2], "y": y[:2]}),
        dataclasses.replace(resident, device_data={"source": resident.device_data, "seed": np.uint32(0)}),
        from_reader(array_reader({"x": x}), 6, 2),
    ]
    found = []
    for number, source in enumerate(sources):
        (tmp_path / str(number)).mkdir()
        record = {"data": data_fingerprint(source)}
        (tmp_path / str(number) / "config.json").write_text(json.dumps(record))
        point = sweep_grid.Point(str(number), {}, (), (), "")
        found.append(sweep_files.examples_of(tmp_path, point))
    assert found[0] == found[1] == found[2]
    assert all(each.startswith("float32[") and each.count("sha256:") == 1 for each in found)


# ---------------------------------------------------------------------------------------------------------
# Runs, by a launcher that trains nothing

LAUNCHER = """
import json, pathlib, signal, sys, time
flags = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
workdir = pathlib.Path(flags["workdir"])
lr, rounds = flags.get("config.lr", ""), int(flags.get("config.rounds", 8))
workdir.mkdir(exist_ok=True)
if flags.get("mode") == "evaluate":
    config = json.loads((workdir / "config.json").read_text())["config"]
    samples = {"ema": {"frechet": float(config["lr"])}}
    (workdir / "evaluation.json").write_text(json.dumps({"checkpoints": [{"step": 8, "samples": samples}]}))
else:
    with (workdir / "trained").open("a") as log:
        log.write("x")
    if lr == "3" and not (workdir.parent / "mended").exists():
        sys.exit("lr=3 is too large")
    if lr == "4" and not (workdir.parent / "quick").exists():
        signal.signal(signal.SIGTERM, lambda *_: ((workdir / "saved").touch(), sys.exit(0)))
        (workdir.parent / "waits").touch()
        time.sleep(60)
    (workdir / "config.json").write_text(json.dumps({"config": {"lr": lr, "rounds": rounds}}))
"""


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    path = tmp_path / "fake.py"
    path.write_text(textwrap.dedent(LAUNCHER))
    monkeypatch.setattr(sys, "argv", [str(path)])
    monkeypatch.setattr(sweeping, "_POLL_SECONDS", 0.02)

    def call(values, **options):
        argv = [str(path), f"--sweep=config.lr={values}"]
        defaults = {"config": {"lr": 0.0}, "workdir": str(tmp_path / "s"), "jobs": 2, "slurm": None}
        sweeping.sweep(argv, [f"config.lr={values}"], **{**defaults, **options})

    return call


def trained(tmp_path, lr):
    return len((tmp_path / "s" / f"lr={lr}" / "trained").read_text())


@pytest.mark.parametrize("name", ["sweep.json", "table.md", "sweep.png", "lr=1.log", "lr=1.made"])
def test_nothing_is_written_through_a_link(launcher, tmp_path, name):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match=r"is a link, and nothing is written through one"):
        launcher("1")
    assert (tmp_path / "victim").read_text() == "kept"


def test_a_record_of_another_form_is_no_record(launcher, tmp_path, capsys):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text("[1]")
    launcher("1")
    assert "1 runs in" in capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        launcher("1", workdir=str(tmp_path / "file"))


@pytest.mark.parametrize("name", ["table.md", "sweep.png"])
def test_files_of_others_are_not_replaced(launcher, tmp_path, name):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name} is there, not as an earlier sweep has written it"):
        launcher("1")
    assert (tmp_path / "s" / name).read_text() == "mine"
    assert not (tmp_path / "s" / "lr=1").exists(), "refused before hours of training"
    (tmp_path / "s" / name).unlink()
    launcher("1")
    launcher("1,2")
    with (tmp_path / "s" / name).open("a") as file:
        file.write("a note of mine")
    with pytest.raises(UsageError, match=rf"{name} is there, not as an earlier sweep has written it"):
        launcher("1,2")
    assert (tmp_path / "s" / name).read_bytes().endswith(b"a note of mine")


def test_a_table_of_before_digests_were_recorded_is_replaced(launcher, tmp_path):
    launcher("1")
    record = tmp_path / "s" / "sweep.json"
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if "=" in k}))
    launcher("1,2")
    assert "| 2 |" in (tmp_path / "s" / "table.md").read_text()


@pytest.mark.parametrize("text", ['["mine"]', '{"method": "bayes"}', "{cut", '{"written": []}'])
def test_a_record_of_others_is_kept(launcher, tmp_path, text, capsys):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text(text)
    launcher("1")
    kept = list((tmp_path / "s").glob("sweep_unread_*.json"))
    if "written" in text:  # a record, if a damaged one
        assert not kept
        return
    assert [path.read_text() for path in kept] == [text]
    assert kept[0].name in capsys.readouterr().err


def test_an_evaluation_of_other_weights_is_not_set_beside_the_others(launcher, tmp_path):
    """Somebody has evaluated one of the runs by `--weights=raw`, and by standing statistics."""
    launcher("1,2")
    path = tmp_path / "s" / "lr=1" / "evaluation.json"
    stored = json.loads(path.read_text())["checkpoints"]
    stored[0]["samples"]["raw"] = {"frechet": 0.5}
    more = [
        {"step": 8, "samples": {"raw": {"frechet": 0.5}}},
        {
            "step": 8,
            "samples": {"ema": {"frechet": 0.25}, "raw": {"frechet": 0.25}},
            "standing_statistics": 4,
        },
    ]
    path.write_text(json.dumps({"checkpoints": [*stored, *more]}))
    (points,) = (sweep_grid.grid(["x"], {"lr": ("1",)}),)
    found = sweep_files.evaluation_of(tmp_path / "s", points[0])
    assert found["samples"]["ema"]["frechet"] == 1.0
    (raw,) = sweep_grid.grid(["x", "--weights=raw"], {"lr": ("1",)})
    assert sweep_files.evaluation_of(tmp_path / "s", raw)["samples"] == {"raw": {"frechet": 0.5}}
    (standing,) = sweep_grid.grid(["x", "--standing_statistics=4"], {"lr": ("1",)})
    assert sweep_files.evaluation_of(tmp_path / "s", standing)["samples"]["ema"]["frechet"] == 0.25


def test_an_array_job_that_was_edited_is_not_replaced(launcher, tmp_path, monkeypatch):
    """Its first lines are where the cluster's partition is added."""
    monkeypatch.chdir(tmp_path)
    job = tmp_path / "job.sh"
    job.write_text("mine")
    with pytest.raises(UsageError, match=r"job\.sh is there, not as an earlier sweep has written it"):
        launcher("1,2", slurm="job.sh")
    assert job.read_text() == "mine"
    job.unlink()
    launcher("1,2", slurm="job.sh")
    launcher("1,2,5", slurm="job.sh")
    edited = job.read_text().replace("#SBATCH", "#SBATCH --partition=mine\n#SBATCH", 1)
    job.write_text(edited)
    with pytest.raises(UsageError, match=r"job\.sh is there, not as an earlier sweep has written it"):
        launcher("1,2", slurm="job.sh")
    assert job.read_text() == edited


def test_finished_runs_are_not_run_again_and_failed_ones_are(launcher, tmp_path, capsys):
    with pytest.raises(
        UsageError, match=r"1 of 3 runs failed: see .*lr=3\.log; the same command with --workdir="
    ):
        launcher("1,2,3")
    out = capsys.readouterr().out
    assert "failed lr=3: lr=3 is too large" in out
    assert "1   8      1 *" in out
    assert "frechet" in (tmp_path / "s" / "table.md").read_text()
    assert (tmp_path / "s" / "sweep.png").stat().st_size > 1000
    (tmp_path / "s" / "mended").touch()
    launcher("1,2,3,5")
    assert "4 runs in" in (out := capsys.readouterr().out)
    assert "2 of them finished" in out
    assert [trained(tmp_path, lr) for lr in (1, 2, 3, 5)] == [1, 1, 2, 1]
    launcher("1,2")
    assert [trained(tmp_path, lr) for lr in (1, 2, 3, 5)] == [1, 1, 2, 1]


def test_a_run_of_other_code_is_not_finished(launcher, tmp_path, monkeypatch, capsys):
    """The experiment's file has been edited since: its finished runs are launched again, and refuse other code."""
    launcher("1,2")
    monkeypatch.setattr(sweep_grid, "source_digest", lambda path: "edited")
    launcher("1,2")
    assert "2 runs in" in (out := capsys.readouterr().out)
    assert "0 of them finished" in out.rpartition("2 runs in")[2]
    assert [trained(tmp_path, lr) for lr in (1, 2)] == [2, 2]


def test_a_run_that_was_stopped_is_not_finished(launcher, tmp_path, monkeypatch):
    """Somebody ends one run in order, which has saved and exits with 0 before its last round."""
    monkeypatch.setattr(sys, "argv", [sys.argv[0]])
    script = tmp_path / "fake.py"
    script.write_text(script.read_text().replace('int(flags.get("config.rounds", 8))', "9"))
    with pytest.raises(UsageError, match="1 of 1 runs failed"):
        launcher("1")


@pytest.mark.full
def test_a_signal_stops_the_runs_which_save(tmp_path):
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(LAUNCHER))
    code = (
        "import sys; from gan_jax.cli import sweeping; sys.argv = [{!r}, '--sweep=config.lr=4,5'];"
        "sweeping.sweep(sys.argv, ['config.lr=4,5'], config={{'lr': 0.0}}, workdir={!r}, jobs=1, slurm=None)"
    ).format(str(script), str(tmp_path / "s"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "s" / "waits").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert (tmp_path / "s" / "lr=4" / "saved").exists()
    assert not (tmp_path / "s" / "lr=5").exists()
    command = shlex.split(out.partition("Go on with: ")[2])
    assert command == ["python", str(script), "--sweep=config.lr=4,5", f"--workdir={tmp_path / 's'}"]


def test_an_array_job_runs_a_point_each(launcher, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    launcher("1,2", slurm="job.sh", workdir="s")
    text = (tmp_path / "job.sh").read_text()
    assert "#SBATCH --array=0-1\n" in text
    assert not (tmp_path / "s" / "lr=1").exists(), "nothing is run"
    for number in range(2):
        subprocess.run(["bash", "job.sh"], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number)}, check=True)
    beyond = {**os.environ, "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(["bash", "job.sh"], env=beyond, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "There is no run 2: they are 0 to 1.\n")
    assert (
        json.loads((tmp_path / "s" / "lr=2" / "evaluation.json").read_text())["checkpoints"][0]["step"] == 8
    )
    capsys.readouterr()
    launcher("1,2", workdir="s")
    out = capsys.readouterr().out
    assert "2 runs in s, 2 of them finished" in out
    assert trained(tmp_path, 1) == 1


def test_no_name_and_no_value_is_a_command_of_an_array_job(launcher, tmp_path, monkeypatch):
    """What stands in comments ended them with its line; SLURM cut the log's name at a space."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--config.note=a\ntouch made"])
    launcher("1,2", slurm="job.sh", workdir="my runs")
    assert "#SBATCH --output='my runs/%a.log'\n" in (tmp_path / "job.sh").read_text()
    subprocess.run(["bash", "job.sh"], env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}, check=True)
    assert (tmp_path / "my runs" / "lr=1" / "evaluation.json").exists()
    assert not (tmp_path / "made").exists()
    with pytest.raises(UsageError, match=r"has a name that a job file cannot give to SLURM"):
        launcher("1,2", slurm="job.sh", workdir="s\ntouch made")


def test_an_array_job_does_not_take_what_was_made_otherwise_for_its_own(
    launcher, tmp_path, capsys, monkeypatch
):
    """The runs that are there are of other code, and the array's elements refuse to go on with them."""
    launcher("1,2")
    monkeypatch.setattr(sweep_grid, "source_digest", lambda path: "edited")
    launcher("1,2,3", slurm=str(tmp_path / "job.sh"))
    capsys.readouterr()
    (tmp_path / "s" / "mended").touch()
    launcher("1,2,3")
    assert "3 runs in" in (out := capsys.readouterr().out)
    assert "0 of them finished" in out
    assert [trained(tmp_path, lr) for lr in (1, 2, 3)] == [2, 2, 1]


def test_the_runs_of_one_array_job_are_not_taken_for_those_of_another(
    launcher, tmp_path, capsys, monkeypatch
):
    """Of two jobs with other settings that were written before either had run, the table of the second had the
    numbers of the first."""
    monkeypatch.chdir(tmp_path)
    launcher("1,2", slurm="first.sh")
    with monkeypatch.context() as patch:
        patch.setattr(sweep_grid, "source_digest", lambda path: "edited")
        launcher("1,2", slurm="second.sh")
    for number in range(2):
        subprocess.run(
            ["bash", "first.sh"], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number)}, check=True
        )
    capsys.readouterr()
    launcher("1,2")
    assert "2 of them finished" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(sweep_grid, "source_digest", lambda path: "edited")
        launcher("1,2")
    assert "0 of them finished" in capsys.readouterr().out
    launcher("1,2")
    assert "0 of them finished" in capsys.readouterr().out, "they were made again since"


def test_a_file_that_cannot_be_written_and_no_jobs_are_said(launcher, tmp_path):
    with pytest.raises(UsageError, match="cannot write"):
        launcher("1", slurm=str(tmp_path / "none" / "job.sh"))
    with pytest.raises(UsageError, match="--jobs is 1 or more, got 0"):
        launcher("1", jobs=0)


def test_a_log_that_cannot_be_written_ends_the_sweep_with_its_runs(launcher, tmp_path):
    """The run beside it went on by itself, and in the way of the same command."""
    (tmp_path / "s" / "lr=5.log").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot write .*lr=5\.log"):
        launcher("4,1,5")
    assert (tmp_path / "s" / "lr=4" / "saved").exists()


def test_another_sweep_of_the_directory_loses_no_record(tmp_path, monkeypatch):
    """The runs of the one before were evaluated again, which may take hours each."""

    def start(root, name, arguments, jobs):
        (root / name).mkdir(exist_ok=True)
        (root / name / "evaluation.json").write_text('{"checkpoints": [{"step": 8}]}')
        (root / name / "config.json").write_text('{"config": {"rounds": 8}}')
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(sweeping, "_start", start)
    monkeypatch.setattr(sweeping, "_POLL_SECONDS", 0.01)
    sweeps = [sweep_grid.grid(["launch.py"], fields) for fields in ({"lr": ("1", "2")}, {"seed": ("0",)})]
    for points in sweeps:
        assert sweeping._run_all(tmp_path, points, 1, types.SimpleNamespace(by=None)) == []
    assert [list(sweep_files.finished(tmp_path, points)) for points in sweeps] == [
        ["lr=1", "lr=2"],
        ["seed=0"],
    ]
