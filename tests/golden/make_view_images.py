"""Make the 20 small images of tests/golden/views. Run once; encoders differ, so the files themselves are kept.

python tests/golden/make_view_images.py
"""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from view_images import encoded, photo, sixteen_bit

FOLDER = Path(__file__).with_name("views")


def images() -> dict[str, bytes]:
    rotated = Image.Exif()
    rotated[0x0112] = 6
    alpha = photo(7, 60, 44).convert("RGBA")
    alpha.putalpha(photo(8, 60, 44).convert("L"))
    return {
        "00_420_odd.jpg": encoded(photo(0, 97, 65), "JPEG", quality=85, subsampling=2),
        "01_444.jpg": encoded(photo(1, 80, 60), "JPEG", quality=92, subsampling=0),
        "02_422_wide.jpg": encoded(photo(2, 150, 31), "JPEG", quality=80, subsampling=1),
        "03_progressive_tall.jpg": encoded(photo(3, 31, 140), "JPEG", quality=80, progressive=True),
        "04_grey.jpg": encoded(photo(4, 64, 64).convert("L"), "JPEG"),
        "05_cmyk.jpg": encoded(photo(5, 56, 40).convert("CMYK"), "JPEG"),
        "06_rgb.jpg": encoded(photo(6, 56, 40), "JPEG", keep_rgb=True),
        "07_exif.jpg": encoded(photo(7, 70, 50), "JPEG", exif=rotated),
        "08_rgb.png": encoded(photo(8, 48, 48), "PNG"),
        "09_rgba.png": encoded(alpha, "PNG"),
        "10_palette.png": encoded(photo(10, 70, 50).quantize(32), "PNG"),
        "11_palette_alpha.png": encoded(photo(11, 50, 70).quantize(16), "PNG", transparency=bytes(range(0, 160, 10))),
        "12_grey.png": encoded(photo(12, 28, 28).convert("L"), "PNG"),
        "13_grey16.png": encoded(sixteen_bit(13, 40, 30), "PNG"),
        "14_bilevel.png": encoded(photo(14, 90, 60).convert("1"), "PNG"),
        "15_one_high.png": encoded(photo(15, 120, 1), "PNG"),
        "16_one_wide.jpg": encoded(photo(16, 1, 90), "JPEG"),
        "17.gif": encoded(photo(17, 45, 60).quantize(64), "GIF"),
        "18.bmp": encoded(photo(18, 33, 20), "BMP"),
        "19_tiny.png": encoded(photo(19, 3, 2), "PNG"),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, data in images().items():
        (FOLDER / name).write_bytes(data)
    print(f"{len(images())} images in {FOLDER}")
