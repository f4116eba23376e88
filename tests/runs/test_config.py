import hashlib
import json
import subprocess
import sys
import types

import jax
import ml_collections
import numpy as np
import pytest

from experiments import images
from gan_jax.cli.building import build_seeds
from gan_jax.cli.loading import load_model
from gan_jax.data import from_arrays
from gan_jax.data.arrays import load_digits
from gan_jax.data.stream import array_reader, from_reader
from gan_jax.data.subsample import subsample
from gan_jax.runs import config
from gan_jax.runs.config import check_config, differences, jsonable, read_config, write_config
from gan_jax.runs.provenance import (
    data_fingerprint,
    examples_fingerprint,
    git_commit,
    library_versions,
    modules_beside,
    source_digest,
)
from gan_jax.runs.workdir import Workdir, WorkdirError
from gan_jax.training.experiment import load_module


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def test_a_configuration_comes_back_with_versions(workdir):
    asked = ml_collections.ConfigDict({"lr": 2e-4, "betas": (0.5, 0.9), "net": {"width": 64}, "y": None})
    write_config(workdir, asked, experiment="experiments/ring.py")
    saved = read_config(workdir)
    assert saved.config == {"lr": 2e-4, "betas": [0.5, 0.9], "net": {"width": 64}, "y": None}
    assert saved.experiment == "experiments/ring.py"
    assert saved.versions["numpy"] == np.__version__
    assert saved.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert differences(saved.config, asked) == []


def test_the_commit_is_that_of_the_code(tmp_path, monkeypatch):
    """Not of the directory that a launch begins in, nor of the tree that an untracked file lies in."""

    def git(*words):
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    (tmp_path / "installed").write_text("by somebody else")
    git("add", "file")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert git_commit(tmp_path / "file") == head
    assert git_commit(tmp_path / "installed") is None
    here = git_commit()
    monkeypatch.chdir(tmp_path)
    assert git_commit() == here != head
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path / "file") == head + "-dirty"
    assert git_commit("/nowhere/file") is None


