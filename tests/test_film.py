"""The film of a run: what is written is read back, in the order of training."""

import shutil

import pytest
import torch
from PIL import Image

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.explore.training_film import training_film
from ldm_explorer.film import FilmFrame, cut_film, is_milestone, read_film, write_frame
from ldm_explorer.run_folder import MARK


def frame(step: int, channels: int = 1) -> FilmFrame:
    generator = torch.Generator().manual_seed(step)
    return FilmFrame(step, torch.randint(0, 256, (3, channels, 28, 28), generator=generator, dtype=torch.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_is_read_back_bit_for_bit_in_the_order_of_training(tmp_path, channels):
    for step in (512, 8, 64):
        write_frame(tmp_path, frame(step, channels))
    film = read_film(tmp_path, channels)
    assert [shown.step for shown in film] == [8, 64, 512]
    assert all(torch.equal(shown.images, frame(shown.step, channels).images) for shown in film)


def test_a_run_without_a_film_has_no_frames(tmp_path):
    assert read_film(tmp_path, 1) == ()


def test_a_broken_frame_is_named(tmp_path):
    write_frame(tmp_path, frame(8))
    (tmp_path / "film" / "step-000000008.webp").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"step-000000008\.webp is no picture"):
        read_film(tmp_path, 1)


def test_files_that_are_no_frames_do_not_count_and_in_a_run_none_that_it_did_not_write(tmp_path):
    write_frame(tmp_path, frame(8))
    for name in ("step-a", "step-", "step-of-mine", "step-16", f"step-{'9' * 200}", "step-000000009"):
        (tmp_path / "film" / f"{name}.webp").write_text("mine")
    assert [shown.step for shown in read_film(tmp_path, 1)] == [8]
    shutil.rmtree(tmp_path / MARK)
    with pytest.raises(ValueError, match=r"step-000000009\.webp is no picture"):
        read_film(tmp_path, 1)
    (tmp_path / "film" / "step-000000009.webp").unlink()
    assert [shown.step for shown in read_film(tmp_path, 1)] == [8]


def test_more_than_a_training_writes_is_refused(tmp_path):
    write_frame(tmp_path, frame(8))
    shutil.rmtree(tmp_path / MARK)
    written = tmp_path / "film" / "step-000000008.webp"
    wide = tmp_path / "film" / "step-000000009.webp"
    Image.new("L", (8000, 1)).save(wide)
    with pytest.raises(ValueError, match=r"009\.webp is no strip of squares, 1,000 at most: it has 8000 x 1 pixels"):
        read_film(tmp_path, 1)
    wide.unlink()
    for step in range(100, 164):
        shutil.copy(written, written.with_name(f"step-{step:09}.webp"))
    with pytest.raises(ValueError, match="film holds more than 64 frames"):
        read_film(tmp_path, 1)


def test_going_back_cuts_the_film(tmp_path):
    for step in (8, 64, 512):
        write_frame(tmp_path, frame(step))
    cut_film(tmp_path, 64)
    assert [shown.step for shown in read_film(tmp_path, 1)] == [8, 64]


def test_milestones_double_and_end_with_the_last_step():
    assert [step for step in range(1, 101) if is_milestone(step, 100)] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert not is_milestone(100, None)
    assert not is_milestone(0, 100)


def test_the_film_of_a_training_has_its_moments_in_order_with_the_classes_by_name(ldm_folder, vae_folder):
    film = training_film(read_checkpoint(ldm_folder))
    assert [(moment.step, moment.total_steps) for moment in film] == [(step, 5) for step in (1, 2, 4, 5)]
    assert {len(moment.images) for moment in film} == {len(film[0].titles)} == {12}
    assert "Ankle boot" in film[0].titles
    assert training_film(read_checkpoint(vae_folder)) == ()
