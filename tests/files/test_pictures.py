"""Pictures as people have them: shown as they are meant, or refused by name."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.files.drawn import png, tiff
from wanflow.errors import InputError
from wanflow.files import pictures
from wanflow.files.pictures import read_picture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
# Where EXIF's orientations have the upright picture's pixels (`Image.Transpose`).
AS_STORED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
TRANSPARENT = "what is transparent in it is white"
SEVERAL = "has several pictures: the first one is taken"
PROFILE = "its ICC profile can't be followed: its colours are taken for sRGB"


@pytest.fixture
def saved(tmp_path):
    """Write a file of bytes, or save an image; read it as a picture."""

    def write(what, form="", **options) -> Path:
        path = tmp_path / "picture"
        if isinstance(what, bytes):
            path.write_bytes(what)
        else:
            what.save(path, form, **options)
        return path

    return write


def encoded(image, form: str, **options) -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def colour(path: Path, at=(1, 1)) -> tuple[int, int, int]:
    """One pixel as it is shown."""
    shown = read_picture(path).shown()
    assert shown.mode == "RGB"
    return shown.getpixel(at)


def close(seen, wanted, by: int = 2) -> bool:
    """Whether two colours look alike."""
    return all(abs(a - b) <= by for a, b in zip(seen, wanted, strict=True))


def flat(mode: str, value) -> Image.Image:
    """A picture of one colour."""
    return Image.new(mode, (8, 8), value)


class TestOrientation:
    """EXIF says how the camera was held."""

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_is_upright(self, saved, form, orientation) -> None:
        """All eight values; the size is the upright picture's."""
        upright = Image.new("RGB", (64, 32), BLUE)
        upright.paste(RED, (0, 0, 32, 16))
        stored = upright
        if orientation > 1:
            stored = upright.transpose(Image.Transpose(AS_STORED[orientation]))
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"tiffinfo": {0x0112: orientation}} if form == "TIFF" else {"exif": exif}
        picture = read_picture(saved(stored, form, **options))
        shown = picture.shown()
        assert picture.size == shown.size == (64, 32)
        assert close(shown.getpixel((8, 4)), RED, 12)
        for other in ((60, 4), (8, 28), (60, 28)):
            assert close(shown.getpixel(other), BLUE, 12)

    @pytest.mark.parametrize("value", [0, 9, 700])
    def test_what_is_no_orientation_is_none(self, saved, value) -> None:
        """The picture stays as it lies."""
        exif = Image.Exif()
        exif[0x0112] = value
        assert read_picture(saved(NOISE, "JPEG", exif=exif)).size == NOISE.size

    def test_damaged_exif_is_none(self, saved) -> None:
        """It costs nobody the picture."""
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(NOISE, "JPEG", exif=exif)
        at = data.index(b"Exif\0\0") + 6
        assert read_picture(saved(data[:at] + b"\xff" * 12 + data[at + 12 :])).size == NOISE.size