CODE = '''"""A module."""
import os  # for paths


def build(config):
    """Builds."""
    é = "é"; prior = "gaussian"  # the prior
    return prior
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("gaussian", "uniform", False),
        ("return prior", "return  prior", False),
        ("A module.", "Another text\n# with two lines.", True),
        ('"""Builds."""', "'Builds it.'", True),
        ("  # the prior", "", True),
        ("\n\n\n", "\n", True),
        ('"gaussian"', '"#gaussian"', False),
    ],
)
def test_an_experiments_code_is_compared_and_not_its_texts(tmp_path, before, after, same):
    assert before in CODE
    (tmp_path / "a.py").write_text(CODE)
    (tmp_path / "b.py").write_text(CODE.replace(before, after, 1))
    assert (source_digest(tmp_path / "a.py") == source_digest(tmp_path / "b.py")) == same


@pytest.mark.parametrize("separator", ["\f", "\v", "\x1c", "\x85", "\u2028"])
def test_lines_are_those_of_python(tmp_path, separator):
    """Form feeds and the like end no line of Python: texts are cut where they are, and code is compared whole."""
    code = f'PLACE = "a{separator}b"\n{separator if separator == chr(12) else ""}\n\ndef rate():\n    """Text."""\n'
    code += "    return 0.1  # small\n"

    def digest(text):
        (tmp_path / "a.py").write_text(text, encoding="utf-8", newline="")
        return source_digest(tmp_path / "a.py")

    assert digest(code) == digest(code.replace("Text.", "Another.")) == digest(code.replace("small", "tiny"))
    assert len({digest(code), digest(code.replace("0.1", "0.2")), digest(code.replace(separator, "\t"))}) == 3


@pytest.mark.parametrize("text", ["a\n\nb", "a \nb", "a\n b", "a\n\n\nb"])
def test_spaces_and_blank_lines_of_a_string_are_code(tmp_path, text):
    for name, content in (("a", "a\nb"), ("b", text)):
        (tmp_path / f"{name}.py").write_text(f'WORDS = """{content}"""\n')
    assert source_digest(tmp_path / "a.py") != source_digest(tmp_path / "b.py")


def test_a_file_is_decoded_as_python_decodes_it(tmp_path):
    (tmp_path / "mark.py").write_bytes(b"\xef\xbb\xbfX = 1\n")
    (tmp_path / "plain.py").write_bytes(b"X = 1\n")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nX = 1  # \xe9\n")
    assert len({source_digest(tmp_path / f"{name}.py") for name in ("mark", "plain", "latin")}) == 1
    assert modules_beside(tmp_path / "latin.py") == {}


def test_modules_that_an_experiment_imports_from_beside_it_are_of_its_code(tmp_path, monkeypatch):
    """Also through others, from packages and in functions; not what comes from elsewhere or is not imported."""
    folder = tmp_path / "lab"
    (folder / "nets" / "deep").mkdir(parents=True)
    files = {
        "exp.py": "import losses\nfrom nets import deep\nimport json, numpy\ndef f():\n    import lazy\n",
        "losses.py": "from lab.common import x",
        "common.py": "x = 1",
        "lazy.py": "import exp",
        "json.py": "raise ValueError('this is not what was imported')",
        "unused.py": "import common",
        "nets/__init__.py": "",
        "nets/deep/__init__.py": "from .layers import conv\nfrom ..flat import mlp",
        "nets/deep/layers.py": "conv = 1",
        "nets/flat.py": "mlp = 1",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    found = modules_beside(folder / "exp.py")
    expected = ["common.py", "lazy.py", "losses.py", "nets/__init__.py", "nets/deep/__init__.py"]
    assert list(found) == [*expected, "nets/deep/layers.py", "nets/flat.py"]
    assert found["common.py"] == source_digest(folder / "common.py")
    monkeypatch.chdir(folder)
    assert modules_beside("exp.py") == found
    (folder / "nets" / "flat.py").write_text("mlp = 2")
    assert {name for name, digest in modules_beside("exp.py").items() if digest != found[name]} == {
        "nets/flat.py"
    }


def test_an_experiment_imports_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_it_only.py").write_text("VALUE = 7")
    (tmp_path / "exp.py").write_text(
        "from beside_it_only import VALUE\ndef get_config(): return VALUE\ndef build(config): return config\n"
    )
    assert load_module(tmp_path / "exp.py").get_config() == 7
    sys.path.remove(str(tmp_path))


def test_data_are_known_by_their_content():
    digits = load_digits()["x"]
    white = np.full((100, 28, 28, 1), 255, np.uint8)
    found = [data_fingerprint(from_arrays({"x": x}, 16)) for x in (digits, digits.copy(), white)]
    expected = "uint8[1797, 8, 8, 1] sha256:" + hashlib.sha256(digits.tobytes()).hexdigest()
    assert found[0] == found[1] == {"all.x": expected}
    assert found[2]["all.x"].startswith("uint8[100, 28, 28, 1] sha256:")
    streams = [
        data_fingerprint(from_reader(array_reader({"x": x}), len(x), 16)) for x in (digits, 255 - digits)
    ]
    assert streams[0].keys() == {"x (of 1797 examples)"}
    assert streams[0] != streams[1]


def test_what_was_held_out_and_the_data_of_extra_seeds_identify_a_run_too(workdir, tmp_path):
    """What seed 0 held out seed 1 is trained on: such images could be replaced without a word."""
    path, x = tmp_path / "images.npz", load_digits()["x"][:100].copy()
    fields = {"data": str(path), "network": "dcgan", "width": 4, "latent": 4, "batch_size": 8}
    asked = images.get_config()
    asked.update({**fields, "held_out": 0.2, "seeds": 2})
    asked = images.resolve(asked)
    request = types.SimpleNamespace(experiment=images.__file__, prepare=False)

    def fingerprint(x):
        np.savez(path, x=x)
        return examples_fingerprint(build_seeds(request, asked))

    found = fingerprint(x)
    assert list(found) == ["all.x", "held out: x", "of seed 1: all.x", "of seed 1: held out: x"]
    write_config(workdir, asked, data=found)
    assert check_config(workdir, asked, data=fingerprint(x)) == []
    first, second = (set(subsample(100, 80, seed=seed)) for seed in (0, 1))
    x[sorted(second - first)] = 255
    changed = fingerprint(x)
    assert changed["all.x"] == found["all.x"]
    with pytest.raises(
        WorkdirError, match=r"the data held out: x: .* the data of seed 1: all\.x: .*--override"
    ):
        check_config(workdir, asked, data=changed)
    # Runs of before, and readers of a single seed, have no such marks.
    assert check_config(workdir, asked, data={"all.x": found["all.x"]}) == []
    write_config(workdir, asked, data={"all.x": found["all.x"]})
    assert check_config(workdir, asked, data=changed) == []


def test_other_data_and_another_experiment_are_refused_unless_overridden(workdir):
    write_config(
        workdir,
        {},
        experiment="a.py",
        source="1" * 64,
        modules={"nets.py": "3" * 64, "gone.py": "4" * 64},
        data={"x": "uint8[9] sha256:" + "a" * 64},
    )
    changed = {
        "source": "2" * 64,
        "modules": {"nets.py": "5" * 64},
        "data": {"x": "uint8[9] sha256:" + "b" * 64, "y": "int32[9]"},
    }
    with pytest.raises(WorkdirError) as raised:
        check_config(workdir, {}, **changed)
    message = str(raised.value)
    for expected in (
        "the experiment's code: a.py sha256:111111111111 in the work directory, sha256:222222222222 now",
        "the experiment's module nets.py: sha256:333333333333 in the work directory, sha256:555555555555 now",
        "the experiment's module gone.py: sha256:444444444444 in the work directory, absent now",
        "the data x: uint8[9] sha256:aaaaaaaaaaaa in the work directory, uint8[9] sha256:bbbbbbbbbbbb now",
        "the data y: absent in the work directory, int32[9] now",
    ):
        assert expected in message
    assert len(check_config(workdir, {}, **changed, override=True)) == 5
    assert check_config(workdir, {}) == [], "what is not known is not compared"


def test_every_launch_that_changes_something_stays_on_record(workdir, monkeypatch):
    """A library's version or a commit is no reason to refuse; it is reported in one line."""
    assert write_config(workdir, {}) == ""
    assert write_config(workdir, {}, step=10) == ""
    monkeypatch.setattr(config, "library_versions", lambda: {**library_versions(), "optax": "9.9"})
    monkeypatch.setattr(config, "git_commit", lambda: "abc")
    assert check_config(workdir, {}) == []
    message = write_config(workdir, {}, step=20)
    assert f"optax {library_versions()['optax']} -> 9.9" in message
    assert message.endswith("-> abc")
    write_config(workdir, {}, step=30, overridden=["lr: 1 in the work directory, 2 now"])
    saved = read_config(workdir)
    assert [launch.step for launch in saved.launches] == [0, 20, 30]
    assert saved.versions == saved.launches[0].versions == library_versions()
    assert saved.commit == git_commit()
    assert saved.launches[2].overridden == ["lr: 1 in the work directory, 2 now"]


def test_a_change_applies_from_the_earlier_checkpoint_that_a_run_goes_on_from(workdir):
    """Rounds 5 to 20 were played again with what was changed at 20, so a state of round 10 was trained with it."""
    write_config(workdir, {})
    write_config(workdir, {}, step=20, overridden=["lr: 1 in the work directory, 2 now"])
    assert len(config.overridden_after(read_config(workdir), 10)) == 1
    write_config(workdir, {}, step=5)
    saved = read_config(workdir)
    assert [launch.step for launch in saved.launches] == [0, 5]
    assert config.overridden_after(saved, 10) == []
    write_config(workdir, {}, step=30)
    assert [launch.step for launch in read_config(workdir).launches] == [0, 5]


def test_another_device_or_precision_is_reported_and_stays_on_record(workdir, monkeypatch):
    """A run may go on elsewhere; its numbers then agree to rounding only."""
    assert write_config(workdir, {}) == ""
    assert read_config(workdir).computation == {
        "platform": "cpu",
        "device": "cpu",
        "matmul_precision": "default",
        "prng": "threefry2x32",
    }
    assert write_config(workdir, {}, step=10, precision="highest") == "matmul_precision default -> highest"
    there = {
        "platform": "gpu",
        "device": "NVIDIA H100",
        "matmul_precision": "highest",
        "prng": "threefry2x32",
    }
    monkeypatch.setattr(config, "computed_by", lambda precision: there)
    assert write_config(workdir, {}, step=20) == "platform cpu -> gpu, device cpu -> NVIDIA H100"
    saved = read_config(workdir)
    assert [launch.computation["platform"] for launch in saved.launches] == ["cpu", "cpu", "gpu"]
    assert saved.computation == saved.launches[0].computation


def test_another_way_to_draw_random_numbers_is_reported(workdir):
    """`JAX_THREEFRY_PARTITIONABLE=0` draws other numbers from the same keys."""
    write_config(workdir, {})
    with jax.threefry_partitionable(False):
        said = write_config(workdir, {}, step=10)
    assert said == "prng threefry2x32 -> threefry2x32, not partitionable"


def test_another_number_of_replicas_is_reported(workdir):
    """Under pmap each replica draws for itself, so that other numbers of them draw otherwise."""
    assert write_config(workdir, {}, replicas=8) == ""
    assert write_config(workdir, {}, step=10, replicas=8) == ""
    assert write_config(workdir, {}, step=20, replicas=4) == "replicas 8 -> 4"


def test_another_version_of_this_package_is_refused_unless_overridden(workdir, monkeypatch):
    write_config(workdir, {})
    here = library_versions()["gan_jax"]
    monkeypatch.setattr(config, "library_versions", lambda: {**library_versions(), "gan_jax": "9.9"})
    with pytest.raises(WorkdirError, match=f"the version of gan_jax: {here} in the work directory, 9.9 now"):
        check_config(workdir, {})
    overridden = check_config(workdir, {}, override=True)
    write_config(workdir, {}, step=10, overridden=overridden)
    assert check_config(workdir, {}) == [], "the launch before was of this version"


def test_a_configuration_of_before_launches_were_recorded_is_read(workdir):
    workdir.root.mkdir(parents=True)
    old = {"config": {"lr": 1}, "experiment": "ring.py", "versions": {"jax": "0.1"}, "commit": None}
    workdir.config.write_text(json.dumps(old))
    assert check_config(workdir, {"lr": 1}, source="1" * 64, data={"x": "a"}) == []
    assert "jax 0.1 -> " in write_config(workdir, {"lr": 1}, step=7)
    assert [launch.step for launch in read_config(workdir).launches] == [0, 7]


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
        "net": {"width": 64, "sample_every": 9, "penalty_every": 4},
        "flag": True,
        "x": 1,
    }
    new = {
        "seed": 2,
        "rounds": 9,
        "log_every": 7,
        "net": {"width": 32, "sample_every": 1, "penalty_every": 5},
        "flag": 1,
        "y": "z",
    }
    assert differences(saved, new) == [
        "flag: true in the work directory, 1 now",
        "net.penalty_every: 4 in the work directory, 5 now",
        "net.width: 64 in the work directory, 32 now",
        "seed: 1 in the work directory, 2 now",
        "x: 1 in the work directory, absent now",
        'y: absent in the work directory, "z" now',
    ]
    assert len(differences(saved, new, may_change=("seed", "net.width"))) == 4
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


GOOD = {"config": {}, "experiment": "", "versions": {}, "commit": None}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'"x"',
        b"\xff\xfe",
        b"[" * 20000,
        *(
            json.dumps({**GOOD, **wrong}).encode()
            for wrong in (
                {"config": 1},
                {"experiment": 3},
                {"versions": {"jax": 3}},
                {"commit": []},
                {"data": ["x"]},
                {"source": None},
                {"modules": ["nets.py"]},
                {"launches": [3]},
                {"launches": [{"step": "x", "time": "", "versions": {}, "commit": None}]},
            )
        ),
    ],
)
def test_a_damaged_configuration_is_one_clear_line(workdir, content):
    workdir.root.mkdir(parents=True)
    workdir.config.write_bytes(content)
    with pytest.raises(WorkdirError, match=r"config\.json is damaged") as raised:
        read_config(workdir)
    assert "\n" not in str(raised.value)


def test_an_export_is_not_called_an_empty_directory(workdir):
    workdir.root.mkdir(parents=True)
    with pytest.raises(WorkdirError, match="holds no run"):
        read_config(workdir)
    workdir.exported.write_text("{}")
    with pytest.raises(
        WorkdirError, match=r"holds an export and no run: .* --mode=sample with --sample_seeds"
    ):
        read_config(workdir)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({**GOOD, "licence": "MIT"}, "'licence'"),
        ({**GOOD, "launches": [{"step": 1, "cost": 1.0}, {"step": 2, "cost": 2.0}]}, "'cost'"),
    ],
)
def test_a_configuration_of_a_newer_version_is_not_called_damaged(workdir, content, named):
    workdir.root.mkdir(parents=True)
    workdir.config.write_text(json.dumps(content))
    with pytest.raises(WorkdirError, match=f"by a newer version of gan_jax, .* does not know its {named}\\."):
        read_config(workdir)


def test_a_function_that_a_configuration_names_is_not_imported(tmp_path, workdir):
    """`function:runs.shop.evil.f` is a file of the work directory where that lies below Python's path."""
    fields = ml_collections.ConfigDict(
        {"features": "", "nested": {"features": "function:a.b"}, "all": ("x",)}
    )
    for saved, named in (
        ({"features": "function:runs.shop.evil.f"}, "features"),
        ({"nested": {"features": "function:runs.shop.evil.f"}}, "nested.features"),
        ({"all": ["x", "function:runs.shop.evil.f"]}, "all"),
    ):
        with pytest.raises(
            WorkdirError, match=f"names code, {named}='function:runs.shop.evil.f'.*--config.{named}="
        ):
            config.take_saved(fields.copy_and_resolve_references(), saved, (), workdir)
        config.take_saved(fields.copy_and_resolve_references(), saved, (named,), workdir)
    config.take_saved(fields, {"nested": {"features": "function:a.b"}}, (), workdir)  # the experiment's own
    assert fields.nested.features == "function:a.b"


def test_looking_at_a_work_directory_imports_nothing_of_it(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "shop"
    run.mkdir(parents=True)
    (run / "evil.py").write_text("raise SystemExit('run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    fields = images.get_config()
    fields.update({"data": "digits", "objective": "hinge", "network": "dcgan", "width": 4})
    fields.critic_features = "function:runs.shop.evil.f"
    write_config(Workdir(run), fields, experiment="experiments/images.py")
    with pytest.raises(WorkdirError, match=r"names code, critic_features='function:runs\.shop\.evil\.f'"):
        load_model(run)


def test_no_run_there(workdir):
    with pytest.raises(WorkdirError, match="does not exist"):
        read_config(workdir)
    workdir.root.mkdir(parents=True)
    with pytest.raises(WorkdirError, match="holds no run"):
        read_config(workdir)


def test_the_names_of_classes_are_kept(tmp_path):
    """A file from before they were kept has none; anything but texts is damage."""
    workdir = Workdir(tmp_path)
    config.write_config(workdir, {"rounds": 3}, classes=("boot", "dress"))
    assert config.read_config(workdir).classes == ["boot", "dress"]
    content = json.loads(workdir.config.read_text())
    del content["classes"]
    workdir.config.write_text(json.dumps(content))
    assert config.read_config(workdir).classes == []
    workdir.config.write_text(json.dumps({**content, "classes": [3]}))
    with pytest.raises(WorkdirError, match="its classes is of another type"):
        config.read_config(workdir)


@pytest.mark.parametrize("value", [None, "x", [1], {"a": 1}, True])
def test_a_value_of_another_type_than_the_experiments_is_refused(workdir, value):
    """`null` too: of the field of an experiment that has a value there."""
    for now in (3, 0.5, (1, 2)):
        if now == (1, 2) and value == [1]:
            continue
        fields = ml_collections.ConfigDict({"width": now})
        with pytest.raises(
            WorkdirError, match=r"config\.json is damaged: width is .*, and the experiment has a"
        ):
            config.take_saved(fields, {"width": value}, (), workdir)
        assert fields.width == now
    unset = ml_collections.ConfigDict({"width": ml_collections.config_dict.placeholder(int)})
    config.take_saved(unset, {"width": None}, (), workdir)
    assert unset.width is None
