"""A picture file, read once, checked whole, and shown as it is meant: upright, sRGB, over white.

EXIF turns it, its ICC profile is followed, what is transparent shows white, 16 bits become 8. What
can't be shown right (32-bit colours, what takes a program of its own) is refused by name.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from wanflow.errors import InputError
from wanflow.files.kinds import named_kind
from wanflow.native_lines import held_back

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM")
MOST_PIXELS = 1 << 27  # 134 million
MOST_BYTES = 1 << 30
_HINT = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]} are read; save it as one of these"
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_UNSHOWN = {"I": "whole numbers of 32 bits", "F": "floating-point numbers", "LAB": "Lab colours"}
_SAME_LEVELS = 2  # of 255: a profile that moves no colour by more is sRGB under another name
_NOBODY = logging.NullHandler()
# What PIL's decoders have been seen to raise on what is no picture.
_DAMAGE = (
    OSError, ValueError, SyntaxError, LookupError, TypeError, ArithmeticError, AttributeError,
    EOFError, MemoryError, RuntimeError, struct.error,
)  # fmt: skip


@attrs.frozen
class Picture:
    """A picture as it was read: `size` is width and height, upright.

    `notes` say what of the file is not shown. The bytes stay, so that what was checked is used.
    """

    path: str
    size: tuple[int, int]
    notes: tuple[str, ...]
    digest: str  # of the bytes, SHA-256
    _data: bytes = attrs.field(repr=False)

    def shown(self) -> Any:
        """Decode it: a PIL image, RGB."""
        with _telling(self.path):
            return _shown(_opened(self._data, self.path), [])


def read_picture(path: Path, who: str = "") -> Picture:
    """Read and check a picture; InputError, which names *who* wants it, when it can't be shown."""
    what = f"{who}{path}"
    data = _read(path, what)
    with _telling(what, data):
        image, notes = _opened(data, what), list[str]()
        size = _upright_size(image)
        _check(image, data, what)
        if image.format == "JPEG":  # an eighth of its size is decoded in a quarter of the time
            image.draft(image.mode, (max(size) // 8,) * 2)
        _shown(image, notes)
    return Picture(str(path), size, tuple(notes), hashlib.sha256(data).hexdigest(), data)


def _read(path: Path, what: str) -> bytes:
    try:
        nbytes = path.stat().st_size
        if nbytes > MOST_BYTES:
            raise InputError(
                f"{what}: has {nbytes} bytes, a picture at most {MOST_BYTES}", code="bad-image"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what}: {error.strerror}", code="missing-file") from None


@contextmanager
def _telling(what: str, data: bytes = b"") -> Iterator[None]:
    """Turn what PIL raises into one message; it and libtiff say of their own what it raises too."""
    from PIL import Image, UnidentifiedImageError

    logging.getLogger("PIL").addHandler(_NOBODY)  # without a handler it goes to stderr
    try:
        with held_back(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it warns, what matters is checked
            yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        (count,) = re.findall(r"\((\d+) pixels", str(error)) or ["too many"]
        raise _too_large(what, count) from None
    except UnidentifiedImageError:
        kind = named_kind(data)
        if kind in FORMATS:
            problem = f"no readable {kind}: it is cut, damaged or of a rare form"
        else:
            problem = f"no picture: it is {kind}" if kind else "no picture"
        raise InputError(f"{what}: {problem}", hint=_HINT, code="bad-image") from None
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{what}: cut or damaged: {reason}", hint="is its download whole?", code="bad-image"
        ) from None


def _too_large(what: str, pixels: int | str) -> InputError:
    return InputError(
        f"{what}: has {pixels} pixels, a picture at most {MOST_PIXELS}",
        hint="make it smaller: a video has a million",
        code="bad-image",
    )


def _opened(data: bytes, what: str) -> Any:
    """Open without decoding; of an animation its first frame."""
    from PIL import Image

    image: Any = Image.open(io.BytesIO(data), formats=_formats())
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(what, image.width * image.height)
    if getattr(image, "default_image", False):  # an APNG's, for those who can't see the animation
        image.seek(1)
    return image


def _formats() -> list[str]:
    """Those that this PIL knows: AVIF came late."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check(image: Any, data: bytes, what: str) -> None:
    """InputError for pixels that can't be shown right, ValueError for a file without its end."""
    is_plain = image.mode in (*_EIGHT_BITS, *_SIXTEEN_BITS)
    if not is_plain and not (image.mode == "I" and image.format in ("PNG", "PPM")):
        kind = _UNSHOWN.get(image.mode, image.mode)
        raise InputError(
            f"{what}: its pixels are {kind}: what is white in it can't be known",
            hint="save it with 8 or 16 bits a channel",
            code="bad-image",
        )
    # A decoder is content with the first frame of an animation.
    if image.format == "GIF" and not data.rstrip(b"\0").endswith(b";"):
        raise ValueError("it has no end")
    if image.format == "PNG" and b"IEND" not in data[-(1 << 16) :]:
        raise ValueError("it has no end")


def _upright_size(image: Any) -> tuple[int, int]:
    width, height = image.size
    # A TIFF's size is turned when it is opened, its pixels when they are decoded.
    turned = image.format != "TIFF" and _orientation(image) >= 5
    return (height, width) if turned else (width, height)


def _orientation(image: Any) -> int:
    """EXIF's: from 5 to 8 the sides change places; a broken one is none."""
    try:
        value = image.getexif().get(0x0112, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _shown(image: Any, notes: list[str]) -> Any:
    """Decode an image as it is meant: RGB; *notes* gets what of it is not shown."""
    from PIL import Image, ImageOps

    image.load()
    profile = image.info.get("icc_profile")
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notes.append("has several pictures: the first one is taken")
    if image.format != "TIFF" and _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    image, alpha = _in_eight_bits(image), None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    image = _in_srgb(image, profile, notes)
    if alpha is None or alpha.getextrema()[0] == 255:
        return image
    notes.append("what is transparent in it is white")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _in_eight_bits(image: Any) -> Any:
    """Scale 16 bits a pixel to 8, which PIL's own conversion cuts off; others stay."""
    from PIL import Image

    clear = image.info.get("transparency")
    if image.mode not in (*_SIXTEEN_BITS, "I"):
        if isinstance(clear, tuple) and max(clear) > 255:  # of a PNG's three times 16 bits
            image.info["transparency"] = tuple(level >> 8 for level in clear)
        return image
    tags = getattr(image, "tag_v2", {})
    top = 2 ** tags.get(258, (16,))[0] - 1
    levels = np.asarray(image).astype(np.float32)
    eight = np.rint(levels * (255 / top)).clip(0, 255).astype(np.uint8)
    if tags.get(262) == 0:  # white is zero
        eight = 255 - eight
    if clear is None:
        return Image.fromarray(eight)
    alpha = np.where(levels == clear, 0, 255).astype(np.uint8)
    return Image.merge("LA", [Image.fromarray(eight), Image.fromarray(alpha)])


def _in_srgb(image: Any, profile: bytes | None, notes: list[str]) -> Any:
    """Follow an ICC profile; one that is broken or for other colours is none, which is noted."""
    if not profile:
        return image.convert("RGB")
    from PIL import ImageCms

    try:
        known = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _modes_of(image)[known.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(
            known, ImageCms.createProfile("sRGB"), mode, "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError, LookupError, TypeError):
        notes.append("its ICC profile can't be followed: its colours are taken for sRGB")
        return image.convert("RGB")
    image = image.convert(mode)
    if mode == "RGB" and _keeps_colours(transform):
        return image
    return ImageCms.applyTransform(image, transform)


def _modes_of(image: Any) -> dict[str, str]:
    """The colour spaces of profiles that an image may have, each with its mode."""
    if image.mode == "CMYK":
        return {"CMYK": "CMYK"}
    is_grey = image.mode in ("1", "L")
    if image.mode == "RGBA":  # as which what has transparency comes
        red, green, blue, _ = image.split()
        is_grey = red.tobytes() == green.tobytes() == blue.tobytes()
    return {"RGB": "RGB", "GRAY": "L"} if is_grey else {"RGB": "RGB"}


def _keeps_colours(transform: Any) -> bool:
    """Whether it is one of the many profiles that say sRGB: then no bit is to change."""
    from PIL import Image, ImageCms

    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
    seen = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform))
    return bool(np.abs(seen.astype(int) - grid).max() <= _SAME_LEVELS)
