"""The script for a card, on a CPU in small: every stage gives its numbers, and a stage that fails is named."""

import json
import sys
import time

import pytest

from benchmarks import accelerator, accelerator_stages


def test_a_stage_that_fails_or_takes_too_long_is_reported(tmp_path, monkeypatch):
    ended = iter(
        (
            accelerator.Ended(1, "", "Traceback\nValueError: no such card"),
            accelerator.Ended(None, '{"first game": 1.5}\n{"first game": 1.5, "sec', ""),
            accelerator.Ended(None, "", ""),
        )
    )
    monkeypatch.setattr(accelerator, "finished", lambda command, **options: next(ended))

    def stage():
        return accelerator.run_stage("toys", seconds=5, small=True, folder=tmp_path)

    assert stage()["failed"] == "ValueError: no such card"
    assert stage() == {"first game": 1.5, "failed": "it took more than 5 s"}
    assert stage() == {"failed": "it took more than 5 s"}


def test_a_command_that_takes_too_long_ends_with_what_it_started():
    """Without its children, which hold its output open, the call would wait for them."""
    child = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '30'])"
    began = time.monotonic()
    ended = accelerator.finished([sys.executable, "-c", child], seconds=1.0)
    assert time.monotonic() - began < 10
    assert ended == (None, "begun\n", "")
    assert accelerator.finished([sys.executable, "-c", "print(2); exit(3)"], seconds=30) == (3, "2\n", "")


def test_what_it_writes_after_every_stage(tmp_path, monkeypatch):
    """Stages keep what an earlier run of the script found; what no time is left for is skipped."""
    seen = []

    def run_stage(name, *, seconds, small, folder):
        path = tmp_path / "accelerator-h100-small.json"
        seen.append(sorted(json.loads(path.read_text())["stages"]) if path.is_file() else [])
        return {"kind": "H100"} if name == "card" else {"ratio": 2.0}

    monkeypatch.setattr(accelerator, "run_stage", run_stage)

    def launch(*flags):
        monkeypatch.setattr(sys, "argv", ["accelerator", f"--out={tmp_path}", "--small", *flags])
        with pytest.raises(SystemExit) as ended:
            accelerator.main()
        return ended.value.code

    assert launch("--stages=memory,toys") == 0
    assert seen == [[], [], ["memory"]]
    assert launch("--stages=rates", "--minutes=0") == 0
    stored = json.loads((tmp_path / "accelerator-h100-small.json").read_text())
    assert stored["card"] == {"kind": "H100"}
    assert stored["stages"]["toys"] == {"ratio": 2.0}
    assert stored["stages"]["rates"] == {"skipped": "no time was left of 0 minutes"}
    assert launch("--stages=torchh") == 2


def test_parity_without_the_cpus_values_says_how_to_make_them(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"accelerator_stages reference --small --folder FOLDER`, and give"
    ):
        accelerator_stages.parity(True, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"accelerator_stages reference --folder FOLDER`, and give"):
        accelerator_stages.parity(False, tmp_path)


@pytest.mark.slow
def test_every_stage_runs_on_a_cpu_in_small(tmp_path):
    reference = accelerator.run_stage("reference", seconds=600, small=True, folder=tmp_path)
    assert "failed" not in reference, reference
    found = {
        name: accelerator.run_stage(name, seconds=900, small=True, folder=tmp_path)
        for name in accelerator.LIMITS
    }
    assert not {name: stage["failed"] for name, stage in found.items() if "failed" in stage}
    assert found["determinism"]["launches"]
    assert found["determinism"]["resumed"]
    parity = {name: value for name, value in found["parity"].items() if name.endswith(("gradient", "rounds"))}
    assert max(parity.values()) < 1e-5
