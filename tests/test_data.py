import hashlib
import itertools
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.marking import some
from wmr_tf.checks import InvalidInput
from wmr_tf.data import check_images_and_labels, info, load
from wmr_tf.data.augment import PADDING, augmentation, crop_and_flip
from wmr_tf.data.pipeline import place_of, training
from wmr_tf.names import AUGMENTATIONS

NAMES = ("digits", "mnist", "cifar10")


def collected(dataset):
    """Return all images and all labels of a data set, in the order of one iteration."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def fingerprints(dataset):
    """Return one hash an image, in the order of one iteration."""
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in collected(dataset)[0]]


@pytest.fixture(scope="module")
def digits():
    """The digits in batches of one, so that no training image is left out of an epoch."""
    return load("digits", batch_size=1)


@pytest.fixture(scope="module")
def loaded(tfds_dir):
    """Load each of the large data sets once, in two sizes of batch, and remembers it."""
    splits = {}

    def get(name):
        if name not in splits:
            splits[name] = load(name, batch_size=1_000, seed=3, data_dir=tfds_dir)
        return splits[name]

    return get


# Splits


def test_digits_are_sixteenths_in_float32_and_labels_int32(digits):
    for split in digits:
        images, labels = collected(split)
        assert images.dtype == np.float32
        assert labels.dtype == np.int32
        assert images.shape[1:] == (8, 8, 1)
        assert images.min() == 0
        assert images.max() == 1
        assert np.array_equal(images * 16, np.round(images * 16))
        assert set(labels) == set(range(10))


def test_digits_are_scikit_learns_each_with_its_label_and_in_one_split_only(digits):
    from sklearn.datasets import load_digits

    everything = load_digits()
    expected = sorted((image.tobytes(), label) for image, label in zip(everything.data, everything.target, strict=True))
    images, labels = (np.concatenate(parts) for parts in zip(*map(collected, digits), strict=True))
    found = sorted(
        (image.tobytes(), label)
        for image, label in zip((images * 16).reshape([-1, 64]).astype(np.float64), labels, strict=True)
    )
    assert [split.cardinality().numpy() for split in digits] == [1078, 120, 599]
    assert found == expected


def test_the_test_digits_are_stratified(digits):
    counts = np.bincount(collected(digits.test)[1])
    everything = sum(np.bincount(collected(split)[1]) for split in digits)
    assert np.abs(counts - everything / 3).max() <= 1


def test_splits_are_those_of_every_machine_and_seed(digits):
    # Written down, so that a change of the cut is noticed: it would make results incomparable.
    assert collected(digits.validation)[1][:12].tolist() == [8, 4, 7, 7, 6, 0, 3, 5, 6, 4, 7, 3]
    assert collected(digits.test)[1][:12].tolist() == [2, 3, 7, 0, 8, 4, 8, 4, 6, 5, 4, 9]
    other = load("digits", batch_size=1, seed=5)
    assert fingerprints(other.validation) == fingerprints(digits.validation)
    assert fingerprints(other.test) == fingerprints(digits.test)
    assert sorted(fingerprints(other.train)) == sorted(fingerprints(digits.train))


def test_shorter_splits_are_the_beginning_of_the_whole_ones(digits):
    short = load("digits", batch_size=1, train_examples=100, validation_examples=7)
    longer = load("digits", batch_size=1, train_examples=200)
    assert len(set(fingerprints(short.train))) == 100
    assert set(fingerprints(short.train)) < set(fingerprints(longer.train)) < set(fingerprints(digits.train))
    assert fingerprints(short.validation) == fingerprints(digits.validation)[:7]
    assert fingerprints(short.test) == fingerprints(digits.test)


# Order


def test_training_drops_a_last_smaller_batch_and_evaluation_keeps_it():
    train, validation, test = load("digits", batch_size=50)
    assert [len(labels) for _, labels in train] == [50] * 21
    assert [len(labels) for _, labels in validation] == [50, 50, 20]
    assert [len(labels) for _, labels in test] == [50] * 11 + [49]
    assert len(train) == 21
    assert train.element_spec[0].shape == (50, 8, 8, 1)


def test_fewer_training_images_than_one_batch_make_one_smaller_batch():
    train = load("digits", batch_size=50, train_examples=30).train
    assert [len(labels) for _, labels in train] == [30]


def test_training_order_changes_with_the_epoch_and_the_seed_and_repeats_with_the_seed():
    def epochs(seed):
        train = load("digits", seed=seed, batch_size=10, train_examples=200).train
        return [fingerprints(train) for _ in range(3)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    orders = [tuple(order) for order in first + other]
    assert len(set(orders)) == 6
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_the_index_is_an_images_place_in_every_epoch_and_with_every_seed(digits):
    def by_index(**kwargs):
        splits = load("digits", batch_size=32, with_index=True, **kwargs)
        batches = [*splits.train.as_numpy_iterator(), *splits.train.as_numpy_iterator()]  # two epochs
        pairs = [pair for x, labels in batches for pair in zip(x["index"], x["image"], labels, strict=True)]
        found = {}
        for index, image, label in pairs:
            assert found.setdefault(int(index), (image.tobytes(), label)) == (image.tobytes(), label)
        return splits, found

    splits, found = by_index()
    assert splits.train_examples == len(fingerprints(digits.train)) == 1078
    assert splits.train.element_spec[0]["index"].dtype == tf.int32
    assert set(found) <= set(range(1078)) and len(found) > 1056  # an epoch leaves out 22, another one others
    _, other = by_index(seed=5)
    assert all(found[index] == other[index] for index in set(found) & set(other))
    short, first = by_index(train_examples=100)
    assert short.train_examples == 100
    assert all(found[index] == image for index, image in first.items() if index in found)
    assert splits.validation.element_spec == digits.validation.element_spec


def test_no_thread_tunes_what_is_read_in_order(digits):
    assert [split.options().autotune.enabled for split in digits] == [False] * 3  # an epoch's end waits for it


def test_validation_and_test_order_never_change(digits):
    for split in (digits.validation, digits.test):
        assert fingerprints(split) == fingerprints(split)


# Augmentation


def crops_and_flips(image):
    """Return all 162 images that cropping and flipping can make, by plain slicing."""
    height, width, _ = image.shape
    padded = np.zeros([height + 2 * PADDING, width + 2 * PADDING, image.shape[2]], image.dtype)
    padded[PADDING:-PADDING, PADDING:-PADDING] = image
    crops = [padded[row : row + height, column : column + width] for row in range(9) for column in range(9)]
    return np.stack(crops + [crop[:, ::-1] for crop in crops])


def choices(images, augmented):
    """Return which of its 162 crops and flips each augmented image is; fails if it is not exactly one of them."""
    found = []
    for image, result in zip(images, augmented, strict=True):
        (which,) = np.flatnonzero((crops_and_flips(image) == result).all(axis=(1, 2, 3)))
        found.append(which)
    return np.array(found)


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(1, 256, [400, 12, 12, 3], np.uint8)


def test_each_augmented_image_is_one_crop_or_flip_and_all_offsets_occur(noise):
    augmented = crop_and_flip(noise, seed=[0, 1])
    assert augmented.dtype == tf.uint8
    choice = choices(noise, augmented.numpy())
    flipped, rows, columns = choice >= 81, choice % 81 // 9, choice % 9
    assert 150 < flipped.sum() < 250  # 5 standard deviations
    for offsets in (rows, columns):  # 44 expected each, 4 standard deviations
        assert np.all(np.abs(np.bincount(offsets, minlength=9) - 400 / 9) < 26)
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2  # 4 standard deviations
    assert abs(np.corrcoef(rows, flipped)[0, 1]) < 0.2
    assert abs(np.corrcoef(columns, flipped)[0, 1]) < 0.2


def test_the_seed_decides_the_crops(noise):
    first, again, *others = (crop_and_flip(noise, seed=seed).numpy() for seed in ([0, 1], [0, 1], [1, 1], [0, 2]))
    assert np.array_equal(first, again)
    for other in others:
        assert np.mean(choices(noise, first) == choices(noise, other)) < 0.1


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(6, 12), st.integers(6, 12), st.sampled_from([1, 3])),
    seed=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=2),
    dtype=st.sampled_from([np.uint8, np.float32]),
)
def test_images_of_any_shape_keep_it_and_are_cropped_and_flipped(shape, seed, dtype):
    images = np.random.default_rng(0).integers(1, 256, shape).astype(dtype)
    augmented = crop_and_flip(images, seed=seed).numpy()
    assert (augmented.shape, augmented.dtype) == (shape, dtype)
    choices(images, augmented)


def augmented_epochs(images, seed, epochs=2):
    dataset = training(images, np.arange(len(images)), scale=255, batch_size=40, seed=seed, augment="crop_flip")
    return [collected(dataset) for _ in range(epochs)]


def test_training_images_get_new_crops_in_every_epoch_and_the_same_in_every_run(noise):
    first, again, other = augmented_epochs(noise, 1), augmented_epochs(noise, 1), augmented_epochs(noise, 2)
    for (images, labels), (images_again, labels_again) in zip(first, again, strict=True):
        assert np.array_equal(labels, labels_again)
        assert np.array_equal(images, images_again)
    by_image, by_position = [], []
    for images, labels in (*first, *other):
        assert sorted(labels) == list(range(len(noise)))
        choice = choices(noise[labels] / np.float32(255), images)  # also: the label still belongs to the image
        assert len(set(choice[:40])) > 20  # not one crop for a batch
        assert np.mean(choice[:40] == choice[40:80]) < 0.2  # nor the same crops in each
        by_image.append(choice[np.argsort(labels)])
        by_position.append(choice)
    for chosen in (by_image, by_position):
        for one, two in itertools.combinations(chosen, 2):
            assert np.mean(one == two) < 0.1


@pytest.mark.parametrize("name", AUGMENTATIONS[1:])
def test_an_augmentation_is_new_in_every_epoch_for_every_image_and_the_same_in_every_run(name, noise):
    same = np.repeat(noise[:1], 40, axis=0)
    first, again = (training(same, np.zeros(40), scale=255, batch_size=20, seed=1, augment=name) for _ in range(2))
    epochs = [collected(first)[0] for _ in range(2)]
    place_of(again).go_to(epoch=1, batch=1)  # as a run that goes on does
    images, _ = next(iter(again))
    assert np.array_equal(images, epochs[1][20:])
    assert (images.dtype, images.shape) == (tf.float32, (20, 12, 12, 3))
    found = {image.tobytes() for epoch in epochs for image in epoch}
    assert len(found) > 50  # of 80; there are 162 crops and flips
    everything = np.concatenate(epochs)
    assert everything.min() >= 0 and everything.max() <= 1


def test_colors_change_after_the_crop_and_a_turn_leaves_the_middle(noise):
    images, seed = tf.cast(noise, tf.float32) / 255, tf.constant([0, 1])
    slope = tf.tile(tf.reshape(tf.linspace(0.4, 0.6, 12), [1, 1, 12, 1]), [400, 12, 1, 1])
    recolored = augmentation("crop_flip_color")(slope, seed).numpy()[:, 6, 5:7, 0]
    middle, flipped = recolored.mean(axis=1), recolored[:, 0] > recolored[:, 1]
    assert 0.1 < middle.min() < 0.4 and 0.6 < middle.max() < 0.9  # of 0.5; the black border takes part in contrast
    assert abs(np.corrcoef(middle, flipped)[0, 1]) < 0.2  # 4 standard deviations
    ramp = tf.tile(tf.reshape(tf.linspace(0.0, 1.0, 13), [1, 1, 13, 1]), [40, 13, 1, 1])
    turned = augmentation("rotate_zoom")(ramp, seed).numpy()
    assert np.abs(turned[:, 6, 6] - 0.5).max() < 0.02
    assert 0.01 < np.abs(turned - ramp).max() < 0.3
    assert np.array_equal(augmentation("none")(images, seed), images)


def test_without_augmentation_images_are_only_scaled(noise):
    dataset = training(noise, np.arange(len(noise)), scale=255, batch_size=40, seed=0, augment="none")
    images, labels = collected(dataset)
    assert np.array_equal(images, noise[labels] / np.float32(255))


# MNIST and CIFAR-10


@pytest.mark.parametrize("name", some(NAMES, fast=["digits"]))
def test_info_tells_the_shape_that_load_returns(name, request):
    splits = request.getfixturevalue("digits") if name == "digits" else request.getfixturevalue("loaded")(name)
    for split in splits:
        images, _ = next(iter(split))
        assert images.shape[1:] == info(name).image_shape
    assert set(collected(splits.test)[1]) == set(range(info(name).num_classes))


@pytest.mark.parametrize(("name", "sizes"), [("mnist", (55_000, 5_000, 10_000)), ("cifar10", (45_000, 5_000, 10_000))])
def test_large_sets_have_the_promised_sizes_and_disjoint_splits(name, sizes, loaded):
    splits = loaded(name)
    assert tuple(1_000 * len(split) for split in splits) == sizes
    for split in splits:
        images, labels = next(iter(split))
        assert (images.dtype, labels.dtype) == (tf.float32, tf.int32)
        assert 0 == tf.reduce_min(images) < tf.reduce_max(images) == 1
    validation, test = (set(fingerprints(split)) for split in (splits.validation, splits.test))
    assert len(validation) == 5_000
    assert not validation & test
    if name == "mnist":  # CIFAR-10's training images are augmented
        train = set(fingerprints(splits.train))
        assert len(train) == 55_000
        assert not train & (validation | test)


def test_cifar10_augments_training_images_only(loaded, tfds_dir):
    import tensorflow_datasets as tfds

    raw = tfds.load("cifar10", split="test", data_dir=tfds_dir, download=False, batch_size=-1)
    images, labels = collected(loaded("cifar10").test)
    assert np.array_equal(labels, raw["label"])
    assert np.array_equal(images, raw["image"].numpy() / np.float32(255))

    # A crop moves zeros in: half of the images have a first or last row of zeros, hardly any test image has.
    def with_a_black_edge(batch):
        return np.mean((batch[:, 0] == 0).all(axis=(1, 2)) | (batch[:, -1] == 0).all(axis=(1, 2)))

    assert with_a_black_edge(next(iter(loaded("cifar10").train))[0].numpy()) > 0.8  # expected 8/9
    assert with_a_black_edge(images) < 0.1
    assert with_a_black_edge(collected(loaded("cifar10").validation)[0]) < 0.1


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "imagenet"}, "dataset: got 'imagenet', expected one of digits, mnist, cifar10."),
        ({"name": ["mnist"]}, r"dataset: got \['mnist'\]"),
        ({"batch_size": 0}, "batch_size: got 0, expected a whole number >= 1"),
        ({"batch_size": 2.5}, "batch_size: got 2.5, expected a whole number >= 1"),
        ({"seed": -1}, r"seed: got -1, expected a whole number in \[0, 2\*\*31\)"),
        ({"train_examples": 0}, "train_examples: got 0, expected a whole number >= 1"),
        ({"train_examples": 1079}, "train_examples: got 1079, expected at most 1078. Lower train_examples"),
        ({"validation_examples": 121}, "validation_examples: got 121, expected at most 120. Lower validation_examples"),
    ],
)
def test_load_refuses(arguments, message):
    with pytest.raises(InvalidInput, match=f"^{message}"):
        load(**{"name": "digits", **arguments})


def test_a_data_dir_that_is_not_there_is_refused_and_not_created(tmp_path):
    missing = tmp_path / "nowhere"
    with pytest.raises(InvalidInput, match="data_dir: got '.*nowhere', expected an existing folder"):
        load("mnist", data_dir=missing)
    assert not missing.exists()


@pytest.fixture
def offline(monkeypatch):
    """No host has an address; returns the list of those that were asked for."""
    asked = []

    def no_address(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    return asked


def test_without_a_network_a_missing_data_set_fails_soon_with_one_line(offline, tmp_path, caplog):
    import tensorflow_datasets.core.download.downloader as downloader

    for _ in range(2):  # what the first try leaves behind does not break the next
        with pytest.raises(InvalidInput) as error:
            load("cifar10", data_dir=tmp_path)
        message = str(error.value)
        assert "\n" not in message
        assert message.startswith(f"data set cifar10: got no prepared copy in {tmp_path / 'cifar10'}")
        assert "ConnectionError" in message
        assert "--data_dir=FOLDER" in message
    assert not list((tmp_path / "cifar10").iterdir())
    assert 0 < len(offline) <= 2 * 4  # tensorflow-datasets alone asks eleven times, for minutes
    assert not [record for record in caplog.records if "Retrying" in record.getMessage()]
    assert downloader.MAX_RETRIES == 10  # a user's own downloads keep theirs


def copy_of_mnist(tfds_dir, target):
    """Copy the prepared MNIST without its permissions, which may forbid to write."""
    folder = next((tfds_dir / "mnist").iterdir())
    copy = target / "mnist" / folder.name
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        shutil.copyfile(file, copy / file.name)
    return copy


def cut_in_half(file: Path):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda folder: cut_in_half(next(folder.glob("*-train.tfrecord*"))), "DataLossError: truncated record"),
        (lambda folder: next(folder.glob("*-train.tfrecord*")).write_bytes(b""), "expected to contain 60000 elements"),
        (lambda folder: next(folder.glob("*-train.tfrecord*")).unlink(), "NotFoundError"),
        (lambda folder: cut_in_half(folder / "dataset_info.json"), "JSONDecodeError"),
        (lambda folder: (folder / "dataset_info.json").unlink(), "KeyError"),
    ],
    ids=["cut", "empty", "missing", "metadata cut", "metadata missing"],
)
def test_a_damaged_copy_is_named_in_one_line_and_left_alone(tfds_dir, tmp_path, damage, cause):
    damage(copy_of_mnist(tfds_dir, tmp_path))

    def snapshot():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    before = snapshot()
    with pytest.raises(InvalidInput) as error:
        load("mnist", data_dir=tmp_path)
    message = str(error.value)
    assert message.startswith(f"data set mnist: got a copy in {tmp_path}")
    assert cause in message
    assert "--data_dir=FOLDER" in message
    assert "\n" not in message
    assert snapshot() == before


def test_a_prepared_copy_is_read_without_a_network_and_never_written_to(offline, tfds_dir, monkeypatch):
    import tensorflow_datasets as tfds

    def forbidden(*args, **kwargs):
        raise AssertionError("a prepared copy must not be prepared again")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", forbidden)
    before = {path: path.stat().st_mtime_ns for path in tfds_dir.rglob("*")}
    load("mnist", data_dir=tfds_dir, train_examples=10)
    assert not offline
    assert {path: path.stat().st_mtime_ns for path in tfds_dir.rglob("*")} == before


# A user's own batches

IMAGES = np.linspace(0, 1, 2 * 4 * 4 * 1, dtype=np.float32).reshape([2, 4, 4, 1])
LABELS = np.array([0, 2])


def with_value(value):
    images = IMAGES.copy()
    images[0, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "num_classes"),
    [
        (IMAGES, LABELS, 3),
        (IMAGES, LABELS, None),
        (IMAGES.reshape([2, 16]), LABELS, 3),
        (IMAGES, LABELS[:, np.newaxis], 3),
        (IMAGES, LABELS.astype(np.uint8), 3),
        (IMAGES, np.eye(3, dtype=np.float32)[LABELS], 3),
        (IMAGES, np.eye(3, dtype=np.int64)[LABELS], None),
        (IMAGES.astype(np.float64), LABELS, 3),
        (with_value(1 + 5e-7), LABELS, 3),
        (with_value(-5e-7), LABELS, 3),
        (tf.cast(IMAGES, tf.bfloat16), tf.constant(LABELS), 3),
        (tf.cast(IMAGES, tf.float16), tf.constant(LABELS), 3),
    ],
)
def test_good_batches_pass(images, labels, num_classes):
    check_images_and_labels(images, labels, num_classes)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (with_value(np.nan), "1 NaN and 0 infinite values of 32"),
        (with_value(-np.inf), "0 NaN and 1 infinite values of 32"),
        (IMAGES * 255, "values from 0 to 255, expected values in .0, 1.. They look like 0..255: divide by 255"),
        ((IMAGES * 255).astype(np.uint8), "dtype uint8, expected a floating type. They look like 0..255"),
        (with_value(-1.5), "values from -1.5 to 1, .* look standardised"),
        (IMAGES * 16, "values from 0 to 16, .* divide by the largest value that a pixel can have"),
        (with_value(1.01), "values from 0.0322581 to 1.01, .* Scale them to"),
        (with_value(1 + 2e-6), "expected values in"),
        (with_value(-2e-6), "expected values in"),
        (IMAGES.astype(bool), "dtype bool, expected a floating type. Cast"),
        (np.array([["a"], ["b"]]), "dtype <U1, expected a floating type"),
        (IMAGES[0, 0, 0], r"shape \[1\], expected \[batch, height, width, channels\]"),
        (IMAGES[:0], r"shape \[0, 4, 4, 1\], expected .* not empty"),
    ],
)
def test_bad_images_are_refused(images, message):
    with pytest.raises(InvalidInput, match=f"^images: got .*{message}"):
        check_images_and_labels(images, LABELS, 3)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        (np.array([0, 3]), 3, r"values from 0 to 3, expected class numbers in \[0, 3\)"),
        (np.array([-1, 2]), 3, r"values from -1 to 2, expected class numbers in \[0, 3\)"),
        (np.array([-1, 2]), None, "values from -1 to 2, expected class numbers >= 0"),
        (np.array([0.0, 2.0]), 3, r"dtype float64 of shape \[2\], expected integers, or one-hot rows"),
        (np.array([0, 1, 2]), 3, r"2 images and labels of shape \[3\], expected one label an image"),
        (np.array(1), 3, r"2 images and labels of shape \[\], expected one label an image"),
        (np.zeros([2, 3, 1]), 3, r"labels of shape \[2, 3, 1\], expected one label an image"),
        (np.zeros([2, 0]), 3, r"labels of shape \[2, 0\], expected one label an image"),
        (np.eye(4)[LABELS], 3, r"shape \[2, 4\], expected \[batch, 3\]"),
        (np.array([[1, 0, 0], [0.9, 0.05, 0.05]]), 3, "1 of 2 rows .* the first .0.9  0.05 0.05.* one true class"),
        (np.array([[1, 1, 0], [0, 0, 1]]), 3, "1 of 2 rows .* the first .1 1 0., expected one-hot rows"),
        (np.array([[0, 0, 0], [0, 0, 1]]), 3, "1 of 2 rows .* the first .0 0 0., expected one-hot rows"),
        (np.array([[np.nan, 0, 1], [0, 0, 1]]), 3, "1 of 2 rows .* expected one-hot rows"),
        (np.array([[0, 0, 255], [0, 0, 1]]), 3, "1 of 2 rows .* the first .  0   0 255., expected one-hot rows"),
        (np.array([[2, -1, 0], [0, 0, 1]]), None, "1 of 2 rows .* expected one-hot rows"),
    ],
)
def test_bad_labels_are_refused(labels, num_classes, message):
    with pytest.raises(InvalidInput, match=f"^labels: got .*{message}"):
        check_images_and_labels(IMAGES, labels, num_classes)


def test_what_load_returns_passes_the_check(digits):
    for split in digits:
        check_images_and_labels(*next(iter(split)), num_classes=10)
