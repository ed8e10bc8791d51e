"""Tiny ImageNet on archives of a few made-up images in the official layout; on the one beside the repository if any."""

import os
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.test_trainers import ROOT, read_json, short_run
from wmr_tf.checks import InvalidInput
from wmr_tf.data import SOURCES, info, load
from wmr_tf.data.tiny_imagenet.archive import FILE_NAME, Archive

WNIDS = [f"n{number:08}" for number in range(200)]
GREY = "train/n00000003/images/n00000003_0.JPEG"


def jpeg(number, channels=3, size=64):
    """Return an image of one colour, which survives the compression nearly unchanged, and the colour."""
    colour = (number * np.array([37, 101, 59]) % 256).astype(np.uint8)[:channels]
    return tf.io.encode_jpeg(np.broadcast_to(colour, [size, size, channels])).numpy(), colour


def official(train_per_class=2):
    """Return the members of a small archive by name, without the root: wnids.txt is not in sorted order."""
    members = {"wnids.txt": "\n".join(reversed(WNIDS)), "words.txt": "n00000000\tthing", "test/images/test_0.JPEG": b""}
    for number, wnid in enumerate(WNIDS):
        names = [f"{wnid}_{image}.JPEG" for image in range(train_per_class)]
        members[f"train/{wnid}/{wnid}_boxes.txt"] = "".join(f"{name}\t0\t0\t62\t62\n" for name in names)
        members |= {f"train/{wnid}/images/{name}": jpeg(number)[0] for name in names}
        members[f"val/images/val_{number}.JPEG"] = jpeg(number)[0]
    members[GREY] = jpeg(3, channels=1)[0]
    members["val/val_annotations.txt"] = "".join(
        f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n" for number, wnid in enumerate(WNIDS)
    )
    return members


@pytest.fixture(scope="session")
def members():
    return official()


def write_zip(folder, members, name=FILE_NAME):
    folder.mkdir(exist_ok=True, parents=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member, content in members.items():
            if not isinstance(member, zipfile.ZipInfo):
                member = f"tiny-imagenet-200/{member}"
            archive.writestr(member, content)
    return folder / name


@pytest.fixture
def default_dir(tmp_path, monkeypatch):
    """The default folder of tensorflow-datasets, for this test only; downloads are forbidden."""
    from tensorflow_datasets.core import constants
    from tensorflow_datasets.core.download import DownloadManager

    def forbidden(self, url):
        raise ConnectionError(f"no network for {url}")

    def no_address(host, *args, **kwargs):
        pytest.fail(f"asked for the address of {host}")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "default"))
    monkeypatch.setattr(DownloadManager, "download", forbidden)
    return tmp_path / "default"


def read(folder):
    return SOURCES["tiny_imagenet"].read(folder)


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def copies(folder):
    """Return the prepared copies, whole or half, anywhere in a folder."""
    return [path for path in folder.rglob("*") if path.name.startswith("tiny_imagenet")]


def colours(images):
    return images.astype(float).mean(axis=(1, 2))


# What is read


def test_images_have_their_classes_and_grey_ones_three_equal_channels(default_dir, members, tmp_path):
    write_zip(tmp_path / "here", members)
    arrays = read(tmp_path / "here")
    expected = np.stack([jpeg(number)[1] for number in range(200)]).astype(float)
    assert [array.shape for array in arrays[:4]] == [(400, 64, 64, 3), (400,), (200, 64, 64, 3), (200,)]
    assert arrays.train_images.dtype == np.uint8
    assert np.bincount(arrays.train_labels).tolist() == [2] * 200
    assert sorted(arrays.test_labels) == list(range(200))
    # Within the compression's error; labels follow the sorted class names although wnids.txt is in reverse.
    np.testing.assert_allclose(colours(arrays.test_images), expected[arrays.test_labels], atol=3)
    off = np.abs(colours(arrays.train_images) - expected[arrays.train_labels]).max(axis=1) > 3
    (grey,) = np.flatnonzero(off)
    assert arrays.train_labels[grey] == 3
    np.testing.assert_allclose(arrays.train_images[grey], expected[3, 0], atol=3)


def test_load_cuts_the_validation_from_training_and_tests_on_the_official_validation(default_dir, members, tmp_path):
    write_zip(tmp_path / "here", members)
    splits = load("tiny_imagenet", batch_size=40, data_dir=tmp_path / "here")
    assert [sum(len(labels) for _, labels in split) for split in splits] == [360, 40, 200]
    images, labels = next(iter(splits.train))
    assert images.shape == (40, *info("tiny_imagenet").image_shape)
    assert (images.dtype, labels.dtype) == (tf.float32, tf.int32)
    assert info("tiny_imagenet").num_classes == 200


