"""What is wrong with a dataset on disk is said in one line, and nothing is half valid."""

import pickle
import re
import shutil

import numpy as np
import pytest
import torch

from rollingq_core.__main__ import main
from rollingq_core.data import (
    hmdb51,
    kinetics_sounds,
    load_dataset,
    mosei,
    mosei_features,
    store,
    ucf101,
    unpickling,
    video,
)
from rollingq_core.data.cache import reading as cache
from rollingq_core.data.fbank import KINETICS_SOUNDS_CODE
from tests import folders
from tests.killed import kill_at
from tests.refused import Payload, refused

KS, UCF, HMDB = kinetics_sounds.KINETICS_SOUNDS, ucf101.UCF101, hmdb51.HMDB51


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    base = tmp_path_factory.mktemp("sources")
    folders.make_kinetics_sounds(base / "kinetics_sounds", 8)
    folders.make_kinetics_sounds(base / "kinetics_sounds_jpg", 8, jpgs=True)
    folders.make_ucf101(base / "ucf101", ["Archery"])
    folders.make_hmdb51(base / "hmdb51", ["catch"])
    return base


@pytest.fixture
def root_of(sources, tmp_path, monkeypatch):
    """Return a copy of a small folder; there is no data root."""
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path / "no data"))
    return lambda name: shutil.copytree(sources / name, tmp_path / name)


def first(root, pattern):
    return sorted(root.rglob(pattern))[0]


def half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path):
    path.write_bytes(b"")


def without_sound(path):
    folders.write_video(path, [np.zeros((*folders.SIZE, 3), np.uint8)] * 2)


@pytest.mark.parametrize(
    ("name", "pattern", "damage", "said"),
    [
        ("kinetics_sounds", "*.mp4", half, "is cut short"),
        ("kinetics_sounds", "*.mp4", emptied, "can't be decoded"),
        ("kinetics_sounds", "*.mp4", without_sound, "holds no sound"),
        ("ucf101", "*.avi", half, "is cut short"),
        ("ucf101", "*flow_x.mp4", half, "is cut short"),
        ("hmdb51", "*.avi", emptied, "can't be decoded"),
    ],
)
def test_damaged_media_are_named_and_nothing_looks_finished(
    name, pattern, damage, said, root_of, capsys
):
    root = root_of(name)
    path = first(root, pattern)
    damage(path)
    message = refused(capsys, "data", "prepare", name, "--root", root)
    assert str(path) in message
    assert said in message
    assert not list(root.rglob("manifest.json"))
    with pytest.raises(FileNotFoundError, match="no prepared"):
        load_dataset(name, root=root)


@pytest.mark.parametrize(
    ("name", "pattern"), [("ucf101", "*.avi"), ("ucf101", "*_y.mp4"), ("hmdb51", "*_x.mp4")]
)
def test_an_action_without_one_of_its_videos_is_named(name, pattern, root_of, capsys):
    root = root_of(name)
    (root / "trainlist01.txt").write_text(
        "".join(f"Archery/{path.name} 3\n" for path in sorted((root / "video").glob("*.avi")))
    )
    path = first(root, pattern)
    path.unlink()
    message = refused(capsys, "data", "prepare", name, "--root", root)
    assert f"{path} is missing, and 0 more" in message


def test_a_sound_clip_that_is_gone_is_left_out_and_one_that_comes_later_is_asked_about(root_of):
    root = root_of("kinetics_sounds")
    report = kinetics_sounds.verify(root)
    assert report.ok
    assert [line[:11] for line in report.left_out] == ["gone_000000"]
    folder = kinetics_sounds.prepare(root)
    names = cache.read_manifest(folder)["names"]
    assert len(names) == 8
    shutil.copy(
        root / kinetics_sounds.VIDEOS / f"{names[0]}.mp4",
        root / kinetics_sounds.VIDEOS / "gone_000000_000005_000015.mp4",
    )
    with pytest.raises(ValueError, match="delete it, and run again"):
        kinetics_sounds.prepare(root)