class TestTransparency:
    """What is transparent shows white, whatever colour is hidden there."""

    @pytest.mark.parametrize("hidden", [(0, 0, 0), RED])
    @pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "AVIF"])
    def test_over_white(self, saved, form, hidden) -> None:
        """Wholly, and by half."""
        image = flat("RGBA", (*hidden, 0))
        image.paste((0, 0, 255, 128), (4, 0, 8, 8))
        options = {"lossless": True} if form == "WEBP" else {}
        picture = read_picture(saved(image, form, **options))
        assert close(picture.shown().getpixel((1, 4)), WHITE, 8)
        assert close(picture.shown().getpixel((6, 4)), (127, 127, 255), 8)
        assert picture.notes == (TRANSPARENT,)

    def test_of_grey(self, saved) -> None:
        """Grey with alpha."""
        image = flat("LA", (10, 0))
        image.putpixel((1, 1), (10, 255))
        assert colour(saved(image, "PNG")) == (10, 10, 10)
        assert colour(saved(image, "PNG"), (2, 2)) == WHITE

    @pytest.mark.parametrize("form", ["PNG", "GIF"])
    def test_of_a_palette(self, saved, form) -> None:
        """One of its colours is transparent."""
        image = flat("P", 0)
        image.putpalette([*RED, *GREEN])
        image.putpixel((1, 1), 1)
        path = saved(image, form, transparency=0)
        assert colour(path) == GREEN
        assert colour(path, (2, 2)) == WHITE

    @pytest.mark.parametrize(
        ("pixels", "clear"),
        [(np.full((8, 8), 60000, np.uint16), (60000,)),
         (np.full((8, 8, 3), 60000, np.uint16), (60000, 60000, 60000))],
    )  # fmt: skip
    def test_of_one_colour_of_16_bits(self, saved, pixels, clear) -> None:
        """A PNG may name it without an alpha channel."""
        pixels[1, 1] = 257 * 100
        path = saved(png(pixels, clear=clear))
        assert colour(path) == (100, 100, 100)
        assert colour(path, (2, 2)) == WHITE

    def test_opaque_alpha_is_not_worth_a_word(self, saved) -> None:
        """Most PNGs with alpha have nothing transparent."""
        picture = read_picture(saved(flat("RGBA", (*GREEN, 255)), "PNG"))
        assert (picture.notes, picture.shown().getpixel((0, 0))) == ((), GREEN)


class TestDepth:
    """More and fewer than 8 bits a channel."""

    @pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
    @pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
    def test_grey_of_16_bits(self, saved, form, level) -> None:
        """Scaled, where PIL's own conversion makes everything over 255 white."""
        image = Image.fromarray(np.full((8, 8), level * 257, np.uint16))
        assert colour(saved(image, form)) == (level,) * 3

    @pytest.mark.parametrize(
        ("data", "level"),
        [(png(np.full((8, 8, 3), 200 * 257, np.uint16)), 200),
         (tiff(np.full((8, 8, 3), 200 * 257, np.uint16)), 200),
         (tiff(np.full((8, 8), 200 * 257, np.uint16), white_is_zero=True), 55),
         (tiff(np.full((8, 8), 200, np.uint8), white_is_zero=True), 55)],
    )  # fmt: skip
    def test_others(self, saved, data, level) -> None:
        """Three channels of 16 bits; files in which zero is white."""
        assert close(colour(saved(data)), (level,) * 3, 1)

    @pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
    def test_one_bit(self, saved, form) -> None:
        """Black and white."""
        image = flat("1", 0)
        image.putpixel((1, 1), 1)
        assert colour(saved(image, form)) == WHITE
        assert colour(saved(image, form), (2, 2)) == (0, 0, 0)

    @pytest.mark.parametrize(
        ("dtype", "word"),
        [(np.uint32, "32 bits"), (np.int32, "32 bits"), (np.int16, "32 bits"),
         (np.float32, "floating-point")],
    )  # fmt: skip
    def test_without_a_white_is_refused(self, saved, dtype, word) -> None:
        """Where nothing says what is white, any picture of it would be a guess."""
        with pytest.raises(InputError, match=word) as caught:
            read_picture(saved(tiff(np.ones((8, 8), dtype))))
        assert caught.value.hint == "save it with 8 or 16 bits a channel"

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint32])
    def test_what_pil_does_not_read_is_named(self, saved, dtype) -> None:
        """Three channels of these."""
        with pytest.raises(InputError, match="no readable TIFF"):
            read_picture(saved(tiff(np.ones((8, 8, 3), dtype))))


