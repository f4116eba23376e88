"""Comparisons and evaluations by two processes over loopback: the numbers of one, which process 0 writes."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.distributed.test_hosts import ROOT, finish, free_port
from tests.evaluation import images_experiment

EXPERIMENT = str(pathlib.Path(images_experiment.__file__).relative_to(ROOT))


def start(count, *arguments, cache=""):
    """`count` processes of one launch, a device each."""
    joint = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={count}"] if count > 1 else []
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    environment["GAN_JAX_CACHE"] = str(cache)
    return [
        subprocess.Popen(
            [sys.executable, "launch.py", *joint, *([f"--process_id={i}"] if joint else []), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        for i in range(count)
    ]


def both(tmp_path, *arguments):
    """What one process and two say, each with a cache of its own; the second of the two says nothing."""
    said = {}
    for count in (1, 2):
        own = [argument.replace("{}", str(tmp_path / str(count))) for argument in arguments]
        codes, spoken = finish(start(count, *own, cache=tmp_path / f"cache{count}"))
        assert codes == [0] * count, spoken
        said[count] = spoken[0]
        if count == 2:
            assert not [line for line in spoken[1][0].splitlines() if "[Gloo]" not in line]
            assert "images/s" not in spoken[1][1]
    return [[line for line in out.splitlines() if "[Gloo]" not in line] for out, _ in said.values()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "run"
    codes, said = finish(start(1, f"--config={EXPERIMENT}", f"--workdir={workdir}"))
    assert codes == [0], said
    return workdir


@pytest.mark.full
def test_two_processes_compare_files_and_a_run_as_one_does(run, tmp_path):
    images, labels = images_experiment.images(70, seed=1)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "real" / ("dark", "bright")[label] / f"{place:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    cut = tmp_path / "real" / "bright" / "69.png"
    cut.write_bytes(cut.read_bytes()[:50])
    np.savez(tmp_path / "fake.npz", arr_0=images[::-1], arr_1=labels[::-1])
    one, two = both(
        tmp_path,
        "--mode=compare",
        f"--config={EXPERIMENT}",  # a run does not name code outside the installation by itself
        f"--real={tmp_path / 'real'}",
        f"--fake={tmp_path / 'fake.npz'},{run}",
        "--metrics=frechet,kernel,neighbors,monge,per_class",
        "--damaged=skip",
        "--save_stats={}.npz",
        "--plot={}.png",
    )
    assert [line.replace("1.png", "2.png") for line in one] == two
    assert any("1 of 70 images were skipped: bright/69.png" in line for line in two)
    assert any("per class (mean of 2)" in line for line in two)
    with np.load(tmp_path / "1.npz") as first, np.load(tmp_path / "2.npz") as second:
        np.testing.assert_allclose(first["sigma"], second["sigma"], rtol=1e-6)
        assert json.loads(str(first["gan_jax"][0]))["data"] == json.loads(str(second["gan_jax"][0]))["data"]
    assert (tmp_path / "2.png").exists()


@pytest.mark.full
def test_two_processes_name_an_image_that_only_one_of_them_reads(tmp_path):
    images, _ = images_experiment.images(40)
    for place, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{place:02d}.png")
    (tmp_path / "30.png").write_bytes((tmp_path / "30.png").read_bytes()[:50])
    codes, said = finish(start(2, "--mode=compare", f"--real={tmp_path}", "--fake=digits", "--size=8"))
    assert codes == [2, 2]
    assert all("30.png (damaged" in err and "Traceback" not in err for _, err in said)


@pytest.mark.slow
def test_two_processes_evaluate_a_run_as_one_does(run, tmp_path):
    found = []
    for count in (1, 2):
        codes, said = finish(start(count, "--mode=evaluate", f"--config={EXPERIMENT}", f"--workdir={run}"))
        assert codes == [0] * count, said
        assert all("frechet" not in out for out, _ in said[1:])
        (checkpoint,) = json.loads((run / "evaluation.json").read_text())["checkpoints"]
        found.append(checkpoint)
    assert found[0]["fingerprints"] == found[1]["fingerprints"]
    for name, value in found[0]["samples"]["raw"].items():
        assert found[1]["samples"]["raw"][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert found[0]["players"] == pytest.approx(found[1]["players"], rel=1e-4, abs=1e-6)