@pytest.mark.parametrize("decoder", ["pyav", "ffmpeg"])
def test_any_rate_and_number_of_channels_give_the_same_sound(decoder, tmp_path):
    if decoder == "ffmpeg" and not shutil.which("ffmpeg"):
        pytest.skip("needs ffmpeg")
    waves = []
    for rate, channels in ((16000, 1), (44100, 2)):
        path = tmp_path / f"{rate}.mp4"
        time = np.arange(2 * rate) / rate
        picture = np.zeros((*folders.SIZE, 3), np.uint8)
        sound = 0.3 * np.sin(2 * np.pi * 440 * time)
        folders.write_video(path, [picture] * 2, sound, sample_rate=rate, channels=channels)
        waves.append(video.sound_of_video(path, decoder, 16000)[4000:28000])
    loudest = [np.abs(np.fft.rfft(wave)).argmax() for wave in waves]
    assert loudest == [440 * 24000 // 16000] * 2
    assert [wave.std() for wave in waves] == pytest.approx([0.3 / 2**0.5] * 2, rel=0.02)
    folders.write_video(tmp_path / "mute.mp4", [picture] * 2)
    with pytest.raises(ValueError, match="holds no sound"):
        video.sound_of_video(tmp_path / "mute.mp4", decoder, 16000)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize("per_second", [1, 4])
def test_both_decoders_choose_the_same_pictures(per_second, tmp_path):
    shades = [np.full((*folders.SIZE, 3), 20 * n, np.uint8) for n in range(10)]
    folders.write_video(tmp_path / "film.mp4", shades)
    found = [
        video.middles_of_video(
            tmp_path / "film.mp4", decoder, (24, 32), 3, per_second=per_second, mode="L"
        )
        for decoder in ("pyav", "ffmpeg")
    ]
    assert np.abs(found[0].astype(int) - found[1]).max() < 4
    assert found[0].shape == (3, 24, 32)


def test_three_pictures_are_the_middles_and_come_twice_where_there_are_fewer(tmp_path):
    shades = [np.full((*folders.SIZE, 3), 20 * n, np.uint8) for n in range(10)]
    folders.write_jpgs(tmp_path / "ten", shades)
    folders.write_jpgs(tmp_path / "two", shades[4:6])
    for name, expected in (("ten", [20, 100, 160]), ("two", [80, 100, 100])):
        found = video.middles_of_folder(tmp_path / name, (24, 32), 3)
        assert found.shape == (3, 24, 32, 3)
        assert np.abs(found.mean(axis=(1, 2, 3)) - expected).max() < 3
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no \.jpg"):
        video.middles_of_folder(tmp_path / "none", (24, 32), 3)


def test_sounds_from_wavs_and_pictures_in_both_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path / "no data"))
    folders.make_kinetics_sounds(tmp_path, 8, jpgs=True)
    assert kinetics_sounds.verify(tmp_path).pictures == "jpg"
    for audio, shape in (("code", (1, 128, 1024)), ("paper", (1, 257, 1004))):
        kinetics_sounds.prepare(tmp_path, audio)
        train = load_dataset("kinetics_sounds", root=tmp_path, audio=audio).train
        inputs, _ = train.__getitems__([0])
        assert inputs["audio"].shape == (1, *shape)
        assert inputs["visual"].shape == (1, 3, 672, 224)


@pytest.mark.parametrize("samples", [0, 99, 399])
def test_a_sound_too_short_for_a_frame_is_named(samples, root_of, capsys):
    root = root_of("kinetics_sounds_jpg")
    path = first(root, "*.wav")
    folders.write_wav(path, np.ones(samples))
    for action in ("prepare", "verify"):
        with pytest.raises(SystemExit):
            main(["data", action, "kinetics_sounds", "--root", str(root)])
        said = "".join(capsys.readouterr())
        assert str(path) in said
        assert (f"holds {samples} samples" if samples else "holds no samples") in said


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "mosei"])
def test_what_has_no_sound_has_no_spectrograms(name, tmp_path, capsys):
    message = refused(capsys, "data", "prepare", name, "--root", tmp_path, "--audio", "code")
    assert "audio: got 'code', expected None, as" in message


