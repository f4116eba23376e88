"""The page of games of points: played live by its server, and shown from a recording."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import ring
from gan_jax.explore.page_files import page_routes
from gan_jax.explore.server import make_server
from gan_jax.explore.toy_games import DEMOS, Demo, Panel, ToyGames
from gan_jax.explore.toy_session import ToySession, ToySource, toy_folder
from gan_jax.training.step import init_state
from tests.explore.browser import chromium, file_server, opened, running

pytestmark = pytest.mark.full
SMALL = {"batch_size": 64, "latent": 4}
DEMO = Demo(
    "pair",
    "A pair",
    "<i>two games</i>",
    (
        Panel("minimax", {"objective": "gan", **SMALL}),
        Panel("wgan", {"objective": "wgan_gp", "n_critic": 1, **SMALL}),
    ),
    rounds=20,
    every=10,
)


def build(fields):
    config = ring.get_config()
    config.update({**SMALL, **fields})
    return ring.build(config)


@pytest.fixture(scope="module")
def games():
    return ToyGames(build, list(ring.get_config().keys()), "as it is", demos=(DEMO,))


@pytest.fixture(scope="module")
def source(games):
    state = init_state(games.experiment.game, jax.random.key(0))
    curves = {"records": [{"step": 1, "time": 0.0, "critic/loss": 1.0}], "last": 1}
    return ToySource(
        name="ring",
        games=games,
        rounds=lambda: [0],
        state=lambda step: state,
        digest=lambda step: "first",
        curves=lambda step: curves,
    )


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def test_demonstrations_need_the_fields_that_they_change(games):
    assert [demo.name for demo in games.demos] == ["pair", "own"]
    fields = set(ring.get_config())
    assert {name for demo in DEMOS for panel in demo.panels for name in panel.fields} <= fields
    other = ToyGames(build, ["batch_size"], "as it is", demos=(DEMO,))
    assert [demo.name for demo in other.demos] == ["own"]


def test_a_game_played_in_parts_is_the_same_game(games):
    first = games.start("pair")
    assert [frame["round"] for frame in first] == [0, 0]
    games.play("pair", 7)
    in_parts = games.play("pair", 13)
    games.start("pair")
    at_once = games.play("pair", 20)
    for left, right in zip(in_parts, at_once, strict=True):
        assert left["round"] == right["round"] == 20
        np.testing.assert_allclose(left["points"], right["points"], rtol=2e-3, atol=1e-4)
    assert in_parts[0]["points"] != in_parts[1]["points"]
    assert len(in_parts[0]["field"]) == 64, "as many arrows as a batch has examples"
    assert len(in_parts[0]["surface"]) == 1600


def test_a_checkpoint_is_drawn_again_when_it_is_another(source):
    """The run went back to an earlier checkpoint and has trained otherwise, up to the same round."""
    other = init_state(source.games.experiment.game, jax.random.key(1))
    saved = {"digest": "first", "state": source.state(0)}
    session = ToySession(
        dataclasses.replace(source, digest=lambda step: saved["digest"], state=lambda step: saved["state"])
    )
    ask = session.routes()["GET", "/checkpoint.json"]
    first = ask({"round": "0"}, b"").body
    assert ask({"round": "0"}, b"").body == first
    saved |= {"digest": "second", "state": other}
    assert ask({"round": "0"}, b"").body != first


def test_games_are_played_live(browser, source):
    server = make_server({**page_routes(), **ToySession(source).routes()}, 0)
    with running(server) as url, opened(browser, url) as page:
        assert page.locator("i").count() == 0, "texts are no markup"
        assert page.locator(".panels figcaption").all_text_contents() == ["minimax", "wgan"]
        page.evaluate("() => { explore.compiled(new Promise((go) => setTimeout(go, 1500))); }")
        page.wait_for_function("() => document.getElementById('message').textContent.includes('at work')")
        page.wait_for_function("() => document.getElementById('message').textContent === ''")
        before = page.locator(".panels .note").first.text_content()
        page.locator("body").press("Space")
        page.wait_for_function("() => explore.frames[0][0].round >= 15")
        assert page.get_by_role("button", name="Pause").count() == 1
        page.locator("body").press("Space")
        assert page.get_by_role("button", name="Play").count() == 1
        assert page.locator(".panels .note").first.text_content() != before
        page.get_by_role("button", name="Restart").click()
        page.wait_for_function("() => explore.frames[0][0].round === 0")
        page.locator("select").first.select_option(label="Checkpoints of the run")
        page.wait_for_function("() => explore.canvases.length === 1 && explore.frames[0].length === 1")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_recording_is_shown_by_a_plain_file_server(browser, source, tmp_path, theme):
    for name, content in toy_folder(source).items():
        (tmp_path / name).write_bytes(content)
    with file_server(tmp_path) as url:
        for width in (320, 1280, 2000):
            with opened(browser, url, width=width, theme=theme) as page:
                assert page.evaluate("() => explore.frames.map((panels) => panels[0].round)") == [0, 10, 20]
                numbers = "[0, 0.00001207, -0.00012, 0.0123456, 123.456, 12345678, NaN]"
                assert page.evaluate(f"import('./draw.js').then((m) => {numbers}.map(m.shortNumber))") == (
                    ["0", "1.21e-5", "-1.2e-4", "0.0123", "123", "1.23e7", "NaN"]
                )
                away = "explore.frames[0][0].points = explore.frames[0][0].points.map(() => [99, 0])"
                outside = page.evaluate(
                    f"() => {{ {away}; explore.draw(); return explore.captions[0].textContent; }}"
                )
                number = page.evaluate("() => explore.frames[0][0].points.length")
                assert f"{number} of {number} samples outside" in outside
                page.get_by_role("button", name="Play").click()
                page.wait_for_function("() => explore.at === 2")
                assert page.locator(".panels .note").first.text_content().startswith("Round 20")
                assert page.evaluate("() => document.documentElement.scrollWidth") == width
                corner = "(c) => Array.from(c.getContext('2d').getImageData(1, 1, 1, 1).data)"
                assert page.evaluate(f"() => explore.canvases.map({corner})[0][3]") == 255
