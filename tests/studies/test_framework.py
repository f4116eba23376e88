"""Studies: what a claim is, that runs resume seed by seed, that a failed claim is an exit code, that stored results
hold what they claim."""

import dataclasses
import math
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from experiments import studies
from experiments.studies import __main__ as command
from experiments.studies.framework import gallery, provenance, running
from experiments.studies.framework.image_text import as_text, from_text
from experiments.studies.framework.study import Claim, Study, judge
from gan_jax.pictures import curves, figure
from tests.tiers import full_except

DOC = """A study of numbers.

Claims:
- The number is at least 3, which takes
  two lines to say.
- The number is at most 10.

It is a number.

    python -m experiments.studies numbers        # no time
"""


def study_of(cases, claims, doc=DOC, seeds=3):
    return Study(
        module=__name__,
        doc=doc,
        place=1,
        cases=cases,
        claims=claims,
        figure=lambda results: figure(curves({"x": ([0, 1], [0, 1])}, x_label="x", y_label="y"), width=2.0),
        seeds=seeds,
    )


def number(result):
    return result["case"]["x"]


CLAIMS = (Claim(effect=number, at_least=3.0, quick=1.0), Claim(effect=number, at_most=10.0))


def results(*values):
    return [{"case": {"x": value}} for value in values]


def test_claims_are_read_off_the_docstring():
    study = study_of({"case": lambda seed, quick: {}}, CLAIMS)
    assert study.title == "A study of numbers"
    assert study.texts == [
        "The number is at least 3, which takes two lines to say.",
        "The number is at most 10.",
    ]
    with pytest.raises(ValueError, match=r"2 claims.*and the study 1"):
        study_of({}, CLAIMS[:1])


def test_the_near_end_of_the_interval_is_held_against_the_bound():
    study = study_of({}, CLAIMS)
    low, high = judge(study, results(4.0, 5.0, 6.0))
    assert not low.holds  # the mean is 5, but the interval begins at 5 - 2.48
    assert low.margin == pytest.approx(5 - 4.30265 / 3**0.5 - 3, rel=1e-5)
    assert high.holds
    assert judge(study, results(4.9, 5.0, 5.1))[0].holds
    assert not judge(study, results(5.0))[0].holds  # a single seed has no interval


def test_every_seed_asks_the_worst_one():
    study = study_of({}, [dataclasses.replace(claim, every_seed=True) for claim in CLAIMS])
    assert all(verdict.holds for verdict in judge(study, results(3.0, 10.0)))
    low, high = judge(study, results(2.5, 5.0, 10.5))
    assert (low.margin, high.margin) == (-0.5, -0.5)


def test_quick_asks_less_and_leaves_claims_out():
    study = study_of({}, CLAIMS)
    (only,) = judge(study, results(2.0), quick=True)
    assert only.holds
    assert only.bound == 1.0


def test_a_number_that_is_none_fails():
    study = study_of({}, CLAIMS)
    assert [verdict.margin for verdict in judge(study, results(float("nan")), quick=True)] == [-math.inf]


def test_a_claim_that_does_not_reproduce_is_missed_and_fails_nothing():
    study = study_of({}, [dataclasses.replace(CLAIMS[0], quick=None, reproduces=False), CLAIMS[1]])
    missed, held = judge(study, results(2.0, 2.1, 2.2))
    assert (missed.holds, missed.fails, held.holds) == (False, False, True)
    assert judge(study, results(2.0), quick=True) == []
    assert command.line(missed).startswith("does not hold  The number is at least 3")
    with pytest.raises(ValueError, match="not made by --quick"):
        Claim(effect=number, at_least=3.0, quick=1.0, reproduces=False)


@pytest.mark.parametrize(
    "bounds",
    [{}, {"at_least": 1.0, "at_most": 2.0}, {"at_least": 1.0, "quick": 2.0}, {"at_most": 1.0, "quick": 0.5}],
)
def test_claims_that_make_no_sense(bounds):
    with pytest.raises(ValueError, match=r"one of at_least and at_most|less loose"):
        Claim(effect=number, **bounds)


def run(study, folder, jobs=1, **options):
    ((_, found),) = running.finished([running.Run(study, folder, **options)], jobs)
    return found