def test_filter_banks_are_kaldis():
    wave = folders.tone(3, 2.0).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wave - wave.mean(), 400)[::160].astype(float)
    frames -= frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft((frames - 0.97 * before) * np.hanning(400), 512)) ** 2
    mel = 1127 * np.log1p(np.arange(257) * 16000 / 512 / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 130)
    rising, falling = (
        (mel[:, None] - edges[:-2]) / np.diff(edges)[:-1],
        (edges[2:] - mel[:, None]) / np.diff(edges)[1:],
    )
    energy = power @ np.maximum(0, np.minimum(rising, falling))
    expected = np.log(np.maximum(energy, np.finfo(np.float32).eps)).T
    found = KINETICS_SOUNDS_CODE(wave)
    assert found.shape == (128, 1024)
    count = expected.shape[1]
    np.testing.assert_allclose(found[:, :count], (expected + 4.503877) / 10.282552, atol=2e-3)
    np.testing.assert_allclose(found[:, count:], 4.503877 / 10.282552, atol=1e-6)


@pytest.mark.parametrize(
    ("wave", "said"),
    [
        (np.zeros(399), "expected [n] with n >= 400"),
        (np.zeros((2, 800)), "got shape (2, 800)"),
        (np.full(800, np.nan), "not finite"),
    ],
)
def test_filter_banks_refuse_what_has_no_frame(wave, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        KINETICS_SOUNDS_CODE(wave)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ab_-000000z_000000_000010,10,31", "got label 31, expected one of 0 to 30"),
        ("ab_-000000z_000000_000010,10,-1", "expected name,seconds,label"),
        ("short_000000_000010,10,3", "expected a YouTube id"),
        ("../../../etc_000000_000010,10,3", "expected a YouTube id"),
        ("no commas", "expected name,seconds,label"),
    ],
)
def test_a_wrong_line_of_a_list_of_sounds_is_named(line, said, root_of, capsys):
    root = root_of("kinetics_sounds")
    with (root / "my_test.txt").open("a") as file:
        file.write(f"{line}\n")
    message = refused(capsys, "data", "verify", "kinetics_sounds", "--root", root)
    assert "my_test.txt, line 3" in message
    assert said in message


def test_kinetics_own_lists_count_where_they_are(root_of):
    root = root_of("kinetics_sounds")
    names = [path.stem for path in sorted((root / "videos").glob("*.mp4"))]
    head = "label,youtube_id,time_start,time_end,split,is_cc"
    rows = [f"tickling,{n[:11]},{int(n[12:18])},{int(n[19:])},x,0" for n in names]
    folders.write_lines(root / "train.csv", [head, "abseiling,abcdefghijk,0,10,train,0", *rows[:6]])
    folders.write_lines(root / "validate.csv", [head, *rows[6:]])
    clips = KS.listed(root)
    assert [*clips] == names
    assert {clip.label for clip in clips.values()} == {30}
    assert [clip.place for clip in clips.values()] == ["train"] * 6 + ["test"] * 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Archery/v_Archery_g01_c01.avi 102", "got label '102', expected 1 to 101"),
        ("Nothing/v_Nothing_g01_c01.avi 1", "expected v_<one of the classes>"),
        ("../../v_Archery_g1_c01.avi 3", "expected v_<one of the classes>"),
    ],
)
def test_a_wrong_line_of_a_list_of_actions_is_named(line, said, root_of, capsys):
    root = root_of("ucf101")
    folders.write_lines(root / "trainlist01.txt", ["Archery/v_Archery_g09_c01.avi 3", line])
    message = refused(capsys, "data", "prepare", "ucf101", "--root", root)
    assert f"{root / 'trainlist01.txt'}, line 2" in message
    assert said in message


def test_groups_say_the_same_as_the_official_split(root_of):
    root = root_of("ucf101")
    by_group = UCF.listed(root)
    for file, place in ucf101.SPLIT_FILES.items():
        chosen = [name for name, clip in by_group.items() if clip.place == place]
        folders.write_lines(root / file, [f"Archery/{name}.avi 3" for name in chosen])
    assert dict(sorted(UCF.listed(root).items())) == dict(sorted(by_group.items()))


