"""The page of a generator of images: in headless Chromium, from a plain file server and from its own."""

import json
import shutil

import jax
import numpy as np
import pytest

import gan_jax as gj
from experiments import images
from gan_jax.explore import onnx_web
from gan_jax.explore.curves import records_after
from gan_jax.explore.image_folder import image_folder
from gan_jax.explore.image_session import ImageSession, ImageSource
from gan_jax.explore.latent_space import LatentSpace
from gan_jax.explore.nearest import TrainingImages, stored_images
from gan_jax.explore.page_files import page_routes
from gan_jax.explore.server import make_server
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir
from gan_jax.training.step import init_state
from tests.explore.browser import chromium, file_server, opened, running
from tests.models.runs import written

pytestmark = pytest.mark.full
RED = "(c) => Array.from(c.getContext('2d').getImageData(0, 0, 8, 8).data).filter((_, i) => i % 4 === 0)"
WIDTHS = (320, 768, 1280, 2000)
TRAINING = np.random.default_rng(0).uniform(-1, 1, (20, 8, 8, 1)).astype(np.float32)
NAME = "<b>run</b> & \u202e\"'"


def shaken(state):
    """The state with weights that are not the first ones."""
    return jax.tree.map(
        lambda leaf: (
            leaf + 0.2 * jax.random.normal(jax.random.key(leaf.size), leaf.shape).astype(leaf.dtype)
            if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
            else leaf
        ),
        state,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a conditional generator with one checkpoint and one line of metrics, and its state."""
    config = images.get_config()
    small = {
        "data": "digits",
        "width": 4,
        "latent": 6,
        "conditional": True,
        "objective": "hinge",
        "batch_size": 16,
    }
    config.update({**small, "rounds": 2, "log_every": 1, "checkpoint_every": 0, "sample_every": 0})
    experiment = images.build(config)
    state = shaken(init_state(experiment.game, jax.random.key(0)))
    path = written(
        tmp_path_factory.mktemp("explore") / "run", experiment, config, {2: state}, "experiments/images.py"
    )
    lines = [{"step": n, "time": 1.0, "critic/loss": 1.0 / n, "x<i>y": [n, 2 * n]} for n in (1, 2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path, experiment, state


@pytest.fixture(scope="module")
def model(run):
    return gj.load_model(run[0], config="images")


@pytest.fixture(scope="module")
def runtime():
    if shutil.which("npm") is None:
        pytest.skip("npm, which fetches onnxruntime-web, is not installed")
    try:
        return onnx_web.onnx_web()
    except onnx_web.OnnxWebError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(run, model, runtime, tmp_path_factory):
    pytest.importorskip("onnx")
    out = tmp_path_factory.mktemp("page")
    files = image_folder(
        NAME,
        model,
        records_after(Workdir(run[0]), -1),
        runtime,
        training=stored_images(TRAINING),
        note="Among twenty images of noise.",
    )
    for name, content in files.items():
        (out / name).write_bytes(content)
    return out


@pytest.fixture(scope="module")
def session(run):
    """The served page's session; its training images are black, grey and white."""
    path = run[0]

    def newest():
        with Checkpoints(Workdir(path).checkpoints) as checkpoints:
            step = max(checkpoints.steps())
            return step, checkpoints.digest(step)

    source = ImageSource(
        name="run",
        load=lambda step: gj.load_model(path),
        newest=newest,
        training=lambda: (
            np.linspace(-1, 1, 3, dtype=np.float32)[:, None, None, None] * np.ones((1, 8, 8, 1), np.float32)
        ),
        note="",
        curves=lambda step: records_after(Workdir(path), step),
    )
    return ImageSession(source)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def shown(page):
    """The sample that the page shows, its point and its label, after what is under way."""
    page.evaluate("async () => { await explore.grid(); await explore.draw(); }")
    return page.evaluate(
        "() => ({sample: Array.from(explore.current.sample), point: Array.from(explore.current.point),"
        " label: explore.current.label})"
    )


def check_samples(page, model):
    """What the page shows is what the model makes of the same latents, and a slider changes it."""
    space = LatentSpace.of(model)
    before = shown(page)
    np.testing.assert_allclose(before["point"], space.seeds([0])[0], atol=1e-6)
    grid = page.evaluate("() => explore.seeds.map(({sample}) => Array.from(sample))")
    z = space.seeds(range(36))
    expected = model.sample(z=z, labels=np.arange(36) % 10)
    np.testing.assert_allclose(np.reshape(grid, expected.shape), expected, atol=1e-3)
    np.testing.assert_allclose(np.reshape(before["sample"], (8, 8, 1)), expected[0], atol=1e-3)
    levels = page.evaluate(f"() => ({RED})(explore.canvas)")
    assert np.abs(np.array(levels) - (expected[0].ravel() + 1) * 127.5).max() <= 0.75
    page.locator(".sliders .slider input").first.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    after = shown(page)
    direction = space.directions()
    moved = z[0] + 1.0 * direction.deviations[0] * direction.vectors[0]
    np.testing.assert_allclose(after["point"], moved, atol=1e-4)
    again = model.sample(z=np.asarray(after["point"], np.float32)[None], labels=[after["label"]])
    np.testing.assert_allclose(np.reshape(after["sample"], again.shape), again, atol=1e-3)
    assert np.abs(np.subtract(after["sample"], before["sample"])).max() > 1e-2


def test_a_plain_file_server_is_enough(browser, folder, model):
    with file_server(folder) as url, opened(browser, url) as page:
        check_samples(page, model)
        assert page.locator("h1").text_content() == NAME
        assert page.locator("b, i").count() == 0, "names are texts"
        assert page.locator("figcaption").all_text_contents() == ["critic/loss", "x<i>y"]
        assert "Among twenty images of noise." in page.text_content("body")


def test_a_folder_finds_the_training_images_nearest_to_a_sample(browser, folder):
    """Those of the server; levels are rounded in the folder."""
    with file_server(folder) as url, opened(browser, url) as page:
        sample = np.reshape(shown(page)["sample"], (8, 8, 1)).astype(np.float32)
        page.get_by_text("Find those of the sample").click()
        page.wait_for_selector(".neighbours figure:nth-child(6)")
        said = page.locator(".neighbours figcaption").all_text_contents()
        expected = TrainingImages(TRAINING).nearest(sample)
        for text, entry in zip(said, expected, strict=True):
            index, distance = text.removeprefix("image ").split(", at ")
            assert int(index) == entry["index"]
            assert float(distance) == pytest.approx(entry["distance"], abs=0.6)
        picture = page.evaluate(
            "async () => { const i = document.querySelector('.neighbours img'); await i.decode(); const c ="
            " document.createElement('canvas'); c.width = c.height = 8; c.getContext('2d').drawImage(i, 0, 0);"
            f" return ({RED})(c); }}"
        )
        nearest = (TRAINING[expected[0]["index"]].ravel() + 1) * 127.5
        assert np.abs(np.array(picture) - nearest).max() <= 0.75
        boxes = page.evaluate(
            "async () => { const { boxed } = await import('./nearest.js');"
            " return Array.from(boxed(Float32Array.from({length: 32}, (_, i) => i), [4, 4, 2], 2)); }"
        )
        image = np.arange(32.0).reshape(2, 2, 2, 2, 2)
        assert boxes == image.mean(axis=(1, 3)).ravel().tolist()


def test_labels_and_truncation_are_the_models(browser, folder, model):
    with file_server(folder) as url, opened(browser, url) as page:
        page.locator("select").nth(0).select_option("4")  # class 3
        page.locator("select").nth(1).select_option(label="|z| up to 0.7")
        found = shown(page)
        assert found["label"] == 3
        assert np.abs(found["point"]).max() <= 0.7
        drawn = model.sample(1, seed=0, truncation=0.7, labels=3)
        np.testing.assert_allclose(np.reshape(found["sample"], drawn.shape), drawn, atol=1e-3)


def test_walks_are_the_models(browser, folder, model):
    with file_server(folder) as url, opened(browser, url) as page:
        page.get_by_text("Pin as A").click()
        page.evaluate("() => explore.choose(10)")  # of the same class
        page.get_by_text("Pin as B").click()
        page.evaluate("async () => { await explore.walk(); }")
        z = LatentSpace.of(model).seeds([0, 10])
        expected = model.interpolate(z, steps=9, label=0)[0]
        levels = page.evaluate(f"() => explore.strip.map({RED})")
        assert np.abs(np.array(levels) - (expected.reshape(9, -1) + 1) * 127.5).max() <= 0.75


def test_the_keyboard_is_enough(browser, folder):
    with file_server(folder) as url, opened(browser, url) as page:
        shown(page)
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.parentElement.className") == "seeds":
                break
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        assert page.evaluate("() => explore.chosen") == 2
        assert page.locator(".seeds button[aria-pressed=true]").get_attribute("aria-label") == "seed 2, 2"
        page.keyboard.press("ArrowDown")
        assert page.evaluate("() => document.activeElement.offsetTop > explore.cells[0].cell.offsetTop")
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.parentElement.className") != "seeds"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser, folder, theme):
    with file_server(folder) as url:
        for width in WIDTHS:
            with opened(browser, url, width=width, theme=theme) as page:
                shown(page)
                assert page.evaluate("() => document.documentElement.scrollWidth") == width
                back, text = page.evaluate(
                    "() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; }"
                )
                assert contrast(back, text) > 7


def contrast(first, second):
    """The contrast ratio of WCAG 2 of two colours `rgb(r, g, b)`."""

    def luminance(colour):
        levels = np.array([int(n) for n in colour[4:-1].split(",")]) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def test_the_served_page_follows_the_run(browser, run, session, model):
    """The same pixels; neighbours; and a newer checkpoint is shown as it is saved."""
    path, _, state = run
    server = make_server({**page_routes(), **session.routes()}, 0)
    with running(server) as url, opened(browser, url) as page:
        check_samples(page, model)
        page.get_by_text("Find those of the sample").click()
        page.wait_for_selector(".neighbours figure:nth-child(3)")
        assert "image" in page.locator(".neighbours img").first.get_attribute("alt")
        with Checkpoints(Workdir(path).checkpoints) as checkpoints:
            checkpoints.save(4, shaken(state))
        with open(path / "metrics.jsonl", "a") as file:
            file.write('{"step": 4, "time": 2.0, "critic/loss": 0.1}\n')
        page.wait_for_function("() => explore.description.round === 4")
        page.wait_for_function(
            "() => document.querySelector('.charts canvas').getAttribute('aria-label').endsWith('round 4')"
        )
        assert "round 4" in page.locator("header").text_content()
        found = shown(page)
        newer = gj.load_model(path, round=4).sample(
            z=np.asarray(found["point"], np.float32)[None], labels=[0]
        )
        np.testing.assert_allclose(np.reshape(found["sample"], newer.shape), newer, atol=1e-3)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A StyleGAN2, whose layers draw noise, and its page's session."""
    config = images.get_config()
    config.update(
        {"data": "digits", "network": "stylegan2", "width": 4, "latent": 6, "batch_size": 8, "rounds": 1}
    )
    experiment = images.build(config)
    state = shaken(init_state(experiment.game, jax.random.key(0)))
    path = written(
        tmp_path_factory.mktemp("noisy") / "run", experiment, config, {1: state}, "experiments/images.py"
    )
    model = gj.load_model(path, config="images")
    source = ImageSource(
        name="noisy",
        load=lambda step: model,
        newest=lambda: (model.round, model.checkpoint),
        training=None,
        note="",
        curves=lambda step: {"records": [], "last": -1},
    )
    return model, ImageSession(source)


def test_a_seed_has_its_own_noise_wherever_it_is_shown(browser, noisy):
    """A seed's sample had the noise of its place in the grid: another alone, and another than that of its file."""
    model, session = noisy
    assert model.draws_noise
    expected = np.concatenate([model.sample(1, seed=seed) for seed in range(5, 41)])
    server = make_server({**page_routes(), **session.routes()}, 0)
    with running(server) as url, opened(browser, url) as page:
        page.evaluate("async () => { explore.seed = 5; explore.chosen = 3; await explore.refresh(); }")
        alone = shown(page)["sample"]
        grid = page.evaluate("() => explore.seeds.map(({sample}) => Array.from(sample))")
        np.testing.assert_allclose(np.reshape(grid, expected.shape), expected, atol=1e-5)
        np.testing.assert_allclose(np.reshape(alone, expected[3].shape), expected[3], atol=1e-5)
        page.evaluate("() => { explore.pin('A'); explore.pin('B'); }")
        page.evaluate("async () => { await explore.walk(); }")
        level = "(c) => Array.from(c.getContext('2d').getImageData(0, 0, 8, 8).data)"
        strip = page.evaluate(f"() => explore.strip.map({level})")
        assert all(picture == strip[0] for picture in strip), "a walk from a sample to itself"


def test_the_last_seeds_are_shown_as_well(noisy):
    """The page went up to these, and the server refused them."""
    model, session = noisy
    answer = session.routes()["GET", "/latents.f32"]
    (last,) = np.frombuffer(answer({"first": str(2**32 - 36), "count": "36"}, b"").body, "<f4").reshape(
        36, -1
    )[35:]
    np.testing.assert_array_equal(last, model.latents(1, seed=2**32 - 1)[0])
    with pytest.raises(ValueError, match="Seeds go up to 4294967295"):
        answer({"first": str(2**32 - 35), "count": "36"}, b"")


def test_as_many_seeds_as_samples_are_asked_for(noisy):
    answer = noisy[1].routes()["POST", "/samples.f32"]
    with pytest.raises(ValueError, match="seeds are 1, got 2"):
        answer({"seeds": "1,2"}, np.zeros(noisy[0].mean_w.size, "<f4").tobytes())
    with pytest.raises(ValueError, match="seed is a whole number"):
        answer({"seeds": "-1"}, np.zeros(noisy[0].mean_w.size, "<f4").tobytes())


def test_another_checkpoint_of_the_round_that_is_shown_is_read(run, session):
    """The run went back to an earlier checkpoint and has trained otherwise, up to the same round."""
    path, _, state = run
    before, weights = session.describe(), session.model.weights["generator"]
    with Checkpoints(Workdir(path).checkpoints) as checkpoints:
        checkpoints.save(before["round"], shaken(shaken(state)))
    after = session.describe()
    assert after["round"] == before["round"]
    assert after["checkpoint"] != before["checkpoint"]
    name = next(name for name in weights if name.endswith("kernel"))
    assert (session.model.weights["generator"][name] != weights[name]).any()


def test_what_is_asked_for_wrongly_is_refused(session):
    routes = session.routes()
    for path, query, body, message in (
        ("/samples.f32", {}, b"123", "rows of 6 float32"),
        ("/samples.f32", {}, np.full(6, np.nan, np.float32).tobytes(), "finite"),
        (
            "/samples.f32",
            {"labels": "11"},
            np.zeros(6, np.float32).tobytes(),
            "label is a whole number up to 9",
        ),
        ("/samples.f32", {"labels": "1,2"}, np.zeros(6, np.float32).tobytes(), "one for all or 1"),
        ("/samples.f32", {}, np.zeros(6 * 300, np.float32).tobytes(), "1 to 256 rows"),
        ("/map.f32", {}, np.zeros(6, np.float32).tobytes(), "no mapping network"),
        ("/nearest.json", {"by": "<x>"}, np.zeros(64, np.float32).tobytes(), "compared by"),
    ):
        with pytest.raises(ValueError, match=message):
            routes["POST", path](query, body)
    with pytest.raises(ValueError, match="count is"):
        routes["GET", "/latents.f32"]({"count": "257"}, b"")