def test_a_run_is_taken_up_where_it_broke_off(tmp_path, capsys):
    """A case that fails at the third seed: the first two are not computed again."""
    calls = []

    def case(seed, quick):
        calls.append(seed)
        if seed == 2 and calls.count(2) == 1:
            raise KeyboardInterrupt
        return {"x": 5.0 + 0.1 * seed}

    study = study_of({"case": case}, CLAIMS)
    options = {"quick": False, "seeds": None, "fresh": False}
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path, **options)
    found = run(study, tmp_path, **options)
    assert calls == [0, 1, 2, 2]
    assert found[0].by_seed == (5.0, 5.1, 5.2)
    assert (tmp_path / "test_framework.png").read_bytes().startswith(b"\x89PNG")
    run(study, tmp_path, **{**options, "fresh": True, "seeds": 1})
    assert calls == [0, 1, 2, 2, 0]
    assert capsys.readouterr().out.count("seed 0, case") == 2


def test_numbers_of_another_version_that_lack_something_are_named(tmp_path, capsys):
    study = study_of({"case": lambda seed, quick: {"x": 5.0}}, CLAIMS, seeds=1)
    options = {"quick": False, "seeds": None, "fresh": False}
    stored = {
        "launches": {"before": {"code": "another"}},
        "runs": {"0": {"case": {"numbers": {"y": 5.0}, "launch": "before"}}},
    }
    running.write(tmp_path / "test_framework.json", stored)
    with pytest.raises(SystemExit, match="cannot judge the stored numbers: add --fresh"):
        run(study, tmp_path, **options)
    assert "1 of 1 results are older than the code; --fresh computes" in capsys.readouterr().err
    assert run(study, tmp_path, **{**options, "fresh": True})[0].by_seed == (5.0,)
    # Of its own version, numbers that are not there are a mistake of the study.
    stored["launches"]["before"]["code"] = provenance.digest(study.module)
    running.write(tmp_path / "test_framework.json", stored)
    with pytest.raises(KeyError):
        run(study, tmp_path, **options)


def where(seed, quick):
    """Which process computes, and on which cores; slow enough that both processes are needed."""
    time.sleep(1.0)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {"x": 5.0 + 0.1 * seed, "process": os.getpid(), "cores": cores}


STUDY = study_of({"case": where}, CLAIMS, seeds=4)


@pytest.mark.full
def test_cases_are_shared_by_processes(tmp_path):
    """Four cases, the second stored: two new processes compute the others, each on its own part of the cores."""
    path = tmp_path / "test_framework.json"
    running.write(path, {"runs": {"1": {"case": {"numbers": {"x": 5.1}}}}})
    found = run(STUDY, tmp_path, quick=False, seeds=None, fresh=False, jobs=2)
    assert found[0].by_seed == (5.0, 5.1, 5.2, 5.3)
    runs = running.read(path)["runs"]
    computed = [runs[str(seed)]["case"]["numbers"] for seed in (0, 2, 3)]
    cores = {numbers["process"]: set(numbers["cores"]) for numbers in computed}
    assert len(cores) == 2
    assert os.getpid() not in cores
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1:
        assert not set.intersection(*cores.values())
        assert set.union(*cores.values()) == os.sched_getaffinity(0)
    assert runs["1"]["case"] == {"numbers": {"x": 5.1}}


def test_numbers_survive_the_file(tmp_path):
    numbers = {
        "a": np.float32(0.1),
        "b": np.array([[1, 2], [3, 4]]),
        "c": math.inf,
        "d": [math.nan, "text", True, None],
    }
    running.write(tmp_path / "x.json", {"runs": running.plain(numbers)})
    read = running.revived(running.read(tmp_path / "x.json")["runs"])
    assert read["a"] == 0.1
    assert read["b"] == [[1, 2], [3, 4]]
    assert read["c"] == math.inf
    assert math.isnan(read["d"][0])
    assert read["d"][1:] == ["text", True, None]