@pytest.mark.parametrize(
    ("name", "label", "group"),
    [
        ("v_HandStandPushups_g25_c07", "HandstandPushups", "HandStandPushups_g25"),
        ("v_YoYo_g01_c01", "YoYo", "YoYo_g01"),
    ],
)
def test_names_of_ucf101(name, label, group):
    assert UCF.parse(name) == (ucf101.CLASSES.index(label), group)


@pytest.mark.parametrize(
    ("film", "action"),
    [("#20_Rhythm", "clap"), ("A_-_Round[1]!!", "climb_stairs"), ("x_climb_f", "sword_exercise")],
)
def test_names_of_hmdb51(film, action):
    name = f"{film}_{action}_u_nm_np1_le_goo_4"
    assert HMDB.parse(name) == (hmdb51.CLASSES.index(action), film)


def test_a_clip_that_the_official_split_uses_nowhere_takes_no_part(root_of):
    root = root_of("hmdb51")
    names = [path.stem for path in sorted((root / "video" / "catch").glob("*.avi"))]
    for action in hmdb51.CLASSES:
        lines = [f"{n}.avi {i % 3} " for i, n in enumerate(names)] if action == "catch" else []
        folders.write_lines(root / hmdb51.SPLITS / f"{action}_test_split1.txt", lines)
    clips = HMDB.listed(root)
    places = HMDB.places(clips, "published")
    assert [places[name] for name in names[::3]] == ["none"] * 3
    assert {places[name] for name in names[2::3]} == {"test"}
    assert {places[name] for name in names[1::3]} <= {"train", "validation"}


def test_unknown_classes_lie_outside_near_and_far(tmp_path):
    folders.make_hmdb51(tmp_path / "HMDB51", ["catch", "drink", "walk"])
    folders.make_ucf101(tmp_path / "UCF-101", ["Archery", "YoYo"])
    for module, home in ((hmdb51, "HMDB51"), (ucf101, "UCF-101")):
        module.prepare(tmp_path / home)
    near = hmdb51.load(root=tmp_path / "HMDB51", known="near")
    assert near.classes == hmdb51.CLASSES[:25]
    assert {len(near.test.outside["near"]), len(near.train) + len(near.validation)} == {8, 12}
    walk = hmdb51.CLASSES.index("walk")
    assert near.test.outside["near"].labels.unique().tolist() == [0]
    assert (np.load(near.test.folder / "labels.npy")[near.test.outside["near"].rows] == walk).all()
    far = hmdb51.load(root=tmp_path / "HMDB51", known="far", ucf101=tmp_path / "UCF-101")
    assert "drink" not in far.classes
    assert len(far.classes) == 43
    # Archery is like shooting a bow; of YoYo, the clips of test groups.
    outside = far.test.outside["far"]
    assert len(outside) == 2
    inputs, _ = outside.__getitems__([0, 1])
    assert {k: v.shape[1:] for k, v in inputs.items()} == {
        k: v.shape[1:] for k, v in far.test.__getitems__([0])[0].items()
    }


def test_multioods_lists_place_clips_where_they_are(tmp_path):
    names = folders.make_hmdb51(tmp_path, ["catch"])
    hmdb51.prepare(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"HMDB_train_near_ood\.txt is missing"):
        hmdb51.load("multiood", tmp_path, known="near")
    for part, chosen in (("train", names[:4]), ("val", names[4:6]), ("test", names[6:])):
        lines = [f"catch/{name}.avi 2" for name in chosen]
        folders.write_lines(tmp_path / "splits" / f"HMDB_{part}_near_ood.txt", lines)
    data = hmdb51.load("multiood", tmp_path, known="near")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [4, 2, 2]
    assert data.train.labels.unique().tolist() == [2]
    train = tmp_path / "splits" / "HMDB_train_near_ood.txt"
    folders.write_lines(train, [f"catch/{name}.avi 2" for name in [*names[:4], names[0]]])
    assert len(hmdb51.load("multiood", tmp_path, known="near").train) == 4
    folders.write_lines(train, [f"catch/{name}.avi 2" for name in names[:5]])
    # The validation list comes after it, and has the clip on its first line.
    with pytest.raises(ValueError, match=r"val_near_ood\.txt, line 1: .* is listed a second time"):
        hmdb51.load("multiood", tmp_path, known="near")


