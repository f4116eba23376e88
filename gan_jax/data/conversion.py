"""How an encoded image of any kind becomes an array: upright, cropped, resized, with the wanted channels."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pathlib
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gan_jax.data.errors import DataError
from gan_jax.types import Size

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**26
"""Larger images are skipped: a small file can unpack to gigabytes."""
METHODS = ("lanczos", "bicubic", "bilinear", "box", "nearest")
"""How images are resized; all but `nearest` average over what they shrink."""
PARTS = ("whole", "left", "right")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's mode by the number of channels; 2 and 4 keep transparency."""
CROPPED, ENLARGED, SHRUNK = "cropped", "enlarged", "shrunk"
GREY_TO_RGB, RGB_TO_GREY = "grey turned to RGB", "colours turned to grey"
ON_WHITE = "transparent and laid on white"
FIRST = "of several pages or frames, of which the first is taken"
CHANGES = (CROPPED, ENLARGED, SHRUNK, GREY_TO_RGB, RGB_TO_GREY, ON_WHITE, FIRST)
"""What a conversion may do to an image, in the order in which it is said."""
SEQUENCES = frozenset({"TIFF", "GIF", "WEBP", "PNG"})
"""Formats of files that may have several images of equal standing."""
ORIENTED = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
"""Where Pillow keeps metadata that may say how an image is turned."""
VERSION = 3
"""Part of the key of converted images in the cache: raise it where the same file becomes another array."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF."""
_WHITE_IS_ZERO, _SIGNED = 0, 2
"""Values of the last two of them."""
_GREY_BITS = {"L;2": 2, "L;4": 4}
"""Bits of a grey PNG that Pillow brings to 8, by its name of how they are stored."""


