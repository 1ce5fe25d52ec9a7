import io
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from posecov.errors import PosecovError
from posecov.images import PictureTooLarge, decode_image, list_images, read_image, upright_size

RGB = np.zeros((40, 60, 3), dtype=np.uint8)
RGB[:, :, 0] = 250
RGB[:20, :30] = (10, 200, 90)
BGR = RGB[:, :, ::-1]


def huge_png(path, side=20_000):
    """A valid 1-bit PNG of side x side pixels in a few kilobytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.ppm"])
def test_lossless_formats_give_the_pixels_in_bgr(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image, BGR)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_jpeg_and_a_wrong_ending(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    (tmp_path / "a.jpg").rename(tmp_path / "b.png")
    assert np.abs(read_image(tmp_path / "b.png").astype(int) - BGR).max() <= 3


def test_gif_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.abs(read_image(tmp_path / "a.gif").astype(int) - BGR).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    # What must be done to the stored picture to show it (EXIF 2.3, table of orientations).
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), undo(BGR))


@pytest.mark.filterwarnings("error")
def test_broken_exif_does_not_cost_the_picture(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), BGR)


def test_grey(tmp_path):
    Image.fromarray(RGB[:, :, 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(RGB[:, :, :1], 3, axis=2))


def test_one_bit(tmp_path):
    Image.fromarray(RGB[:, :, 0] > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[:, :, 0], np.where(RGB[:, :, 0] > 100, 255, 0))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path, ending):
    ramp = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{ending}"), ramp)
    image = read_image(tmp_path / f"a.{ending}")
    assert image.min() == 0
    assert image.max() == 255
    np.testing.assert_array_equal(image[:, :, 1], np.round(ramp / 257))


def test_sixteen_bit_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), BGR.astype(np.uint16) * 257)
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - BGR).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path, mode):
    rgba = np.dstack([np.repeat(RGB[:, :, :1], 3, axis=2), np.full((40, 60), 255, np.uint8)])
    rgba[5:10, 5:10, 3] = 0
    image = Image.fromarray(rgba)
    if mode == "P":
        image = image.convert("RGB").quantize(4)
        hole = image.getpixel((0, 0))
        image.save(tmp_path / "a.png", transparency=hole)
        expected = np.where(RGB[:, :, :1] == RGB[0, 0, 0], 255, RGB[:, :, :1]).repeat(3, axis=2)
    else:
        image.convert(mode).save(tmp_path / "a.png")
        expected = np.where(rgba[:, :, 3:] == 0, 255, rgba[:, :, :3])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_half_transparent_mixes_with_white(tmp_path):
    Image.new("RGBA", (20, 20), (0, 100, 200, 128)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[3, 3], (227, 177, 127), atol=1)


def test_palette(tmp_path):
    Image.fromarray(RGB).quantize(8).save(tmp_path / "a.png")
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - BGR).max() <= 2


def test_cmyk(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - BGR).max() <= 6


def jpeg(progressive=False):
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", progressive=progressive)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.99])
def test_a_truncated_jpeg_is_refused_not_used_in_part(tmp_path, share, progressive):
    content = jpeg(progressive)
    path = tmp_path / "cut.jpg"
    path.write_bytes(content)
    read_image(path)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PosecovError, match=r"cut\.jpg: ") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "tif", "gif"])
def test_other_truncated_pictures_are_refused(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PosecovError, match=rf"cut\.{ending}: "):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.jpg", "no such file"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a picture"),
        ("folder", "folder"),
        ("x" * 300, "read"),
    ],
)
def test_what_is_no_picture(tmp_path, name, said):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("This is not a picture.\nNot at all.\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PosecovError, match=said) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_too_small(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(PosecovError, match=rf"a\.png: {size[0]} x {size[1]} pixels is too small"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [20_000, 11_000])
def test_too_large_is_refused_before_decoding(tmp_path, side):
    path = huge_png(tmp_path / "huge.png", side)
    tracemalloc.start()
    with pytest.raises(PosecovError, match=r"huge\.png: .*megapixels"):
        read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.filterwarnings("error")
def test_a_large_picture_within_the_limit_is_read_without_warnings(tmp_path):
    assert read_image(huge_png(tmp_path / "large.png", 9_600)).shape == (9_600, 9_600, 3)


def test_a_folder_stands_for_its_pictures_in_order(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c.webp").touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in list_images([tmp_path])] == ["a.png", "b.JPG"]
    assert [p.name for p in list_images([tmp_path], recursive=True)] == ["a.png", "b.JPG", "c.webp"]
    assert list_images([tmp_path / "inner", "other.bin"]) == [tmp_path / "inner" / "c.webp", type(tmp_path)("other.bin")]


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(PosecovError, match="no pictures"):
        list_images([tmp_path])


def test_a_picture_from_memory_is_that_of_the_file(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), BGR)
    np.testing.assert_array_equal(decode_image((tmp_path / "a.png").read_bytes(), "a.png"), BGR)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty"), (b"GIF89a", "a.png: "), (b"%!PS-Adobe-3.0 EPSF-3.0", "not a picture")]
)
def test_what_is_no_picture_in_memory(content, said):
    with pytest.raises(PosecovError, match=said):
        decode_image(content, "a.png")


def test_the_limit_of_pixels_counts_before_anything_is_decoded(tmp_path):
    content = huge_png(tmp_path / "huge.png", 3_000).read_bytes()
    tracemalloc.start()
    with pytest.raises(PictureTooLarge, match=r"^a: the picture has more than 2\.5 megapixels"):
        decode_image(content, "a", 2_500_000)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert decode_image(content, "a", 9_000_000).shape == (3_000, 3_000, 3)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_upright_picture(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    Image.fromarray(RGB).save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    image = read_image(path)
    wanted = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    np.testing.assert_array_equal(image, np.asarray(wanted)[:, :, ::-1])
    assert upright_size(path) == image.shape[1::-1]


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_large_pictures_are_in_memory_twice_at_most(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (4000, 3000), (10, 20, 30, 40)).save(path, compress_level=1)
    read_image(path)
    Path("/proc/self/clear_refs").write_text("5")

    def status(key):
        return int(Path("/proc/self/status").read_text().partition(f"{key}:")[2].split()[0]) * 1024

    before = status("VmRSS")
    image = read_image(path)
    assert image.shape == (3000, 4000, 3)
    assert status("VmHWM") - before < 12_000_000 * (4 + 3) + 90_000_000


def test_more_transparent_colours_than_a_palette_has(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).convert("P").save(path, transparency=bytes(range(200)))
    content = path.read_bytes()
    at = content.index(b"tRNS")
    after = at + 8 + struct.unpack(">I", content[at - 4 : at])[0]
    many = b"tRNS" + bytes(300)
    path.write_bytes(content[: at - 4] + struct.pack(">I", 300) + many + struct.pack(">I", zlib.crc32(many)) + content[after:])
    with pytest.raises(PosecovError, match=r"the picture is damaged \(palette index"):
        read_image(path)


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_lengths_that_a_damaged_file_promises_are_not_asked_for(tmp_path):
    import resource

    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    content = path.read_bytes()
    at = content.index(b"IDAT")
    path.write_bytes(content[: at - 4] + struct.pack(">I", 0xFF000058) + content[at:])
    bounds = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/status").read_text().partition("VmSize:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, bounds[1]))
    try:
        assert read_image(path).shape == (40, 60, 3)
    except PosecovError as error:
        assert "MemoryError" not in str(error)  # noqa: PT017
    finally:
        resource.setrlimit(resource.RLIMIT_AS, bounds)