def test_flow_is_mirrored_with_its_sign(root_of):
    root = root_of("ucf101")
    ucf101.prepare(root)
    train = load_dataset("ucf101", root=root).train
    stored = torch.from_numpy(np.array(train._arrays["flow"][train.rows[:1]]))
    torch.manual_seed(0)
    drawn = torch.cat([train.transforms["flow"](stored) for _ in range(20)])
    means = drawn.mean(dim=(2, 3))
    expected = (stored.double().mean(dim=(1, 2, 3)) - 128) / 128
    assert sorted({round(float(x), 1) for x in means[:, 0].abs()}) == [
        round(float(expected[0, 0].abs()), 1)
    ]
    assert {float(x) > 0 for x in means[:, 0]} == {True, False}
    assert means[:, 1].std() < 0.05


def written(root, content, protocol=4):
    root.mkdir(exist_ok=True)
    (root / mosei_features.FILE).write_bytes(pickle.dumps(content, protocol=protocol))
    return root


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol_gives_its_arrays(protocol, tmp_path):
    content = folders.mosei_content()
    root = written(tmp_path / "mosei", content, protocol)
    with np.load(mosei.prepare(root), allow_pickle=False) as stored:
        for part, arrays in content.items():
            for key in ("audio", "vision", "text", "labels"):
                np.testing.assert_array_equal(stored[f"{part}/{key}"], arrays[key])
            assert stored[f"{part}/id"].tolist() == arrays["id"].tolist()


@pytest.mark.parametrize("protocol", range(6))
def test_a_payload_is_refused_and_not_run(protocol, tmp_path, capsys):
    content = folders.mosei_content((2, 2, 2))
    content["train"]["id"] = Payload(tmp_path / "ran")
    root = written(tmp_path / "mosei", content, protocol)
    message = refused(capsys, "data", "prepare", "mosei", "--root", root)
    assert "mkdir, expected arrays only" in message
    assert not (tmp_path / "ran").exists()
    assert not list((root / "cache").glob("*.npz"))


def test_the_unpickler_itself_admits_no_more_than_the_list(tmp_path):
    path = tmp_path / "payload.pkl"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with path.open("rb") as file, pytest.raises(ValueError, match="mkdir, expected arrays only"):
        unpickling.ArraysOnly(file).load()
    assert not (tmp_path / "ran").exists()


def changed(part, key, value):
    content = folders.mosei_content((4, 2, 2))
    content[part][key] = value(content[part][key])
    return content


def with_nan(values):
    values[1, 20, 5] = np.nan
    return values


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed("valid", "vision", with_nan), "valid/vision with NaN"),
        (changed("train", "text", lambda x: x[:, :, :299]), "train/text of shape (4, 50, 299)"),
        (changed("test", "audio", lambda x: x[1:]), "test/audio of shape (1, 50, 74)"),
        (changed("test", "labels", lambda x: x + 9), "test/labels outside of [-3, 3]"),
        (changed("train", "id", lambda x: x[1:]), "not one train/id"),
        (changed("train", "text", lambda x: x.astype(np.int64)), "expected floats"),
        ({"train": {}}, "has no train/audio"),
        ([1, 2, 3], "has no train/"),
        ({"train": {"vision": {1, 2}}}, "it holds a set"),
    ],
)  # fmt: skip
def test_other_content_is_refused(content, said, tmp_path, capsys):
    root = written(tmp_path / "mosei", content)
    message = refused(capsys, "data", "prepare", "mosei", "--root", root)
    assert said in message
    assert not list((root / "cache").glob("*.npz"))


@pytest.mark.parametrize("kept", [0, 1, 1000])
def test_a_truncated_pickle_is_refused(kept, tmp_path, capsys):
    folders.make_mosei(tmp_path)
    path = tmp_path / mosei_features.FILE
    path.write_bytes(path.read_bytes()[:kept])
    message = refused(capsys, "data", "prepare", "mosei", "--root", tmp_path)
    assert f"{path} can't be taken for arrays" in message


