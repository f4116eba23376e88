"""Makes extractors.npz: what other libraries' networks make of seeded weights and images.

    pip install torch==2.13.0 torchvision==0.28.0 transformers==5.24.0 lpips==0.1.4
    pip install torch-fidelity==0.4.0 pytorch-fid==0.3.0 scipy
    python tests/metrics/reference/make_extractors.py           # writes extractors.npz, small networks
    python tests/metrics/reference/make_extractors.py FOLDER    # writes weights and features at full depth there

Small: CLIP's and DINOv2's towers of `transformers` with two layers, torchvision's VGG16 with narrow stages, the
authors' LPIPS at full width; PyTorch's resizing. The weights are drawn again by the tests, from the same seeds.

Full depth: `openai/clip-vit-base-patch32`'s image tower, `facebook/dinov2-large` and torchvision's VGG16, as files
that `tests.metrics.full_depth` reads.
"""

import importlib.util
import pathlib
import sys
import tempfile
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location("make_inception", HERE / "make_inception.py")
make_inception = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_inception)
seeded_images = make_inception.seeded_images

SMALL_CLIP = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 48,
}
SMALL_DINOV2 = {
    "hidden_size": 128,
    "mlp_ratio": 2,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 36,
    "patch_size": 4,
}
"""The positions are those of a grid of 9; the images of 20 pixels have one of 5."""
SMALL_VGG16 = (4, 6, 8, 8, 8)
HIDDEN_VGG16 = 16


def seeded_arrays(shapes):
    """Weights of a network that neither explodes nor dies, each array from a seed made of its name."""
    arrays = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if "norm" in name or "ln_" in name or "lambda" in name:
            arrays[name] = rng.uniform(0.5, 1.5, size=shape)
        elif name.startswith("lin"):
            arrays[name] = rng.uniform(0, 1, size=shape)
        elif len(shape) > 1 and "embed" not in name:
            arrays[name] = rng.normal(size=shape, scale=np.sqrt(1.5 / np.prod(shape[1:])))
        elif len(shape) == 4:
            arrays[name] = rng.normal(size=shape, scale=np.sqrt(1 / np.prod(shape[1:])))
        else:
            arrays[name] = 0.2 * rng.normal(size=shape)
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def with_seeded_weights(module):
    """The module with seeded weights, and their shapes; LPIPS's scaling of images is no weight."""
    import torch

    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
        if tensor.dtype == torch.float32 and not name.startswith("scaling_layer")
    }
    arrays = {name: torch.from_numpy(array) for name, array in seeded_arrays(shapes).items()}
    module.load_state_dict(arrays, strict=False)
    return module.eval(), shapes


def from_seeded_file(module, folder):
    """The module of `transformers` after reading a safetensors file of seeded weights, and the weights' shapes.

    The names are those that `save_pretrained` writes, which are those of the published files.
    """
    import safetensors.numpy

    folder.mkdir(parents=True, exist_ok=True)
    module.save_pretrained(folder)
    file = folder / "model.safetensors"
    shapes = {name: array.shape for name, array in safetensors.numpy.load_file(file).items()}
    safetensors.numpy.save_file(seeded_arrays(shapes), file, {"format": "pt"})
    return type(module).from_pretrained(folder).eval(), shapes


def small_vgg16():
    """torchvision's VGG16 with narrow stages."""
    import torch
    from torchvision.models import vgg

    layers = [
        item
        for width, places in zip(SMALL_VGG16, (2, 2, 3, 3, 3), strict=True)
        for item in [width] * places + ["M"]
    ]
    model = vgg.VGG(vgg.make_layers(layers), num_classes=10, init_weights=False)
    model.classifier[0] = torch.nn.Linear(SMALL_VGG16[-1] * 49, HIDDEN_VGG16)
    model.classifier[3] = torch.nn.Linear(HIDDEN_VGG16, HIDDEN_VGG16)
    model.classifier[6] = torch.nn.Linear(HIDDEN_VGG16, 10)
    return model


def as_torch(images):
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2)


def shape_lines(shapes):
    return np.array([" ".join([name, *map(str, shape)]) for name, shape in shapes.items()])


def names_of_torch_fidelity():
    """The names in torch-fidelity's Inception are pytorch-fid's, of which inception.npz has the list."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    names = {name for name, _ in _module_only(Theirs).state_dict().items() if "num_batches" not in name}
    with np.load(HERE / "inception.npz") as archive:
        return names == {str(line).split()[0] for line in archive["shapes"]}


def _module_only(kind):
    """torch-fidelity's network with its own random weights; its constructor would fetch the published ones."""
    import torch
    import torch_fidelity.feature_extractor_inceptionv3 as module

    module.load_state_dict_from_url = lambda *args, **kwargs: {}
    kind.load_state_dict = lambda self, *args, **kwargs: None
    with torch.no_grad():
        return kind("inception-v3-compat", ["2048"])


