"""Studies with other numbers, formats and films."""

import json

import pytest
from PIL import Image

from experiments import studies
from experiments.studies.__main__ import main
from experiments.studies.framework import changes

FILE = """RATE, ROUNDS = 1e-3, 200
TWICE = 2 * ROUNDS
ON = True
name = 3


class STUDY:
    rounds = ROUNDS
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(FILE)
    return path


def test_what_is_computed_from_a_changed_number_follows_it(study):
    found = changes.load(study, "some", {"ROUNDS": 50})
    assert (found.ROUNDS, found.TWICE, found.STUDY.rounds, found.RATE) == (50, 100, 50, 1e-3)
    assert changes.numbers(study) == {"RATE": 1e-3, "ROUNDS": 200}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"MODES": 25}, "some has no number 'modes' of its own: it has rate=0.001, rounds=200"),
        ({"ON": 0}, "has no number 'on'"),
        ({"ROUNDS": 2.5}, "rounds of some is a whole number, got 2.5"),
    ],
)
def test_numbers_that_a_study_does_not_have(study, given, message):
    with pytest.raises(changes.ChangeError, match=message):
        changes.load(study, "some", given)


@pytest.mark.parametrize("text", ["rounds", "rounds=", "rounds=many", "rounds=True", "=3", "rounds=[3]"])
def test_what_is_no_name_and_number(text):
    with pytest.raises(changes.ChangeError, match="NAME=NUMBER"):
        changes.parse([text])


def test_a_number_is_changed_once():
    with pytest.raises(changes.ChangeError, match="twice"):
        changes.parse(["rounds=3", "ROUNDS=4"])


TINY = """'''A number.

Claims:
- It is at least five.
'''
from experiments.studies.framework.study import Claim, Study
from gan_jax.pictures import figure, scatter

NUMBER = 5

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=0,
    cases={"it": lambda seed, quick: {"x": NUMBER}},
    claims=[Claim(effect=lambda r: r["it"]["x"], at_least=5, quick=5)],
    figure=lambda results: figure(scatter([[0.0, 0.0]])),
)
"""


@pytest.mark.full
def test_the_claims_of_a_changed_study_are_shown_and_not_judged(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.py").write_text(TINY)
    monkeypatch.setattr(studies, "HERE", tmp_path)
    monkeypatch.setattr(studies, "names", lambda: ["tiny"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.studies.__main__.keep_compiled_programs", lambda: None)
    assert main(["tiny", "--quick", "--set", "number=2"]) == 0
    assert "  It is at least five. [2]\n" in capsys.readouterr().out
    stored = json.loads((tmp_path / "runs/studies-set/number=2,quick/tiny.json").read_text())
    (launch,) = stored["launches"].values()
    assert launch["command"] == "python -m experiments.studies tiny --quick --set number=2"
    assert main(["tiny", "--set", "modes=25"]) == 2
    assert "tiny has no number 'modes' of its own: it has number=5" in capsys.readouterr().err


@pytest.mark.full
def test_figures_are_drawn_again_in_another_format_and_size(tmp_path, capsys):
    (tmp_path / "divergences.json").write_bytes((studies.RESULTS / "divergences.json").read_bytes())
    where = f"--results={tmp_path}"
    assert main(["divergences", "--format=svg", where]) == 0
    assert "<svg" in (tmp_path / "divergences.svg").read_text()[:1000]
    assert main(["divergences", "--size=1200x900", where]) == 0
    with Image.open(tmp_path / "divergences.png") as picture:
        assert picture.size == (1200, 900)
    assert main(["divergences", "--size=1200", where]) == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err


@pytest.mark.slow
def test_a_film_shows_a_studys_frames(tmp_path, capsys):
    (tmp_path / "one_dimension.json").write_bytes((studies.RESULTS / "one_dimension.json").read_bytes())
    asked = [f"--results={tmp_path}", f"--film={tmp_path / 'line.gif'}"]
    assert main(["one_dimension", *asked]) == 0
    with Image.open(tmp_path / "line.gif") as shown:
        assert shown.n_frames == 41  # the start, and the 40 snapshots of the study
    assert main(["dirac", *asked]) == 2
    assert "takes one study that has frames: one_dimension" in capsys.readouterr().err