def sides(size: Size) -> tuple[int, int]:
    """Height and width.

    Raises:
      DataError: if they are not one or two whole numbers from 1 on.

    >>> sides(64), sides((48, 64))
    ((64, 64), (48, 64))
    """
    found = (size, size) if isinstance(size, int) else tuple(size)
    if len(found) != 2 or not all(isinstance(side, int) and side >= 1 for side in found):
        raise DataError(f"Images are read with size >= 1, or (height, width); got {size!r}.")
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """How an image of any kind becomes `[height, width, channels]` uint8.

    It is turned as its EXIF or XMP data say, cropped at the centre to the proportions that are wanted, and resized;
    16 bits are brought to 8. It is laid on white where it is transparent, unless the transparency is kept.

    Attributes:
      size: the side of a square, or (height, width); `None` leaves them.
      channels: 1 (grey), 3 (RGB), or with transparency 2 (grey) or 4 (RGBA).
      method: one of `METHODS`.
      max_pixels: larger images are refused.
      part: `whole`, or the `left` or `right` half of two images side by side.

    Raises:
      DataError: if a field is out of range.
    """

    size: Size | None
    channels: int
    method: str = "lanczos"
    max_pixels: int = MAX_PIXELS
    part: str = "whole"

    def __post_init__(self) -> None:
        if self.size is not None:
            sides(self.size)
        if self.channels not in MODES or self.method not in METHODS:
            raise DataError(
                f"Images are read with size >= 1, channels 1 or 3 (2 or 4 with transparency) and a method of "
                f"{METHODS}; got {self}."
            )

    def record(self) -> dict[str, Any]:
        """The conversion as JSON, with its own version and Pillow's: resizing differs between those."""
        import PIL

        return {
            **dataclasses.asdict(self),
            "crop": "center",
            "pillow": PIL.__version__,
            "version": VERSION,
        }

    def __call__(self, file: pathlib.Path | IO[bytes]) -> np.ndarray:
        """The image in `file` as `[H, W, C]` uint8.

        Raises:
          DataError: saying why it cannot be read.
        """
        return self.convert(file)[0]

    def convert(self, file: pathlib.Path | IO[bytes]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The image in `file` as `[H, W, C]` uint8, and what was done to it, some of `CHANGES`.

        Raises:
          DataError: saying why it cannot be read.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(file) as image:
                if image.width * image.height > self.max_pixels:
                    raise DataError(f"{image.width} x {image.height} pixels are more than {self.max_pixels}")
                _scale_transparency(image)
                was_grey = _is_grey(image)
                # Photographs of telephones have a second, smaller image in formats that are not here.
                several = image.format in SEQUENCES and getattr(image, "n_frames", 1) > 1
                image.load()
                original = to_eight_bits(image, transparent=self.channels in (2, 4))
                on_white = image.has_transparency_data and self.channels in (1, 3)
                upright = _in_mode(original, MODES[self.channels])
                if self.part != "whole":
                    upright = half(upright, self.part)
                changes = (
                    *_recoloured(was_grey, self.channels, on_white),
                    *(() if self.size is None else _resized(upright, self.size)),
                    *([FIRST] if several else []),
                )
                array = np.asarray(upright if self.size is None else fitted(upright, self.size, self.method))
        except DataError:
            raise
        except UnidentifiedImageError as error:
            raise DataError("not an image") from error
        except Exception as error:  # Pillow's decoders raise whatever a broken file makes them run into.
            raise DataError(f"damaged: {error}") from error
        return array[..., None] if array.ndim == 2 else array, changes


def _is_grey(image: Image.Image) -> bool:
    """Whether a file has grey pixels, before they are loaded: Pillow opens 16 bits with transparency as colours."""
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I") or _stored(image) == "LA;16B"


def _stored(image: Image.Image) -> str:
    """Pillow's name of how a PNG that is not loaded yet stores its pixels; nothing for other formats."""
    tiles = getattr(image, "tile", ()) if image.format == "PNG" else ()
    return str(tiles[0][3]) if tiles else ""


def _recoloured(was_grey: bool, channels: int, on_white: bool) -> Iterator[str]:
    if was_grey != (channels < 3):
        yield GREY_TO_RGB if was_grey else RGB_TO_GREY
    if on_white:
        yield ON_WHITE


def _resized(image: Image.Image, size: Size) -> Iterator[str]:
    height, width = sides(size)
    if image.size == (width, height):
        return
    scale, (wide, high) = _kept(image, size)
    if (wide, high) != image.size:
        yield CROPPED
    if scale != 1:
        yield ENLARGED if scale < 1 else SHRUNK


def to_eight_bits(image: Image.Image, transparent: bool = False) -> Image.Image:
    """A Pillow image upright, in mode L or RGB: transparency laid on white, 16 bits brought to 8.

    Args:
      image: in any mode.
      transparent: keep transparency, in mode RGBA.

    Raises:
      ValueError: if its pixels are of 32 bits or floating-point numbers, whose range is not known, or have a sign.
    """
    from PIL import Image, ImageOps

    # The file does not say which value is white. Pillow opens PGM files of 16 bits in this mode too; they do.
    if image.mode == "I" and image.format == "TIFF":
        raise ValueError("32-bit values are not supported: save 8 or 16 bits")
    black, white = _tiff_range(image)
    if not ORIENTED.isdisjoint(image.info) or image.format == "TIFF":
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image, np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit values are not supported")
        grey = Image.fromarray(np.round((values - black) / ((white - black) / 255)).astype(np.uint8))
        clear = image.info.get("transparency")
        if not isinstance(clear, int):
            return grey
        # Pillow keeps the one value of a PNG that is transparent, and makes no opacity of it in this mode.
        image = Image.merge("LA", (grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))
    if image.mode == "F":
        raise ValueError("floating-point pixels are not supported")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if transparent:
            return image
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return _in_mode(image, "L" if image.mode in ("1", "L", "LA") else "RGB")


def _tiff_range(image: Image.Image) -> tuple[int, int]:
    """The values of black and white where Pillow opens an image as one of 16 bits.

    Of a TIFF it keeps the values as they are stored, of 12 bits too, and where the file says that 0 is white.

    Raises:
      ValueError: if a TIFF has values with a sign, which Pillow reads without it.
    """
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise ValueError("values with a sign are not supported: save 8 or 16 bits without one")
    largest = 2 ** min(tags.get(_BITS_PER_SAMPLE, (16,))[0], 16) - 1
    return (largest, 0) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else (0, largest)


def _scale_transparency(image: Image.Image) -> None:
    """Brings the colour of a PNG that is transparent to the 8 bits to which Pillow brings the pixels alone.

    Of 16 bits it keeps the upper 8: pixels that differ from the colour in the others are transparent too.
    """
    clear, kind = image.info.get("transparency"), _stored(image)
    if kind in _GREY_BITS and isinstance(clear, int):
        image.info["transparency"] = clear * 255 // (2 ** _GREY_BITS[kind] - 1)
    elif kind == "RGB;16B" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    # Pillow copies an image that is in its mode already.
    return image if image.mode == mode else image.convert(mode)


def fitted(image: Image.Image, size: Size, method: str) -> Image.Image:
    """A Pillow image cropped at the centre to the proportions of `size` and resized to it."""
    from PIL import Image

    height, width = sides(size)
    if image.size == (width, height):
        return image
    _, (wide, high) = _kept(image, size)
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    box = (left, top, left + wide, top + high)
    return image.resize((width, height), Image.Resampling[method.upper()], box=box)


def _kept(image: Image.Image, size: Size) -> tuple[float, tuple[int, int]]:
    """How many pixels of an image become one, and the width and the height of what is kept of it."""
    height, width = sides(size)
    scale = min(image.width / width, image.height / height)
    return scale, (max(1, round(scale * width)), max(1, round(scale * height)))


def half(image: Image.Image, part: str) -> Image.Image:
    """The `left` or `right` half of a Pillow image."""
    middle = image.width // 2
    if image.width % 2 or not middle:
        raise ValueError(f"a width of {image.width} has no two halves")
    return image.crop(
        (0, 0, middle, image.height) if part == "left" else (middle, 0, image.width, image.height)
    )


def is_color(file: pathlib.Path | IO[bytes]) -> bool:
    """Whether an image has colours, by its header alone; false for what is no image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return not _is_grey(image)
    except Exception:  # Said with its reason when it is read.
        return False


def is_transparent(file: pathlib.Path | IO[bytes]) -> bool:
    """Whether an image may have transparent pixels, by its header alone; false for what is no image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.has_transparency_data
    except Exception:  # Said with its reason when it is read.
        return False


def decode_bytes(encoded: bytes, conversion: Conversion) -> np.ndarray:
    """An encoded image (PNG, JPEG, ...) as `[H, W, C]` uint8.

    Raises:
      DataError: saying why it cannot be read.
    """
    return conversion(io.BytesIO(encoded))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings of bombs and of odd metadata: max_pixels decides, and what can be read is data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