def spatial_of_inception():
    """The first 7 channels of the 1 x 1 branch of pytorch-fid's Mixed_6d: `[2, 5, 5, 7]` of 107 pixels."""
    import torch
    from pytorch_fid import inception

    model = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    shapes = {n: tuple(a.shape) for n, a in model.state_dict().items() if "num_batches" not in n}
    arrays = {n: torch.from_numpy(a) for n, a in make_inception.seeded_arrays(shapes).items()}
    arrays |= {n: torch.tensor(0) for n in model.state_dict() if "num_batches" in n}
    inception.load_state_dict_from_url = lambda *args, **kwargs: arrays
    blocks = inception.InceptionV3([3], resize_input=False).eval()
    made = []
    blocks_c = [module for module in blocks.modules() if isinstance(module, inception.FIDInceptionC)]
    mixed_6d = blocks_c[2]  # after Mixed_6b and Mixed_6c
    mixed_6d.branch1x1.register_forward_hook(lambda module, given, output: made.append(output))
    blocks(as_torch(seeded_images(107)))
    return made[0][:, :7].permute(0, 2, 3, 1).numpy()


def small():
    import lpips
    import torch
    import transformers
    from torch.nn.functional import interpolate

    stored = {}
    images = seeded_images(32)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**SMALL_CLIP))
        clip, shapes = from_seeded_file(model, pathlib.Path(folder) / "clip")
        stored["clip_shapes"] = shape_lines(shapes)
        stored["clip"] = clip(pixel_values=as_torch(images)).image_embeds.numpy()

        model = transformers.Dinov2Model(transformers.Dinov2Config(**SMALL_DINOV2))
        dino, shapes = from_seeded_file(model, pathlib.Path(folder) / "dinov2")
        stored["dinov2_shapes"] = shape_lines(shapes)
        for size in (20, 36):
            found = dino(pixel_values=as_torch(seeded_images(size)))
            stored[f"dinov2_{size}"] = found.pooler_output.numpy()
        square = dino.embeddings.position_embeddings[:, 1:].reshape(1, 9, 9, -1).permute(0, 3, 1, 2)
        moved = interpolate(square, scale_factor=(5.1 / 9, 5.1 / 9), mode="bicubic")
        stored["positions_of_the_authors"] = moved[0, :5].permute(1, 2, 0).numpy()

        vgg16, shapes = with_seeded_weights(small_vgg16())
        stored["vgg16_shapes"] = shape_lines(shapes)
        hidden = vgg16.classifier[:5](vgg16.avgpool(vgg16.features(as_torch(seeded_images(224)))).flatten(1))
        stored["vgg16"] = hidden.numpy()

        distance, shapes = with_seeded_weights(
            lpips.LPIPS(net="vgg", pnet_rand=True, pretrained=False, verbose=False)
        )
        stored["lpips_shapes"] = shape_lines(shapes)
        pairs = as_torch(2 * images - 1), as_torch(2 * images[::-1].copy() - 1) * 0.5
        stored["lpips"] = distance(*pairs).reshape(-1).numpy()

        for size in (40, 500):
            large = interpolate(as_torch(seeded_images(size)), (224, 224), mode="bicubic", antialias=True)
            stored[f"bicubic_{size}"] = large.permute(0, 2, 3, 1).numpy()[:, ::23, ::23]
        stored["spatial"] = spatial_of_inception()
    assert names_of_torch_fidelity()
    np.savez_compressed(HERE / "extractors.npz", **stored)
    print({name: array.std() for name, array in stored.items() if array.dtype.kind == "f"})


def full_depth(folder):
    """Files of seeded weights, and the features of two images, by `transformers` and torchvision."""
    import torch
    import torchvision
    import transformers

    found = {}
    images = as_torch(seeded_images(224))
    with torch.no_grad():
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig())
        clip, _ = from_seeded_file(model, folder / "clip")
        found["clip"] = clip(pixel_values=images).image_embeds.numpy()
        large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 518}
        dino, _ = from_seeded_file(
            transformers.Dinov2Model(transformers.Dinov2Config(**large)), folder / "dinov2"
        )
        found["dinov2"] = dino(pixel_values=images).pooler_output.numpy()
        vgg16, _ = with_seeded_weights(torchvision.models.vgg16(weights=None, init_weights=False))
        torch.save(vgg16.state_dict(), folder / "vgg16.pth")
        found["vgg16"] = vgg16.classifier[:5](vgg16.avgpool(vgg16.features(images)).flatten(1)).numpy()
    np.savez(folder / "features.npz", **found)


if __name__ == "__main__":
    full_depth(pathlib.Path(sys.argv[1])) if len(sys.argv) > 1 else small()