class TestColours:
    """ICC profiles, and what is no RGB."""

    def test_a_profile_is_followed(self, saved) -> None:
        """Colours of another space become sRGB's."""
        image = flat("RGB", (200, 60, 60))
        shown = colour(saved(image, "PNG", icc_profile=turned_profile()))
        assert close(shown, expected(image, turned_profile()))
        assert not close(shown, (200, 60, 60), 10)

    def test_srgb_changes_no_bit(self, saved) -> None:
        """Most profiles say what is meant anyway."""
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        picture = read_picture(saved(NOISE, "PNG", icc_profile=srgb))
        assert np.array_equal(picture.shown(), NOISE)
        assert picture.notes == ()

    @pytest.mark.parametrize("profile", [b"no profile", bytes(200)])
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_a_broken_one_is_said_and_ignored(self, saved, form, profile) -> None:
        """The picture is shown as if it had none."""
        picture = read_picture(saved(flat("RGB", GREEN), form, icc_profile=profile))
        assert picture.notes == (PROFILE,)
        assert close(picture.shown().getpixel((1, 1)), GREEN, 6)

    def test_one_of_other_colours_is_ignored(self, saved) -> None:
        """A profile of RGB in a picture of inks."""
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        picture = read_picture(saved(flat("CMYK", (0, 255, 255, 0)), "TIFF", icc_profile=srgb))
        assert picture.notes == (PROFILE,)
        assert close(picture.shown().getpixel((1, 1)), RED)

    @pytest.mark.parametrize("form", ["JPEG", "TIFF"])
    def test_cmyk(self, saved, form) -> None:
        """A JPEG of inks is stored the other way round, as Adobe does."""
        assert close(colour(saved(flat("CMYK", (0, 255, 255, 0)), form)), RED, 6)

    def test_transparent_and_profiled(self, saved) -> None:
        """The profile is for the picture, not for the white behind it."""
        image = flat("RGBA", (200, 60, 60, 255))
        image.putpixel((1, 1), (200, 60, 60, 0))
        path = saved(image, "PNG", icc_profile=turned_profile())
        assert colour(path) == WHITE
        assert close(colour(path, (3, 3)), expected(flat("RGB", (200, 60, 60)), turned_profile()))


def turned_profile() -> bytes:
    """A profile with the primaries of sRGB in another order: its red is shown as green."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for old, new in ((b"rXYZ", b"tmp0"), (b"gXYZ", b"rXYZ"), (b"tmp0", b"gXYZ")):
        at = data.index(old, 128)
        data[at : at + 4] = new
    return bytes(data)


def expected(image: Image.Image, profile: bytes) -> tuple[int, int, int]:
    """The first pixel, by PIL's own way from one profile to another."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB")).getpixel((0, 0))


class TestAnimations:
    """The first picture is the first frame."""

    @pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
    def test_its_first_picture(self, saved, form) -> None:
        """It is said that there are more."""
        frames = [flat("RGB", c) for c in (RED, GREEN, BLUE)]
        picture = read_picture(saved(frames[0], form, save_all=True, append_images=frames[1:]))
        assert close(picture.shown().getpixel((1, 1)), RED, 6)
        assert picture.notes == (SEVERAL,)

    def test_of_an_apng_what_moves(self, saved) -> None:
        """Not the picture for those that can't show it."""
        frames = [flat("RGB", c) for c in (RED, GREEN, BLUE)]
        options = {"save_all": True, "append_images": frames[1:], "default_image": True}
        assert colour(saved(frames[0], "PNG", **options)) == GREEN

    def test_a_phones_second_picture_is_not_worth_a_word(self, saved) -> None:
        """Depth and previews in an MPO."""
        picture = read_picture(saved(NOISE, "MPO", save_all=True, append_images=[NOISE]))
        assert picture.notes == ()


FORMS = {
    "jpeg": ("JPEG", {}),
    "progressive jpeg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "tiff": ("TIFF", {}),
    "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "bmp": ("BMP", {}),
    "avif": ("AVIF", {}),
    "ppm": ("PPM", {}),
    "animated gif": ("GIF", {"save_all": True, "append_images": [NOISE.rotate(9)]}),
    "animated webp": ("WEBP", {"save_all": True, "append_images": [NOISE.rotate(9)]}),
    "animated png": ("PNG", {"save_all": True, "append_images": [NOISE.rotate(9)]}),
}


