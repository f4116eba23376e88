"""Makes inception.npz: what pytorch-fid's patched Inception makes of seeded weights and images.

    pip install torch==2.14.1 torchvision==0.29.1 pytorch-fid==0.3.0 scipy
    python tests/metrics/reference/make_inception.py

The weights themselves (24 million) are drawn again by the test, from the same seeds: see `seeded_arrays`.
"""

import pathlib
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent


def seeded_arrays(shapes):
    """Weights of a network that neither explodes nor dies, each array from a seed made of its name."""
    arrays = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("conv.weight") or name == "fc.weight":
            arrays[name] = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            arrays[name] = rng.uniform(0.5, 1.5, size=shape)
        else:
            arrays[name] = 0.1 * rng.normal(size=shape)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def seeded_images(size):
    """Two pictures in [0, 1], `[2, size, size, 3]`: smooth, so that resizing them means something."""
    rng = np.random.default_rng(size)
    axis = np.linspace(0, 1, size)
    waves = rng.uniform(1, 6, size=(2, 2, 3))
    rows = np.sin(2 * np.pi * axis[None, :, None, None] * waves[:, 0, None, None])
    columns = np.cos(2 * np.pi * axis[None, None, :, None] * waves[:, 1, None, None])
    return (0.5 + 0.45 * rows * columns).astype(np.float32)


def main():
    import torch
    import torch.nn.functional
    from pytorch_fid import fid_score, inception

    # The constructor would download the standard weights; give it the seeded ones.
    model = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    shapes = {n: tuple(a.shape) for n, a in model.state_dict().items() if "num_batches" not in n}
    arrays = {n: torch.from_numpy(a) for n, a in seeded_arrays(shapes).items()}
    for name in (n for n in model.state_dict() if "num_batches" in n):
        arrays[name] = torch.tensor(0)
    inception.load_state_dict_from_url = lambda *args, **kwargs: arrays
    blocks = inception.InceptionV3([3], resize_input=False).eval()
    resizing = inception.InceptionV3([3], resize_input=True).eval()
    with torch.no_grad():
        small = torch.from_numpy(seeded_images(107)).permute(0, 3, 1, 2)
        large = torch.from_numpy(seeded_images(40)).permute(0, 3, 1, 2)
        features = blocks(small)[0][:, :, 0, 0]
        logits = features @ arrays["fc.weight"].T + arrays["fc.bias"]
        resized = torch.nn.functional.interpolate(
            large, size=(299, 299), mode="bilinear", align_corners=False
        )
        at_299 = resizing(large)[0][:, :, 0, 0]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 24)) @ rng.normal(size=(24, 24))
    y = rng.normal(size=(200, 24)) + 0.5
    frechet = fid_score.calculate_frechet_distance(
        x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)
    )
    np.savez_compressed(
        HERE / "inception.npz",
        features=features.numpy(),
        logits=logits.numpy(),
        resized=resized.permute(0, 2, 3, 1).numpy()[:, ::23, ::23],
        features_at_299=at_299.numpy(),
        frechet=frechet,
        shapes=np.array([f"{name} {' '.join(map(str, shape))}" for name, shape in shapes.items()]),
    )
    print(f"features {features.std():.3f}, logits {logits.std():.3f}, frechet {frechet:.6f}")


if __name__ == "__main__":
    main()