def test_the_builder_is_known_to_tensorflow_datasets(default_dir, members, tmp_path):
    import tensorflow_datasets as tfds

    import wmr_tf.data.tiny_imagenet.builder  # noqa: F401

    archive = write_zip(tmp_path / "here", members)
    builder = tfds.builder("tiny_imagenet", archive=archive, data_dir=tmp_path / "own")
    builder.download_and_prepare()
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 400,
        "validation": 200,
    }
    # A folder with a prepared copy is read as that of any other data set, and not written to.
    before = snapshot(tmp_path / "own")
    arrays = read(tmp_path / "own")
    assert len(arrays.train_images) == 400 and len(arrays.test_images) == 200
    assert snapshot(tmp_path / "own") == before
    (url,) = builder.url_infos
    assert (url, builder.url_infos[url].size) == ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", 248_100_043)


# Where the copy is


def test_each_archive_has_its_own_copy_and_its_folder_is_never_written_to(default_dir, members, tmp_path):
    one = write_zip(tmp_path / "one", members).parent
    short = {name: content for name, content in members.items() if "n00000000_1" not in name}
    short["train/n00000000/n00000000_boxes.txt"] = "n00000000_0.JPEG\t0\t0\t62\t62\n"
    two = write_zip(tmp_path / "two", short).parent
    before = snapshot(one), snapshot(two)
    assert [len(read(folder).train_images) for folder in (one, two, one)] == [400, 399, 400]
    assert (snapshot(one), snapshot(two)) == before
    assert len([path for path in default_dir.iterdir() if path.name.startswith("tiny_imagenet-")]) == 2


def test_the_archive_may_lie_among_manual_downloads_and_is_prepared_once(default_dir, members, monkeypatch):
    import tensorflow_datasets as tfds

    write_zip(default_dir / "downloads" / "manual", members)
    first = read(None)
    before = snapshot(default_dir)
    monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "_download_and_prepare", None)
    again = read(None)
    assert all(np.array_equal(array, other) for array, other in zip(first, again, strict=True))
    assert snapshot(default_dir) == before


def test_the_same_archive_elsewhere_has_the_same_fingerprint(members, tmp_path):
    def fingerprint(folder, content):
        with Archive(write_zip(tmp_path / folder, content)) as archive:
            return archive.fingerprint()

    here, there = fingerprint("a", members), fingerprint("b", dict(reversed(members.items())))
    assert here == there
    assert here != fingerprint("c", {**members, "words.txt": "n00000000\tTHING"})  # of the same size


def test_without_archive_and_network_the_message_names_the_download(default_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="^data set tiny_imagenet: got no prepared copy in .*ConnectionError"):
        read(tmp_path / "empty")


def test_two_runs_that_prepare_at_once_do_not_disturb_each_other(default_dir, members, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    write_zip(tmp_path / "here", members)
    prepare = tfds.core.GeneratorBasedBuilder.download_and_prepare

    def beaten(self, **kwargs):
        prepare(self, **kwargs)
        raise OSError("Directory not empty")  # as the renaming fails when another has just renamed

    monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "download_and_prepare", beaten)
    assert len(read(tmp_path / "here").train_images) == 400


def test_a_copy_that_cannot_be_written_is_one_line(default_dir, members, tmp_path):
    write_zip(tmp_path / "here", members)
    default_dir.write_text("a file where the folder should be")
    with pytest.raises(InvalidInput, match="^data set tiny_imagenet: got no prepared copy in .* TFDS_DATA_DIR"):
        read(tmp_path / "here")


def test_a_damaged_copy_is_named_and_left_alone(default_dir, members, tmp_path):
    write_zip(tmp_path / "here", members)
    read(tmp_path / "here")
    (metadata,) = default_dir.rglob("dataset_info.json")
    metadata.write_text("{")
    before = snapshot(default_dir)
    with pytest.raises(
        InvalidInput, match="^data set tiny_imagenet: got a copy in .* that cannot be read .JSONDecodeError"
    ):
        read(tmp_path / "here")
    assert snapshot(default_dir) == before


# Damage


def without(name):
    return lambda members: {member: content for member, content in members.items() if member != name}


def changed(name, content):
    return lambda members: {**members, name: content}


