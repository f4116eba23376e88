import subprocess
import sys

import ml_collections
import numpy as np
import pytest

from gan_jax.runs.config import check_config, differences, jsonable, read_config, write_config
from gan_jax.runs.workdir import Workdir, WorkdirError


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def test_a_configuration_comes_back_with_versions(workdir):
    config = ml_collections.ConfigDict({"lr": 2e-4, "betas": (0.5, 0.9), "net": {"width": 64}, "y": None})
    write_config(workdir, config, experiment="experiments/ring.py")
    saved = read_config(workdir)
    assert saved.config == {"lr": 2e-4, "betas": [0.5, 0.9], "net": {"width": 64}, "y": None}
    assert saved.experiment == "experiments/ring.py"
    assert saved.versions["numpy"] == np.__version__
    assert saved.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert differences(saved.config, config) == []


def test_the_commit_is_gits_own(workdir, tmp_path):
    def git(*words):
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert write_config(workdir, {}, source="/").commit is None
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert write_config(workdir, {}, source=tmp_path).commit == head
    (tmp_path / "file").write_text("two")
    assert write_config(workdir, {}, source=tmp_path).commit == head + "-dirty"


def test_what_json_cannot_hold_is_named():
    with pytest.raises(WorkdirError, match=r"config\.net\.act is a function"):
        jsonable({"net": {"act": lambda x: x}})
    assert jsonable({"a": np.float32(0.5), "b": np.int64(3), 4: float("inf")}) == {
        "a": 0.5,
        "b": 3,
        "4": "Infinity",
    }


def test_differences_by_name_and_what_may_always_change():
    saved = {
        "seed": 1,
        "rounds": 5,
        "log_every": 1,
        "net": {"width": 64, "save_every": 9},
        "flag": True,
        "x": 1,
    }
    new = {"seed": 2, "rounds": 9, "log_every": 7, "net": {"width": 32, "save_every": 1}, "flag": 1, "y": "z"}
    assert differences(saved, new) == [
        "flag: true in the work directory, 1 now",
        "net.width: 64 in the work directory, 32 now",
        "seed: 1 in the work directory, 2 now",
        "x: 1 in the work directory, absent now",
        'y: absent in the work directory, "z" now',
    ]
    assert len(differences(saved, new, may_change=("seed", "net.width"))) == 3
    assert differences({"a": 1.0, "b": (1, 2)}, {"a": 1, "b": [1, 2]}) == []


def test_a_changed_configuration_is_refused_unless_overridden(workdir):
    assert check_config(workdir, {"lr": 1}) == []  # a new directory
    write_config(workdir, {"lr": 1, "rounds": 10})
    assert check_config(workdir, {"lr": 1, "rounds": 20}) == []
    with pytest.raises(WorkdirError, match=r"lr: 1 in the work directory, 2 now.*--override"):
        check_config(workdir, {"lr": 2, "rounds": 20})
    assert check_config(workdir, {"lr": 2, "rounds": 20}, override=True) == [
        "lr: 1 in the work directory, 2 now"
    ]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'"x"', b"\xff\xfe", b"[" * 20000, b'{"config": 1, "versions": {}}']
)
def test_a_damaged_configuration_is_one_clear_line(workdir, content):
    workdir.root.mkdir(parents=True)
    workdir.config.write_bytes(content)
    with pytest.raises(WorkdirError, match=r"config\.json is damaged") as raised:
        read_config(workdir)
    assert "\n" not in str(raised.value)


def test_no_run_there(workdir):
    with pytest.raises(WorkdirError, match="does not exist"):
        read_config(workdir)
    workdir.root.mkdir(parents=True)
    with pytest.raises(WorkdirError, match="holds no run"):
        read_config(workdir)
