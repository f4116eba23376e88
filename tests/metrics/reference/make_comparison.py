"""Makes comparison.npz: what other packages make of seeded arrays, images and weights.

    pip install torch==2.13.0 torchvision==0.28.0 pytorch-fid==0.3.0 torch-fidelity==0.4.0
    pip install clean-fid==0.1.35 prdc==0.2
    PYTHONPATH=. python tests/metrics/reference/make_comparison.py

The weights are those of make_inception.py; arrays and images are drawn again by the test, from the same seeds.
"""

import contextlib
import importlib.util
import io
import pathlib
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SIZES = (32, 256, 512)
SEED = 2020


def make_inception():
    """The script that makes inception.npz, for its seeded weights and images."""
    spec = importlib.util.spec_from_file_location("make_inception", HERE / "make_inception.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seeded_bytes(size):
    """Two pictures, uint8 `[2, size, size, 3]`."""
    noise = np.random.default_rng(size).normal(0, 20, size=(2, size, size, 3))
    return np.clip(255 * make_inception().seeded_images(size) + noise, 0, 255).astype(np.uint8)


def seeded_features():
    """Real `[260, 24]` and fake `[220, 24]` features and logits `[220, 10]`, float64."""
    rng = np.random.default_rng(5)
    real = rng.normal(size=(260, 24)) @ rng.normal(size=(24, 24))
    fake = real[:220] + rng.normal(size=(220, 24))
    return real, fake, 3 * rng.normal(size=(220, 10))


def main():
    import prdc
    import torch
    import torch_fidelity.metric_fid as tf_fid
    import torch_fidelity.metric_isc as tf_isc
    import torch_fidelity.metric_kid as tf_kid
    from cleanfid import fid as clean_fid
    from cleanfid import resize as clean_resize
    from pytorch_fid import fid_score, inception
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.helpers import DEFAULTS
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    found = {}
    real, fake, logits = seeded_features()
    statistics = [(side.mean(0), np.cov(side, rowvar=False)) for side in (real, fake)]
    found["frechet_pytorch_fid"] = fid_score.calculate_frechet_distance(*statistics[0], *statistics[1])
    found["frechet_clean_fid"] = clean_fid.frechet_distance(*statistics[0], *statistics[1])
    sides = [tf_fid.fid_features_to_statistics(torch.from_numpy(side)) for side in (real, fake)]
    found["frechet_torch_fidelity"] = tf_fid.fid_statistics_to_metric(*sides, verbose=False)[
        "frechet_inception_distance"
    ]
    kid = {"kid_subsets": 100, "kid_subset_size": 50, "rng_seed": SEED, "verbose": False}
    measured = tf_kid.kid_features_to_metric(
        torch.from_numpy(real), torch.from_numpy(fake), **{**DEFAULTS, **kid}
    )
    found["kid_torch_fidelity"] = [measured[f"kernel_inception_distance_{part}"] for part in ("mean", "std")]
    # Its second argument is drawn first.
    np.random.choice = np.random.RandomState(SEED).choice
    found["kid_clean_fid"] = clean_fid.kernel_distance(fake, real, num_subsets=100, max_subset_size=50)
    score = tf_isc.isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=True, rng_seed=SEED)
    found["score_torch_fidelity"] = [score[f"inception_score_{part}"] for part in ("mean", "std")]
    with contextlib.redirect_stdout(io.StringIO()):
        fractions = prdc.compute_prdc(real, fake, nearest_k=3)
    found["prdc"] = [fractions[name] for name in ("precision", "recall", "density", "coverage")]

    clean = clean_resize.build_resizer("clean")
    for size in SIZES:
        pixels = torch.from_numpy(seeded_bytes(size)).permute(0, 3, 1, 2).float()
        resized = {
            "tf": interpolate_bilinear_2d_like_tensorflow1x(pixels, size=(299, 299), align_corners=False),
            "pytorch": torch.nn.functional.interpolate(
                pixels, size=(299, 299), mode="bilinear", align_corners=False
            ),
        }
        resized = {name: array.permute(0, 2, 3, 1).numpy() for name, array in resized.items()}
        resized["clean"] = np.stack([clean(image) for image in seeded_bytes(size)])
        for name, array in resized.items():
            found[f"resized_{name}_{size}"] = array[:, 5::29, 3::31].astype(np.float32)

    model = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    shapes = {n: tuple(a.shape) for n, a in model.state_dict().items() if "num_batches" not in n}
    weights = {n: torch.from_numpy(a) for n, a in make_inception().seeded_arrays(shapes).items()}
    counters = {n: torch.tensor(0) for n in model.state_dict() if "num_batches" in n}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "weights.pth")
        torch.save({**weights, **counters}, path)
        extractor = FeatureExtractorInceptionV3(
            "seeded", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
    inception.load_state_dict_from_url = lambda *args, **kwargs: {**weights, **counters}
    unscaled = inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    with torch.no_grad():
        features, unbiased = extractor(torch.from_numpy(seeded_bytes(40)).permute(0, 3, 1, 2))
        levels = torch.from_numpy(np.stack([clean(image) for image in seeded_bytes(40)]))
        cleaned = unscaled((levels.permute(0, 3, 1, 2) - 128) / 128)[0][:, :, 0, 0]
    found["features_tf"] = features.numpy()
    found["logits_unbiased_tf"] = unbiased.numpy()
    found["features_clean"] = cleaned.numpy()
    np.savez_compressed(HERE / "comparison.npz", **found)


if __name__ == "__main__":
    main()