def corrupted_content(archive):
    content = archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        member = opened.getinfo(f"tiny-imagenet-200/{GREY}")
    middle = member.header_offset + 30 + len(member.filename) + member.file_size // 2
    archive.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("wnids.txt"), "no tiny-imagenet-200/wnids.txt in"),
        (changed("wnids.txt", "\n".join(WNIDS[:150])), "150 classes in wnids.txt in .*, expected 200 classes"),
        (changed("wnids.txt", "\n".join([*WNIDS[1:], "n99"])), "no training images of class n99"),
        (without("val/val_annotations.txt"), "no tiny-imagenet-200/val/val_annotations.txt in"),
        (changed("val/val_annotations.txt", ""), "no label in val/val_annotations.txt"),
        (changed("val/val_annotations.txt", "val_0.JPEG\tn00000000\t0"), "no label for tiny-.*/val/images/val_1.JPEG"),
        (changed("val/images/val_200.JPEG", jpeg(0)[0]), "no label for tiny-imagenet-200/val/images/val_200.JPEG"),
        (changed("train/n7/images/n7_0.JPEG", jpeg(0)[0]), "class n7 for tiny-imagenet-200/train/n7/images/n7_0.JPEG"),
        (without("val/images/val_7.JPEG"), "no tiny-imagenet-200/val/images/val_7.JPEG, which is listed"),
        (without(GREY), f"no tiny-imagenet-200/{GREY}, which is listed"),
        (changed(GREY, b"no image"), f"an image that does not decode, tiny-imagenet-200/{GREY},"),
        (changed(GREY, jpeg(3)[0][:-200]), f"an image that does not decode, tiny-imagenet-200/{GREY},"),
        (changed(GREY, jpeg(3, size=32)[0]), r"an image of shape \(32, 32, 3\)"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_missing_or_damaged_is_named_and_leaves_no_copy(default_dir, members, tmp_path, change, message):
    archive = write_zip(tmp_path / "here", change(members))
    with pytest.raises(InvalidInput, match=f"^Tiny ImageNet archive: got {message}") as error:
        read(tmp_path / "here")
    assert str(archive) in str(error.value) and "\n" not in str(error.value)
    assert not copies(default_dir)
    write_zip(tmp_path / "here", members)  # a whole one in its place is prepared
    assert len(read(tmp_path / "here").train_images) == 400


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (
            lambda archive: archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2]),
            "it is no whole zip file",
        ),
        (lambda archive: archive.write_bytes(b""), "it is no whole zip file"),
        (corrupted_content, "Bad CRC-32"),
    ],
    ids=["truncated", "empty", "flipped byte"],
)
def test_a_damaged_archive_is_refused_and_leaves_no_copy(default_dir, members, tmp_path, damage, cause):
    damage(write_zip(tmp_path / "here", members))
    with pytest.raises(InvalidInput, match=f"cannot be read .{cause}.*, expected a whole zip file"):
        read(tmp_path / "here")
    assert not copies(default_dir)


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    "member",
    [
        zipfile.ZipInfo("../outside.txt"),
        zipfile.ZipInfo("/etc/outside.txt"),
        zipfile.ZipInfo("tiny-imagenet-200/val/../../outside.txt"),
        zipfile.ZipInfo("tiny-imagenet-200/..\\..\\outside.txt"),
        zipfile.ZipInfo("C:\\outside.txt"),
        link("tiny-imagenet-200/val/images/val_200.JPEG"),
    ],
    ids=lambda member: member.filename,
)
def test_paths_that_leave_the_folder_are_refused(default_dir, members, tmp_path, member):
    write_zip(tmp_path / "here", {**members, member: "/etc/passwd"})
    before = snapshot(tmp_path)
    with pytest.raises(
        InvalidInput, match="its member '.*' is no plain file inside it|the member '.*' in .*, expected f"
    ):
        read(tmp_path / "here")
    assert snapshot(tmp_path) == before


# The trainer


def test_the_trainer_says_in_one_line_what_is_wrong_with_an_archive(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"PK")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(tmp_path / "default")}
    command = [sys.executable, "-m", "trainers.tiny_imagenet", "--data_dir=."]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: Tiny ImageNet archive: got ")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "default").exists()


FEW = ["--train_examples=8", "--validation_examples=4", "--eval_examples=4", "--batch_size=4", "--method=pgd"]
FEW += ["--attack_steps=1", "--eval_attack_steps=1"]


@pytest.mark.slow
def test_the_trainer_trains_and_evaluates(members, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    folder = write_zip(tmp_path / "here", members).parent
    metrics = short_run("tiny_imagenet", folder, tmp_path, *FEW)
    assert (metrics["dataset"], metrics["examples"], metrics["attack"]["epsilon"]) == ("tiny_imagenet", 4, 0.016)
    import keras

    best = keras.models.load_model(tmp_path / "run/best.keras")
    assert (best.name, best.input_shape, best.output_shape) == ("resnet18", (None, 64, 64, 3), (None, 200))
    assert read_json(tmp_path / "run/config.json")["beta"] is None


@pytest.mark.slow
def test_the_archive_beside_the_repository(default_dir):
    folder = Path(__file__).resolve().parents[2] / "shared" / "tiny-imagenet"
    if not (folder / FILE_NAME).is_file():
        pytest.skip(f"no archive in {folder}")
    before = snapshot(folder)
    arrays = read(folder)
    assert snapshot(folder) == before
    assert len(set(np.bincount(arrays.train_labels, minlength=200))) == 1
    assert np.bincount(arrays.test_labels).tolist() == [50] * 200
    with Archive(folder / FILE_NAME) as archive:
        assert len(archive.train) == len(arrays.train_images)
        grey = [tf.io.decode_jpeg(archive.read(name)).shape[-1] == 1 for name, _ in archive.test[:1_000]]
    assert any(grey)
    channels = arrays.test_images.reshape([len(arrays.test_images), -1, 3])
    assert np.sum((channels == channels[..., :1]).all(axis=(1, 2))) >= sum(grey)
