"""Sound files: what is read is what was written, and what is damaged is told."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from coadtr.audio import AudioReader, microphone, read_audio, resample
from coadtr.errors import ConfigError, DataError, MissingExtraError
from tests.audio.writing import chirp, write_sound, write_wav

RATE = 22050
EXACT = [
    ("a.flac", "flac"),
    ("a.wav", "pcm_f32le"),
    ("b.wav", "pcm_s24le"),
    ("a.aiff", "pcm_s16be"),
    ("c.wav", "pcm_u8"),
]
LOSSY = [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.aac", "aac"), ("a.mka", "aac"), ("a.ogg", "libopus")]


def test_a_wav_of_the_standard_library_is_read_sample_by_sample(tmp_path: Path) -> None:
    samples = chirp(0.7, RATE)
    found, rate = read_audio(write_wav(tmp_path / "a.wav", samples, RATE))
    assert rate == RATE
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.round(samples[:, 0] * 32767).astype(np.float32) / 32768)


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = chirp(0.4, RATE, channels=2)
    with AudioReader(write_wav(tmp_path / "a.wav", samples, RATE)) as reader:
        assert (reader.channels, reader.source_rate_hz, reader.declared_seconds) == (2, RATE, 0.4)
        found = np.concatenate([*reader])
    np.testing.assert_allclose(found, (np.round(samples * 32767) / 32768).mean(1), atol=1e-7)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("name", "codec"), EXACT)
def test_formats_without_loss_give_what_was_written(tmp_path: Path, name: str, codec: str, channels: int) -> None:
    samples = chirp(0.5, RATE, channels=channels)
    found, rate = read_audio(write_sound(tmp_path / name, samples, RATE, codec))
    assert (rate, len(found)) == (RATE, len(samples))
    assert np.abs(found - samples.mean(1)).max() < (1 / 100 if codec == "pcm_u8" else 1e-4)


@pytest.mark.parametrize(("name", "codec"), LOSSY)
def test_formats_with_loss_sound_alike_at_the_same_time(tmp_path: Path, name: str, codec: str) -> None:
    rate = 48000
    samples = chirp(1.5, rate)
    found, _ = read_audio(write_sound(tmp_path / name, samples, rate, codec), rate_hz=8000)
    wanted = resample(samples[:, 0], rate, 8000)
    assert abs(len(found) - len(wanted)) < 0.05 * 8000
    # A stream of AAC without container does not say that its first 1024 samples lead in.
    shift = round(1024 / rate * 8000) if name == "a.aac" else 0
    middle = slice(1000, 9000)
    assert np.corrcoef(found[shift:][middle], wanted[middle])[0, 1] > 0.99


def test_resampled_while_reading_is_resampled_at_the_end(tmp_path: Path) -> None:
    samples = chirp(1.2, 44100)
    path = write_wav(tmp_path / "a.wav", samples, 44100)
    whole, _ = read_audio(path)
    found, rate = read_audio(path, rate_hz=16000)
    assert rate == 16000
    np.testing.assert_array_equal(found, resample(whole, 44100, 16000))


def test_the_sound_of_a_video_keeps_its_time(tmp_path: Path) -> None:
    samples = chirp(0.6, 48000)
    path = write_sound(tmp_path / "a.mkv", samples, 48000, "pcm_s16le", late=0.5)
    found, _ = read_audio(path)
    assert not found[: 24000 - 48].any()
    np.testing.assert_allclose(found[-len(samples) :], samples[:, 0], atol=1e-4)
    assert abs(len(found) - 24000 - len(samples)) <= 48  # Matroska rounds to milliseconds


def test_only_so_much_is_read(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", chirp(1.0, 8000), 8000)
    with AudioReader(path, max_seconds=0.25) as reader:
        assert sum(map(len, reader)) == 2000
    for most in (0, -1.0):
        with pytest.raises(ConfigError, match="give a positive number"):
            AudioReader(path, max_seconds=most)
    with pytest.raises(ConfigError, match="rate_hz=0: give samples a second"):
        AudioReader(path, rate_hz=0)


# A raw stream of AAC does not say how long it is; the last bytes of these three are less than lengths are rounded by.
CUT = [
    (name, codec, part)
    for name, codec in (*EXACT, *LOSSY)
    for part in (0.9999, 0.5, 0.1)
    if name != "a.aac" and (part < 0.9 or name not in {"a.mp3", "a.mka", "a.m4a"})
]


@pytest.mark.parametrize(("name", "codec", "part"), CUT)
def test_a_file_that_is_cut_short_is_told(tmp_path: Path, name: str, codec: str, part: float) -> None:
    rate = 48000
    whole = write_sound(tmp_path / name, chirp(4.0, rate), rate, codec)
    content = whole.read_bytes()
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match=rf"cut_{name}: .*(cut short|damaged data|cannot be opened).*: (copy|give)"):
        read_audio(cut)


def test_a_wav_says_how_many_bytes_are_missing(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", chirp(0.5, 8000), 8000)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(
        DataError, match=r"a\.wav: is cut short: its header says 8000 bytes of sound, and 7998 are there"
    ):
        AudioReader(path)


def test_a_wav_whose_recorder_did_not_know_its_length_is_read(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", chirp(0.5, 8000), 8000)
    content = bytearray(path.read_bytes())
    for place in (4, 40):
        content[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(read_audio(path)[0]) == 4000


def test_what_stands_before_the_sound_of_a_wav_does_not_matter(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", chirp(0.5, 8000), 8000)
    content = path.read_bytes()
    path.write_bytes(content[:36] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + content[36:])
    assert len(read_audio(path)[0]) == 4000
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cut short"):
        read_audio(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be opened"),
        (b"this is no sound\n" * 100, "cannot be opened"),
        (np.random.default_rng(0).bytes(20000), "cannot be opened"),
        (b"RIFF", "cannot be opened"),
    ],
    ids=["empty", "text", "noise", "start"],
)
def test_what_is_no_sound_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.wav: {told} \(.*\): give a sound file"):
        read_audio(path)


def test_a_file_without_sound_is_told(tmp_path: Path) -> None:
    silent = write_wav(tmp_path / "a.wav", np.zeros((0, 1), np.float32), 8000)
    with pytest.raises(DataError, match="holds no sound that can be decoded"):
        read_audio(silent)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"a\.mp4: has no sound \(it holds video\): give a sound file"):
        read_audio(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="cannot be opened"):
        read_audio(tmp_path)


def test_numbers_that_are_none_are_told(tmp_path: Path) -> None:
    samples = chirp(0.5, 8000)
    samples[3000] = np.nan
    path = write_sound(tmp_path / "a.wav", samples, 8000, "pcm_f32le")
    with pytest.raises(DataError, match="not finite"):
        read_audio(path)


def test_damage_inside_is_passed_over_and_counted(tmp_path: Path) -> None:
    samples = chirp(4.0, 8000)
    path = write_sound(tmp_path / "a.flac", samples, 8000, "flac")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with AudioReader(path) as reader:
        found = np.concatenate([*reader])
        assert reader.damaged == 1
    assert len(found) == 32000
    right = np.abs(found - samples[:, 0]) < 1e-4
    assert right[:10000].all()
    assert right[-10000:].all()  # at its time
    assert not found[~right].any()
    assert 100 < (~right).sum() < 10000


@pytest.mark.parametrize(
    ("platform", "number", "found"),
    [
        ("linux", "0", ("alsa", "default")),
        ("linux", "2", ("alsa", "hw:2")),
        ("darwin", "0", ("avfoundation", ":0")),
        ("win32", "Desk", ("dshow", "audio=Desk")),
    ],
)
def test_microphones_of_machines(
    monkeypatch: pytest.MonkeyPatch, platform: str, number: str, found: tuple[str, str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert microphone(f"microphone:{number}") == found
    assert microphone("microphone:pulse:default") == ("pulse", "default")
    assert microphone("clips/microphone.wav") is None


def test_a_microphone_is_heard() -> None:
    with AudioReader("microphone:lavfi:sine=frequency=440:duration=0.5:sample_rate=48000", rate_hz=8000) as reader:
        found = np.concatenate([*reader])
    assert len(found) == 4000
    assert np.argmax(np.abs(np.fft.rfft(found))) == 220
    with pytest.raises(DataError, match="check that it is connected"):
        AudioReader("microphone:alsa:nothing_of_that_name")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"coadtr\[audio\]"):
        read_audio(tmp_path / "a.wav")
