"""Odd images are read as torchvision reads them; broken ones are refused."""

import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from view_images import encoded, photo, sixteen_bit

from deit_pipe.pipeline import decode as decode_module
from deit_pipe.pipeline.decode import MAX_PIXELS, decode, size_of
from deit_pipe.pipeline.errors import BadImage


def exif_rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo(1, 40, 30), "JPEG", exif=exif)


def palette(transparent: bool) -> bytes:
    image = photo(2, 40, 30).quantize(16)
    options = {"transparency": bytes(range(0, 160, 10))} if transparent else {}
    return encoded(image, "PNG", **options)


RGB = photo(0, 41, 33)
FILES = {
    "jpeg 4:2:0": encoded(RGB, "JPEG", quality=80, subsampling=2),
    "jpeg 4:4:4": encoded(RGB, "JPEG", quality=95, subsampling=0),
    "jpeg 4:2:2": encoded(RGB, "JPEG", quality=85, subsampling=1),
    "jpeg progressive": encoded(RGB, "JPEG", progressive=True),
    "jpeg grey": encoded(RGB.convert("L"), "JPEG"),
    "jpeg cmyk": encoded(RGB.convert("CMYK"), "JPEG"),
    "jpeg rgb": encoded(RGB, "JPEG", keep_rgb=True),
    "jpeg exif 6": exif_rotated(),
    "png rgb": encoded(RGB, "PNG"),
    "png rgba": encoded(photo(3, 40, 30).convert("RGBA"), "PNG"),
    "png palette": palette(False),
    "png palette transparent": palette(True),
    "png grey": encoded(RGB.convert("L"), "PNG"),
    "png grey alpha": encoded(RGB.convert("LA"), "PNG"),
    "png bilevel": encoded(RGB.convert("1"), "PNG"),
    "png 16 bit": encoded(sixteen_bit(4, 20, 20), "PNG"),
    "tiff 16 bit": encoded(sixteen_bit(4, 20, 20), "TIFF"),
    "tiff cmyk": encoded(RGB.convert("CMYK"), "TIFF"),
    "gif": encoded(RGB.quantize(64), "GIF"),
    "bmp": encoded(RGB, "BMP"),
    "webp": encoded(RGB, "WEBP", lossless=True),
    "1 pixel high": encoded(photo(5, 50, 1), "PNG"),
    "1 pixel wide jpeg": encoded(photo(5, 1, 50), "JPEG"),
}


@pytest.mark.parametrize("name", FILES)
def test_odd_images_equal_torchvisions_rgb_conversion(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remark about palettes with alpha
        expected = Image.open(BytesIO(FILES[name])).convert("RGB")
    ours = decode(FILES[name])
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected))
    assert size_of(ours) == expected.size


@pytest.mark.parametrize("name", [name for name in FILES if "jpeg" in name])
def test_simplejpeg_and_pillow_give_the_same_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    fast = np.asarray(decode(FILES[name]))
    monkeypatch.setattr(decode_module, "simplejpeg", None)
    np.testing.assert_array_equal(fast, np.asarray(decode(FILES[name])))


def test_plain_jpegs_do_go_through_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    monkeypatch.setattr(decode_module, "_decode_any", lambda data: pytest.fail("decoded by Pillow"))
    for name in ("jpeg 4:2:0", "jpeg progressive", "jpeg grey"):
        decode(FILES[name])


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_raw_pixels_skip_the_decoder(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = np.broadcast_to(pixels[..., None], (9, 7, 3)) if len(shape) == 2 else pixels
    np.testing.assert_array_equal(np.asarray(decode(pixels)), expected)


def large_png(width: int, height: int) -> bytes:
    """A valid PNG of one colour: a few kilobytes for any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (40_000, 20_000)])
@pytest.mark.parametrize("limit", [MAX_PIXELS, None])
def test_decompression_bombs_are_refused(
    width: int, height: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a program has switched Pillow's own limit off."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImage, match=r"(?i)bomb"):
        decode(large_png(width, height))


def test_too_many_pixels_are_refused_whoever_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 41 * 33 - 1)
    for name in ("jpeg 4:2:0", "png rgb"):
        with pytest.raises(BadImage, match="41 x 33 pixels, more than 1352"):
            decode(FILES[name])
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 41 * 33)
    decode(FILES["jpeg 4:2:0"])


def test_a_jpeg_bomb_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encoded(RGB, "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", 30_000, 30_000)
    with pytest.raises(BadImage, match=r"(?i)bomb"):
        decode(bytes(data))


BROKEN = {
    "empty": b"",
    "text": b"hello, this is no image",
    "truncated jpeg": FILES["jpeg 4:2:0"][:-200],
    "truncated png": FILES["png rgb"][:300],
    "jpeg head only": FILES["jpeg 4:2:0"][:12],
    "broken png": FILES["png rgb"][:60] + bytes(20) + FILES["png rgb"][80:],
    "truncated gif": FILES["gif"][:60],
    "truncated tiff": FILES["tiff cmyk"][:90],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_raise_bad_image(name: str) -> None:
    with pytest.raises(BadImage):
        decode(BROKEN[name])