@pytest.mark.parametrize(("value", "code", "word"), [(5.0, 0, "holds"), (2.0, 1, "missed by 1")])
def test_a_claim_that_fails_is_an_exit_code(tmp_path, monkeypatch, capsys, value, code, word):
    study = study_of({"case": lambda seed, quick: {"x": value}}, CLAIMS)
    monkeypatch.setattr(studies, "names", lambda: ["numbers"])
    monkeypatch.setattr(studies, "load", lambda name, changed=None: study)
    monkeypatch.setattr(command, "keep_compiled_programs", lambda: None)
    assert command.main(["numbers", "--jobs=1", "--results", str(tmp_path)]) == code
    assert word in capsys.readouterr().out
    assert command.main(["--claims", "--results", str(tmp_path)]) == 0
    assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ending", "content"), [("png", "a figure"), ("json", '{"mine": 1}'), ("json", "text")]
)
def test_files_of_somebody_else_are_not_replaced(tmp_path, monkeypatch, capsys, ending, content):
    """A folder of figures as `--results`: one by the name of a study was replaced without a word."""
    study = study_of({"case": lambda seed, quick: {"x": 5.0}}, CLAIMS)
    name = f"{study.name}.{ending}"
    monkeypatch.setattr(studies, "names", lambda: ["numbers"])
    monkeypatch.setattr(studies, "load", lambda name, changed=None: study)
    monkeypatch.setattr(command, "keep_compiled_programs", lambda: None)
    (tmp_path / name).write_text(content)
    assert command.main(["numbers", "--jobs=1", "--results", str(tmp_path)]) == 2
    assert f"{name} is no file of a study: move it" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == content
    assert len(list(tmp_path.iterdir())) == 1


def test_the_full_scale_is_another_run_in_a_place_of_its_own(tmp_path, monkeypatch, capsys):
    study = dataclasses.replace(
        study_of({"case": lambda seed, quick: {"x": 2.0}}, CLAIMS),
        full={"case": lambda seed, quick: {"x": 5.0}},
    )
    monkeypatch.setattr(studies, "names", lambda: ["numbers"])
    monkeypatch.setattr(studies, "load", lambda name, changed=None: study)
    monkeypatch.setattr(studies, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "FULL_RESULTS", tmp_path / "full")
    monkeypatch.setattr(command, "keep_compiled_programs", lambda: None)
    assert [command.main(["numbers", "--jobs=1"]), command.main(["numbers", "--jobs=1", "--full"])] == [1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "results"]
    assert command.main(["numbers", "--full", "--quick"]) == 2
    assert "not both" in capsys.readouterr().err
    assert command.main(["numbers", "--jobs", "0"]) == 2
    assert "--jobs is 1 or more, got 0" in capsys.readouterr().err


@pytest.mark.parametrize("first", [["--quick"], ["--full"], ["--set", "number=2"]])
def test_numbers_of_another_size_are_not_taken_for_the_studys_own(tmp_path, monkeypatch, capsys, first):
    """`--quick` and then without it, both with the same `--results`: the small run's numbers held the claims."""
    study = dataclasses.replace(
        study_of({"case": lambda seed, quick: {"x": 9.0 if quick else 2.0}}, CLAIMS, seeds=1),
        full={"case": lambda seed, quick: {"x": 9.0}},
    )
    monkeypatch.setattr(studies, "names", lambda: ["numbers"])
    monkeypatch.setattr(studies, "load", lambda name, changed=None: study)
    monkeypatch.setattr(command, "keep_compiled_programs", lambda: None)
    asked = ["numbers", "--jobs=1", "--results", str(tmp_path)]
    command.main([*asked, *first])
    before = (tmp_path / "test_framework.json").read_bytes()
    assert command.main(asked) == 2
    said = f"is of `python -m experiments.studies test_framework {' '.join(first)}`: name another folder"
    assert said in capsys.readouterr().err
    assert (tmp_path / "test_framework.json").read_bytes() == before
    assert command.main([*asked, *first, "--figures"]) == command.main([*asked, *first])
    assert command.main([*asked, "--fresh"]) == 1
    assert running.read(tmp_path / "test_framework.json")["runs"]["0"]["case"]["numbers"] == {"x": 2.0}