class TestRefused:
    """What is none, is not whole, or is too much."""

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_cut(self, saved, form, share) -> None:
        """A broken download, wherever it broke."""
        data = encoded(NOISE, FORMS[form][0], **FORMS[form][1])
        read_picture(saved(data))
        with pytest.raises(InputError, match="cut") as caught:
            read_picture(saved(data[: int(share * len(data))]), "input 'image': ")
        assert (caught.value.code, caught.value.exit_code) == ("bad-image", 2)
        assert caught.value.message.startswith("input 'image': /")

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (b"", "empty"),
            (bytes(1000), "nothing but zeros"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n", r"PostScript \(EPS\)"),
            (b"%PDF-1.7\n", "PDF"),
            (b'<?xml version="1.0"?><svg/>', "XML or SVG"),
            (b"<!DOCTYPE html><html>Not found</html>", "a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
            (b"8BPS\0\1", "a Photoshop file"),
        ],
    )
    def test_another_kind_of_file(self, saved, data, kind) -> None:
        """It is called what it is, and no program outside is asked."""
        with pytest.raises(InputError, match=f"no picture: it is {kind}") as caught:
            read_picture(saved(data))
        assert "JPEG, PNG" in caught.value.hint

    def test_text(self, saved) -> None:
        """What nobody knows."""
        with pytest.raises(InputError, match=r": no picture$"):
            read_picture(saved(b"some text"))

    def test_pil_says_nothing_of_its_own(self, saved) -> None:
        """Its log goes to stderr where nobody asked for one, samples without end for one."""
        data = encoded(flat("RGB", RED), "TIFF")
        samples = struct.pack("<HHI", 277, 3, 1)  # a tag, a short, one of it
        assert data.count(samples) == 1
        at = data.index(samples) + len(samples)
        path = saved(data[:at] + struct.pack("<I", 122) + data[at + 4 :])
        words = "import pathlib, sys; from wanflow.files.pictures import read_picture"
        words += "; read_picture(pathlib.Path(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", words, path], capture_output=True, text=True, check=False
        )
        assert "InputError" in done.stderr.splitlines()[-1]
        assert "samples per pixel" not in done.stderr

    def test_libtiff_says_nothing_of_its_own(self, saved, capfd) -> None:
        """It writes to stderr past Python, before a message of ours and its JSON."""
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        data = bytearray(encoded(Image.fromarray(noise), "TIFF", compression="tiff_lzw"))
        data[48:68] = b"\xff" * 20  # codes that nothing has defined yet
        with pytest.raises(InputError, match="cut or damaged"):
            read_picture(saved(bytes(data)))
        assert capfd.readouterr().err == ""

    def test_an_eps_is_never_rendered(self, saved) -> None:
        """PIL knows it, and would start Ghostscript."""
        with pytest.raises(InputError, match=r"PostScript \(EPS\)"):
            read_picture(saved(flat("RGB", RED), "EPS"))

    @pytest.mark.parametrize("side", [11_586, 20_000])
    def test_too_many_pixels(self, saved, side) -> None:
        """By what the header claims, before anything is decoded; past PIL's own limit as well."""
        with pytest.raises(
            InputError, match=f"has {side * side} pixels, a picture at most"
        ) as caught:
            read_picture(saved(png(np.zeros((1, 1, 3), np.uint16), claims=(side, side))))
        assert str(pictures.MOST_PIXELS) in caught.value.message

    def test_at_the_limit(self, saved, monkeypatch) -> None:
        """As many as are allowed, and one more."""
        monkeypatch.setattr(pictures, "MOST_PIXELS", 80 * 60)
        assert read_picture(saved(NOISE, "PNG")).size == (80, 60)
        monkeypatch.setattr(pictures, "MOST_PIXELS", 80 * 60 - 1)
        with pytest.raises(InputError, match="has 4800 pixels, a picture at most 4799"):
            read_picture(saved(NOISE, "PNG"))

    def test_too_many_bytes(self, saved, monkeypatch) -> None:
        """They are not read."""
        monkeypatch.setattr(pictures, "MOST_BYTES", 100)
        with pytest.raises(InputError, match="bytes, a picture at most 100"):
            read_picture(saved(NOISE, "PNG"))


class TestOneRead:
    """What was checked is what is shown."""

    def test_a_file_that_is_replaced(self, saved) -> None:
        """It is the old one that is shown."""
        path = saved(flat("RGB", RED), "PNG")
        picture = read_picture(path)
        path.unlink()
        assert picture.shown().getpixel((0, 0)) == RED
