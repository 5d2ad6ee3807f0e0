"""Uploads: which files are read, how often, and what the worst of them may cost."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import ExifTags, Image

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.explore import uploads
from ldm_explorer.explore.decode_upload import FORMATS, MAX_CPU_SECONDS, MAX_SIDE
from ldm_explorer.explore.images import uploaded_image
from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.uploads import read_upload
from ldm_explorer.ui import images
from ldm_explorer.ui.files import leave_undecoded
from ldm_explorer.ui.rooms import alphas_betas, reconstruction


def stripes(width: int = 60, height: int = 40) -> Image.Image:
    return Image.fromarray(np.tile((np.arange(width) * 4 % 256).astype(np.uint8), (height, 1)))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(side: int, rows: bytes, depth: int = 8, color: int = 0, interlaced: int = 0, before: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, color, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def decode(path: Path) -> tuple[str, float]:
    """The answer about a file, and the peak memory in MB of the process that gives it, interpreter and all."""
    code = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, uploads.DECODER, path], capture_output=True, check=True)
    return done.stdout.split(b"\n", 1)[0].decode(), int(done.stderr.split()[-2]) / 1024


@pytest.mark.parametrize("format_", FORMATS)
def test_each_format_is_read_as_it_is(format_, tmp_path):
    stripes().save(tmp_path / "picture", format_)
    read = read_upload(tmp_path / "picture")
    assert read.size == (60, 40)
    assert np.abs(np.asarray(read.convert("L")).astype(int) - np.asarray(stripes())).max() <= 12


OTHER_FORMATS = ["EPS", "PDF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF", "DDS", "PCX", "SGI", "ICNS"]


@pytest.mark.parametrize("format_", OTHER_FORMATS)
def test_other_formats_are_refused_whatever_the_name_says(format_, tmp_path):
    stripes().resize((64, 64)).save(tmp_path / "picture.png", format_)
    with pytest.raises(ValueError, match="cannot be read as an image: give one of PNG, JPEG, WebP, GIF, BMP, TIFF"):
        read_upload(tmp_path / "picture.png")


def test_what_is_drawn_by_a_program_is_refused(tmp_path):
    for text in ("<svg xmlns='http://www.w3.org/2000/svg'/>", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ""):
        (tmp_path / "picture.png").write_text(text)
        with pytest.raises(ValueError, match="cannot be read as an image"):
            read_upload(tmp_path / "picture.png")


def test_a_file_that_is_gone_is_said_to_be_gone(tmp_path):
    with pytest.raises(ValueError, match="no longer there"):
        read_upload(tmp_path / "gone.png")


def test_the_size_is_looked_at_before_anything_is_decoded(tmp_path):
    (tmp_path / "huge.png").write_bytes(png(10_000, b"\0" * 10_001 * 10_000))
    answer, peak_memory_mb = decode(tmp_path / "huge.png")
    assert "10000 x 10000 pixels: give one of at most 4,096 a side" in json.loads(answer)["refused"]
    assert peak_memory_mb < 40, "it was decoded"


def tmp_path_with(image: Image.Image, folder: Path, **options) -> Path:
    image.save(folder / "picture.png", **options)
    return folder / "picture.png"


def test_a_large_picture_is_made_small_and_stays_what_it_is(tmp_path):
    small = stripes(1000, 700).convert("RGB")
    for name, options in (("p.png", {}), ("p.jpg", {"quality": 95}), ("p.tif", {"compression": "tiff_lzw"})):
        small.resize((4000, 2800), Image.Resampling.BICUBIC).save(tmp_path / name, **options)
        read = read_upload(tmp_path / name)
        assert read.size in ((1000, 700), (1024, 717))
        again = np.asarray(read.resize(small.size)).astype(int)
        assert np.abs(again - np.asarray(small))[:, 70:-70].mean() < 6, name


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path_with(stripes(), tmp_path, exif=exif)
    assert np.array_equal(np.asarray(read_upload(path)), np.asarray(stripes().transpose(Image.Transpose.ROTATE_270)))


def test_a_picture_of_one_row_is_read(tmp_path):
    for name in ("row.jpg", "row.png"):
        stripes(4000, 1).save(tmp_path / name)
        assert read_upload(tmp_path / name).size[1] == 1


def test_only_the_first_picture_of_a_film_is_read(tmp_path):
    frames = [stripes().point(lambda value, of=number: (value + of) % 256) for number in range(30)]
    for name in ("film.gif", "film.png", "film.webp", "film.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert np.array_equal(np.asarray(read_upload(tmp_path / name).convert("L")), np.asarray(stripes())), name


def test_sixteen_bits_and_transparency_are_kept_for_those_who_judge_them(ldm_folder, tmp_path):
    deep = Image.fromarray(np.asarray(stripes()).astype(np.uint16) * 257)
    assert np.asarray(read_upload(tmp_path_with(deep, tmp_path))).max() > 60_000
    seen = stripes().convert("RGBA")
    seen.putalpha(Image.fromarray((np.asarray(stripes()) > 9).astype(np.uint8) * 255))
    read = read_upload(tmp_path_with(seen, tmp_path))
    assert read.mode == "RGBA"
    assert any("Transparent" in note for note in uploaded_image(read, read_checkpoint(ldm_folder), None).notes)
    Image.fromarray(np.ones((9, 9), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="floating-point"):
        read_upload(tmp_path / "float.tif")


def jpeg_of_many_segments() -> bytes:
    """Each is added to those before it by whoever reads them."""
    content = io.BytesIO()
    stripes().save(content, "JPEG")
    return content.getvalue()[:2] + b"\xff\xe1\x00\x09Exif\0\0x" * 1_300_000 + content.getvalue()[2:]


def tiff_of_one_large_tile() -> bytes:
    """100 x 100 pixels in a tile of 32,000 x 32,000."""
    tags = {256: 100, 257: 100, 258: 8, 259: 8, 262: 1, 277: 1, 322: 32_000, 323: 32_000, 324: 200, 325: 1_000_000}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + zlib.compress(bytes(1024**3 // 4), 9)


def webp_of_four_thousand() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4000, 4000), "red").save(content, "WEBP", method=0)
    return content.getvalue()


BOMBS = {
    "texts": lambda: png(64, bytes(65 * 64), before=chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2**20)) * 99),
    "segments": jpeg_of_many_segments,
    "tile": tiff_of_one_large_tile,
    "webp": webp_of_four_thousand,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_takes_too_much_memory_or_time_is_refused_in_a_sentence(name, tmp_path, monkeypatch):
    impatient = tmp_path / "decoder.py"  # so that the test is not the one that waits
    source = uploads.DECODER.read_text().replace(f"MAX_CPU_SECONDS = {MAX_CPU_SECONDS}", "MAX_CPU_SECONDS = 1")
    impatient.write_text(source)
    monkeypatch.setattr(uploads, "DECODER", impatient)
    (tmp_path / name).write_bytes(BOMBS[name]())
    with pytest.raises(ValueError, match=r"^the image .*(too much|too many)"):
        read_upload(tmp_path / name)


def test_the_largest_picture_that_is_read_stays_within_its_memory(tmp_path):
    row = b"\0" + np.arange(MAX_SIDE * 4, dtype=">u2").tobytes()
    (tmp_path / "deep.png").write_bytes(png(MAX_SIDE, row * MAX_SIDE, depth=16, color=6))
    answer, peak_memory_mb = decode(tmp_path / "deep.png")
    assert json.loads(answer) == {"mode": "RGBA", "size": [1024, 1024]}
    assert peak_memory_mb < 150


@pytest.fixture
def decodes(monkeypatch) -> list[str]:
    """The files that were decoded so far."""
    decoded, run = [], uploads.subprocess.run

    def counted(command, **options):
        decoded.append(Path(command[-1]).name)
        return run(command, **options)

    monkeypatch.setattr(uploads.subprocess, "run", counted)
    return decoded


def test_a_file_is_decoded_once_whoever_asks_and_so_is_one_that_is_refused(ldm_folder, tmp_path, decodes, monkeypatch):
    library = open_library(ldm_folder.parents[1])
    path = str(tmp_path_with(stripes(), tmp_path))
    monkeypatch.setattr(images, "get_upload_folder", lambda: str(tmp_path))
    asked = {"checkpoint": "tiny-ldm", "class_name": "Bag", "upload": path}
    ((shown,),) = reconstruction.answer(library, reconstruction.SETTINGS(**asked), None)
    assert "Your image" in shown["sentence"]
    assert "your-image.png" in reconstruction.script(library, reconstruction.SETTINGS(**asked))
    ((shown, *_),) = alphas_betas.answer(library, alphas_betas.SETTINGS(**asked), None)
    assert shown["done"]
    assert decodes == ["picture.png"]
    (tmp_path / "text.png").write_text("no picture")
    for _ in range(3):
        with pytest.raises(ValueError, match="cannot be read"):
            read_upload(tmp_path / "text.png")
    assert decodes == ["picture.png", "text.png"]
    tmp_path_with(stripes(70), tmp_path)
    assert read_upload(path).width == 70, "another file of that name"


def test_what_is_done_to_a_picture_leaves_the_kept_one_alone(tmp_path):
    path = tmp_path_with(stripes(), tmp_path)
    read_upload(path).paste(0, (0, 0, 60, 40))
    assert np.array_equal(np.asarray(read_upload(path)), np.asarray(stripes()))


def test_a_path_of_the_server_is_not_read(tmp_path):
    upload = gr.Image(type="filepath")
    leave_undecoded(upload)
    path = tmp_path_with(stripes(), tmp_path)
    inside = Path(upload.GRADIO_CACHE) / ".." / path.relative_to(path.anchor)
    for forged in (path, inside, "", "data:image/png;base64,AAAA"):
        with pytest.raises(gr.Error, match="as a file"):
            upload.preprocess(upload.data_model(path=str(forged)))
    with pytest.raises(gr.Error, match="as a file"):
        upload.preprocess(upload.data_model(url="data:image/png;base64,AAAA"))
    assert upload.preprocess(None) is None