def test_changed_numbers_have_a_folder_for_each_size(tmp_path, monkeypatch):
    study = study_of({"case": lambda seed, quick: {"x": 9.0 if quick else 2.0}}, CLAIMS, seeds=1)
    monkeypatch.setattr(studies, "names", lambda: ["numbers"])
    monkeypatch.setattr(studies, "load", lambda name, changed=None: study)
    monkeypatch.setattr(command, "keep_compiled_programs", lambda: None)
    monkeypatch.setattr(command, "CHANGED_RESULTS", tmp_path)
    for flags in (["--quick"], [], ["--full"]):
        assert command.main(["numbers", "--jobs=1", "--set", "b=2", "--set", "a=1", *flags]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a=1,b=2", "a=1,b=2,full", "a=1,b=2,quick"]
    stored = running.read(tmp_path / "a=1,b=2" / "test_framework.json")
    assert stored["runs"]["0"]["case"]["numbers"] == {"x": 2.0}


def test_an_unknown_study_is_named(capsys):
    assert command.main(["no_such_study"]) == 2
    assert "no_such_study" in capsys.readouterr().err


def test_images_as_text_are_those_images():
    images = np.random.default_rng(0).uniform(-1, 1, size=(3, 4, 4, 1))
    lines = as_text(images)
    assert [len(line) for line in lines] == [16, 16, 16]
    np.testing.assert_allclose(from_text(lines, 4), images, atol=1 / 35 + 1e-9)
    assert as_text([[-2.0, -1.0, 1.0, 2.0]]) == ["00zz"]


NAMES = studies.names()


@pytest.mark.parametrize("name", NAMES)
def test_every_study_says_what_it_claims_and_how_it_is_run(name):
    study = studies.load(name)
    assert f"python -m experiments.studies {name}" in (study.doc or "")
    assert "Paper:" in (study.doc or "")
    assert study.seeds >= 3
    assert any(claim.quick is not None for claim in study.claims)


def stored_results(study):
    """The stored record; the test is skipped where another version of the study computed it and its claims fail."""
    stored = running.read(studies.RESULTS / f"{study.name}.json")
    found = running.stored_verdicts(study, studies.RESULTS)
    complete = running.complete_seeds(study, stored["runs"]) >= study.seeds
    if not complete or found is None or any(verdict.fails for verdict in found):
        state = provenance.state(study.module, stored)
        assert state.old, state
        pytest.skip(f"{state}: to be run again")
    return stored, found


@pytest.mark.parametrize(
    "name",
    full_except(["dirac", "theorems"], [n for n in NAMES if (studies.RESULTS / f"{n}.json").is_file()]),
)
def test_stored_results_hold_their_claims(name):
    """The committed JSON is complete and of the full study, and its claims hold when they are judged again."""
    study = studies.load(name)
    stored, found = stored_results(study)
    assert not stored["quick"]
    # What is said not to reproduce does not.
    assert [verdict.text for verdict in found if not verdict.reproduces and verdict.holds] == []
    assert (studies.RESULTS / f"{name}.png").stat().st_size <= running.LARGEST_PICTURE


def test_a_large_picture_is_written_with_fewer_colors(tmp_path, monkeypatch):
    def noise(results):
        drawn = figure(curves({"x": ([0, 1], [0, 1])}, x_label="x", y_label="y"), width=2.0)
        drawn.figimage(np.random.default_rng(0).uniform(size=(200, 200, 3)))
        return drawn

    study = dataclasses.replace(study_of({}, CLAIMS), figure=noise)
    path = tmp_path / f"{study.name}.png"
    running.draw(study, [], tmp_path)
    assert colors_of(path) > 128
    monkeypatch.setattr(running, "LARGEST_PICTURE", path.stat().st_size - 1)
    running.draw(study, [], tmp_path)
    assert colors_of(path) <= 128


def colors_of(path):
    with Image.open(path) as image:
        return len(image.getcolors())


def test_framework_files_are_not_studies():
    folder = studies.HERE / "framework"
    assert {path.stem for path in folder.glob("*.py")} >= {"study", "running"}
    assert not {path.stem for path in folder.rglob("*.py")} & set(NAMES)
    with pytest.raises(KeyError):
        studies.load("framework")


STORED = [name for name in NAMES if (studies.RESULTS / f"{name}.json").is_file()]


@pytest.mark.parametrize("name", full_except(["dirac", "theorems"], STORED))
def test_every_axis_of_a_figure_is_named(name):
    """Each chart with ticks says what they count; a dot plot's groups and a picture of pixels need no label."""
    study = studies.load(name)
    stored, _ = stored_results(study)
    drawn = study.figure(running.results_of(stored["runs"], study, study.seeds))
    for axes in drawn.get_axes():
        if not axes.axison or axes.images:
            continue
        groups = [label.get_text() for label in axes.get_yticklabels()]
        assert axes.get_xlabel()
        assert axes.get_ylabel() or any(re.search("[a-z]", group) for group in groups), axes.get_title()


def test_the_gallery_is_that_of_the_results():
    assert gallery.PAGE.read_text() == gallery.text(studies.RESULTS)
