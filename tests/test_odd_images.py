"""Each kind of odd image file ends as the reference's pixels, or in rejects.csv with the reason."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_codec import BAD, GREY, MODES, encoded, interlaced, noise, png_file, png_rows, reference
from tiny_nih import HEADER

from shards.codec import BadImageError, decode_image
from shards.encoding import read_image
from shards.fold import open_fold
from shards.manifest import read_manifest
from shards.pack import pack

SIZE = 24
GREY_RGB = MODES["RGB"]
ROTATED = Image.Exif()
ROTATED[0x0112] = 6

GOOD_FILES = {
    **{f"mode {mode}.png": encoded(image) for mode, image in MODES.items()},
    "cmyk.jpg": encoded(GREY_RGB.convert("CMYK"), "JPEG"),
    "exif rotated.jpg": encoded(Image.fromarray(noise(40, 60)), "JPEG", exif=ROTATED),
    "progressive.jpeg": encoded(Image.fromarray(GREY), "JPEG", progressive=True),
    "interlaced.png": interlaced(GREY),
    "4 bits.png": png_file(48, 4, 0, png_rows(noise(48, 24))),
    "48 bits.png": png_file(48, 16, 2, png_rows(noise(48, 48 * 6).reshape(48, 48, 6)[..., [0, 1] * 3])),
    "transparent palette.png": encoded(MODES["P"], transparency=3),
    "transparent grey.png": encoded(Image.fromarray(GREY), transparency=3),
    "jpeg named.png": encoded(Image.fromarray(GREY), "JPEG"),
    "png named.JPG": encoded(Image.fromarray(GREY)),
    "a.dot.in.the.name.png": encoded(Image.fromarray(GREY)),
    "ünïcödé 像.png": encoded(Image.fromarray(GREY)),
    f"{'long' * 60}.png": encoded(Image.fromarray(GREY)),
}
BAD_FILES = {f"bad {kind}.png": data for kind, (data, _) in BAD.items()}
REASONS = {f"bad {kind}.png": reason for kind, (_, reason) in BAD.items()}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of odd images and the shards that they are packed into."""
    folder = tmp_path_factory.mktemp("odd")
    images = folder / "images"
    images.mkdir()
    files = {**GOOD_FILES, **BAD_FILES}
    rows = [HEADER]
    for number, (name, data) in enumerate(files.items()):
        (images / name).write_bytes(data)
        rows.append(f"{name},No Finding,0,{number},30,F,PA,1,1,1,1\n")
    (images / "gone.png").symlink_to(folder / "nowhere")
    (folder / "labels.csv").write_text("".join(rows) + "gone.png,No Finding,0,99,30,F,PA,1,1,1,1\n")
    pack(
        folder / "shards",
        "nih",
        [images],
        folder / "labels.csv",
        ["patient"],
        size=SIZE,
        num_workers=2,
        max_rejects=len(BAD_FILES) + 1,
        progress=False,
    )
    return images, folder / "shards"


@pytest.mark.parametrize("name", GOOD_FILES)
def test_a_good_file_of_an_odd_kind_has_the_references_pixels(odd: tuple[Path, Path], name: str) -> None:
    images, shards = odd
    manifest = read_manifest(shards)
    for fold in manifest.counts:
        opened = open_fold(shards, manifest, fold)
        for position in np.flatnonzero(opened.table["image_id"] == name):
            pixels = np.asarray(opened.image(int(position)))
            expected = reference((images / name).read_bytes(), SIZE)
            if name == "cmyk.jpg":  # of a JPEG's CMYK the reference's three channels differ by rounding
                assert np.abs(pixels[..., None].astype(int) - expected).max() <= 1
            else:
                assert (pixels[..., None] == expected).all()
            return
    raise AssertionError(f"{name} is in no fold")


@pytest.mark.parametrize("name", [*BAD_FILES, "gone.png"])
def test_a_bad_file_is_listed_with_the_reason(odd: tuple[Path, Path], name: str) -> None:
    rejects = pd.read_csv(odd[1] / "rejects.csv").set_index("image_id")
    assert set(rejects.index) == {*BAD_FILES, "gone.png"}
    assert pd.Series(rejects.loc[name, "reason"]).str.contains(REASONS.get(name, "No such file")).all()


def test_a_file_too_large_for_an_image_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadImageError, match="1,099,511,627,776 bytes: more than"):
        read_image(str(path))


def test_every_changed_bit_of_a_file_is_found_or_changes_no_pixel() -> None:
    """Pillow checks no checksum of pixels while it loads: of this file seven bytes could change pixels unseen."""
    ramp = np.add.outer(np.arange(90), np.arange(90)).astype(np.uint8)
    data = encoded(Image.fromarray(ramp))
    unseen = 0
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with contextlib.suppress(BadImageError):
            assert decode_image(changed).tobytes() == ramp.tobytes()
        with contextlib.suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            unseen += np.asarray(Image.open(io.BytesIO(changed))).tobytes() != ramp.tobytes()
    assert unseen == 7