def test_another_pickle_is_taken_anew(tmp_path):
    folders.make_mosei(tmp_path)
    mosei.prepare(tmp_path)
    before = mosei.load(root=tmp_path)
    folders.make_mosei(tmp_path, (12, 8, 8))
    mosei.prepare(tmp_path)
    assert len(mosei.load(root=tmp_path).train) == len(before.train) - 12


def test_words_begin_at_the_first_and_what_is_behind_the_last_is_padding(tmp_path):
    folders.make_mosei(tmp_path)
    mosei.prepare(tmp_path)
    data = mosei.load(root=tmp_path)
    content = folders.mosei_content()["train"]
    kept = [row for row in range(24) if content["text"][row].any()]
    assert len(data.train) == len(kept)
    for place, row in enumerate(kept):
        steps = mosei_features.STEPS - row % 7
        assert data.train.padding["text"][place].tolist() == [False] * steps + [True] * (50 - steps)
        assert not data.train.inputs["audio"][place, steps:].any()
    words = data.train.inputs["text"][~data.train.padding["text"]].double()
    assert words.mean(0).abs().max() < 1e-6
    assert (words.std(0, correction=0) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("task", "opinions", "labels"),
    [
        ("three", [-0.51, 0.51, 0.5, -0.5, 0], [0, 1, 2, 2, 2]),
        ("positive", [-1, 0, 0.1], [0, 0, 1]),
        ("negative", [-0.1, 0, 1], [0, 1, 1]),
        ("seven", [-3, -1.4, 0.4, 3], [0, 2, 3, 6]),
    ],
)
def test_opinions_to_classes(task, opinions, labels):
    classes, labels_of = mosei.TASKS[task]
    assert labels_of(np.array(opinions, float)).tolist() == labels
    assert max(labels) < len(classes)


def test_a_folder_that_cant_be_written_gets_its_cache_elsewhere(tmp_path, monkeypatch):
    folders.make_mosei(tmp_path / "mosei")
    monkeypatch.setattr(store, "user_folder", lambda: tmp_path / "user")
    (tmp_path / "mosei").chmod(0o555)
    try:
        assert mosei.prepare(tmp_path / "mosei") == tmp_path / "user" / "cache" / "mosei.npz"
        assert len(mosei.load(root=tmp_path / "mosei").test) == 7
    finally:
        (tmp_path / "mosei").chmod(0o755)


def test_a_full_disk_leaves_no_arrays(tmp_path, small_disk, capsys):
    folders.make_mosei(tmp_path / "mosei")
    disk = small_disk(tmp_path / "mosei" / "cache", "1m")
    message = refused(capsys, "data", "prepare", "mosei", "--root", tmp_path / "mosei")
    assert "the disk is full; make room, and run again" in message
    assert not [path for path in disk.iterdir() if path.stat().st_size and path.suffix == ".npz"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["fsync 1", "fsync 3", "rename 1"])
def test_killed_while_sounds_are_prepared_it_goes_on_and_ends_the_same(moment, root_of, tmp_path):
    root = root_of("kinetics_sounds")
    whole = shutil.copytree(root, tmp_path / "whole")
    kill_at(tmp_path, moment, "data", "prepare", "kinetics_sounds", "--root", root)
    with pytest.raises(FileNotFoundError, match="no prepared"):
        kinetics_sounds.load(root=root)
    found, expected = (cache.read_manifest(kinetics_sounds.prepare(r)) for r in (root, whole))
    assert found == expected
    assert [path.name for path in (root / "cache").iterdir()] == ["kinetics_sounds-code"]


@pytest.mark.slow
def test_killed_while_a_pickle_is_converted_no_arrays_are_there(tmp_path):
    folders.make_mosei(tmp_path)
    kill_at(tmp_path, "fsync 1", "data", "prepare", "mosei", "--root", tmp_path)
    with pytest.raises(FileNotFoundError, match="no prepared"):
        mosei.load(root=tmp_path)
    mosei.prepare(tmp_path)
    assert len(mosei.load(root=tmp_path).test) == 7
