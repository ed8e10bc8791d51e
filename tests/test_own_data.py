"""Images of one's own: folders and .npz files become data sets like the named ones."""

import hashlib
import re
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import wmr_tf
from wmr_tf.checks import InvalidInput
from wmr_tf.data import decoding, info, load
from wmr_tf.data.cutting import Given, arrays_of
from wmr_tf.data.encoded import pixels
from wmr_tf.data.pipeline import place_of

CLASSES = ("ant", "bee", "cat")
SUFFIXES = ("png", "jpg", "bmp", "gif")


def noise(seed, shape=(6, 8, 3)):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_folder(root, count=10, suffixes=("png",)):
    """Write different images of three classes."""
    for label, name in enumerate(CLASSES):
        for number in range(count):
            write(root / name / f"{number}.{suffixes[number % len(suffixes)]}", noise(1000 * label + number))
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("own") / "photos")


def collected(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def digests(dataset):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in collected(dataset)[0]]


# A folder


def test_a_folder_is_a_data_set_whose_images_are_those_in_the_files(photos):
    source = info(str(photos))
    assert (source.num_classes, source.image_shape) == (3, (6, 8, 3))
    splits = load(str(photos), batch_size=1)
    found = {}
    for split in splits:
        for image, label in zip(*collected(split), strict=True):
            found[(image * 255).round().astype(np.uint8).tobytes()] = label
    expected = {noise(1000 * label + number).tobytes(): label for label in range(len(CLASSES)) for number in range(10)}
    assert found == expected
    assert splits.train.element_spec[0].shape == (1, 6, 8, 3)


def test_a_folder_is_cut_by_class_into_splits_that_share_nothing_and_are_those_of_every_seed(photos):
    splits, other = load(str(photos), batch_size=1), load(str(photos), batch_size=1, seed=5)
    counts = [np.bincount(collected(split)[1]).tolist() for split in splits]
    assert counts == [[7] * 3, [1] * 3, [2] * 3] and splits.train_examples == 21
    # Written down, so that a change of the cut is noticed: it would make results incomparable.
    assert collected(splits.test)[1].tolist() == [1, 1, 2, 0, 0, 2]
    assert digests(splits.test) == digests(other.test) and digests(splits.validation) == digests(other.validation)
    assert len({*digests(splits.train), *digests(splits.validation), *digests(splits.test)}) == 30


def test_images_that_do_not_fit_into_memory_stay_in_their_files_and_the_batches_are_the_same(photos, monkeypatch):
    kept = load(str(photos), batch_size=4, seed=3, with_index=True)
    monkeypatch.setattr("wmr_tf.engine.machine.free_memory", lambda: 0)
    monkeypatch.setattr(decoding, "_read", counted := Counted(decoding._read))
    streamed = load(str(photos), batch_size=4, seed=3, with_index=True)
    assert [type(each.images).__name__ for each in counted.results] == ["EncodedImages"]
    for one, other in zip(kept, streamed, strict=True):
        assert one.element_spec == other.element_spec
    place_of(kept.train).go_to(2, 3)
    place_of(streamed.train).go_to(2, 3)  # batches have addresses
    for (x, y), (u, v) in zip(kept.train, streamed.train, strict=True):
        assert np.array_equal(x["image"], u["image"]) and np.array_equal(x["index"], u["index"])
        assert np.array_equal(y, v)
    assert digests(kept.test) == digests(streamed.test)


def test_a_file_that_vanishes_during_a_fit_is_named_in_one_line(tmp_path, monkeypatch):
    write_folder(tmp_path / "photos")
    monkeypatch.setattr("wmr_tf.engine.machine.free_memory", lambda: 0)
    train, _, _ = load(str(tmp_path / "photos"), batch_size=4)
    classifier = keras.Sequential([keras.Input([6, 8, 3]), keras.layers.Flatten(), keras.layers.Dense(3)])
    model = wmr_tf.AdversarialModel(classifier, wmr_tf.methods.Natural())
    model.compile("sgd")
    model.fit(train, verbose=0)
    for path in (tmp_path / "photos").rglob("*.png"):
        path.unlink()
    with pytest.raises(
        OSError, match=r"^an image cannot be read any more: .*photos/.*\.png: .*No such file or directory$"
    ):
        model.fit(train, verbose=0)


class Counted:
    """A function that remembers what it returned."""

    def __init__(self, function):
        self.function, self.results = function, []

    def __call__(self, *args):
        self.results.append(self.function(*args))
        return self.results[-1]


def test_the_four_formats_and_all_modes_of_colour_are_read(tmp_path):
    grey, rgba = noise(1, (6, 8)), noise(2, (6, 8, 4))
    for suffix in SUFFIXES:
        write(tmp_path / f"grey.{suffix}", grey)
        found = pixels(tmp_path / f"grey.{suffix}", (6, 8, 3))
        assert np.abs(found - grey[..., np.newaxis].astype(float)).max() <= (30 if suffix == "jpg" else 0)
    write(tmp_path / "rgba.png", rgba)
    assert np.array_equal(pixels(tmp_path / "rgba.png", (6, 8, 3)), rgba[..., :3])
    write(tmp_path / "deep.png", (grey.astype(np.uint16) << 8) + 3)
    assert np.array_equal(pixels(tmp_path / "deep.png", (6, 8, 1))[..., 0], grey)
    assert np.array_equal(pixels(tmp_path / "grey.png", (6, 8, 1))[..., 0], grey)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png", transparency=b"\0\1")
    assert np.array_equal(pixels(tmp_path / "palette.png", (6, 8, 1))[..., 0], grey)


def test_images_of_other_sizes_are_resized_if_that_is_asked_for(tmp_path):
    write_folder(tmp_path)
    write(tmp_path / "ant/wide.png", np.full((4, 9, 3), 51, np.uint8))
    with pytest.raises(InvalidInput, match="wide.png' of 4 x 9 pixels where others have 6 x 8.*--image_size=6,8"):
        load(str(tmp_path))
    source = info(str(tmp_path), image_size=[5], color="grayscale")
    assert source.image_shape == (5, 5, 1)
    found = np.concatenate([collected(split)[0] for split in load(source, batch_size=1)])
    assert found.shape == (31, 5, 5, 1)
    assert (np.ptp(found, axis=(1, 2, 3)) == 0).sum() == 1  # an even surface stays one
    assert np.isclose(found[np.ptp(found, axis=(1, 2, 3)) == 0], 0.2).all()


def test_a_folder_that_is_cut_already_stays_so_and_common_images_are_told(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        for label, name in enumerate(CLASSES):
            for k in range(4 - number):
                write(tmp_path / split / name / f"{k}.png", noise(100 * number + 10 * label + k))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = load(str(tmp_path), batch_size=1)
    assert [np.bincount(collected(split)[1]).tolist() for split in splits] == [[4] * 3, [3] * 3, [2] * 3]
    write(tmp_path / "test/bee/again.png", noise(10))
    with pytest.warns(UserWarning, match=r"1 of 7 test images are train images too.*bee/again.png, .*bee/0.png"):
        load(str(tmp_path))


def test_copies_of_an_image_stay_in_one_split():
    labels = np.repeat([0, 1], 20)
    keys = [bytes([k // 2]) for k in range(40)]  # each image twice
    given = Given(np.arange(40).reshape([40, 1, 1, 1]), labels, keys, list(map(str, range(40))))
    found = arrays_of({"train": given})
    parts = [{int(image.item()) // 2 for image in images} for images in (found[0], found[2], found[4])]
    assert sum(map(len, parts)) == 20 == len(set.union(*parts))
    assert [len(labels) for labels in (found[1], found[3], found[5])] == [28, 8, 4]


def test_an_image_in_two_classes_is_told(tmp_path):
    write_folder(tmp_path)
    write(tmp_path / "bee/twin.png", noise(3))
    with pytest.warns(
        UserWarning, match="1 training images are identical to one of another class, .*bee/twin.png, .*ant/3"
    ):
        splits = load(str(tmp_path), batch_size=1)
    assert sum(len(collected(split)[1]) for split in splits) == 31


def test_images_that_cannot_be_read_are_named_or_left_out(tmp_path):
    write_folder(tmp_path)
    good = (tmp_path / "bee/0.png").read_bytes()
    (tmp_path / "bee/cut.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "cat/a text.png").write_text("no image")
    with pytest.raises(InvalidInput, match="got 2 images that cannot be read, .*a text.png.*cut.png.*--skip_broken"):
        load(str(tmp_path))
    with pytest.warns(UserWarning, match="left out 2 images that cannot be read, .*a text.png"):
        splits = load(info(str(tmp_path), skip_broken=True), batch_size=1)
    assert sum(len(collected(split)[1]) for split in splits) == 30


# An .npz file


def write_npz(path, *, x=None, y=None, **others):
    arrays = {"x_train": noise(0, (40, 6, 8)), "y_train": np.arange(40) % 4}
    arrays |= {"x_test": noise(1, (10, 6, 8)), "y_test": np.arange(10) % 4}
    x, y = x or (lambda array: array), y or (lambda array: array)
    arrays = {name: x(array) if name[0] == "x" else y(array) for name, array in arrays.items()} | others
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


FORMS = [
    (None, None),
    (lambda x: x[..., np.newaxis], lambda y: y[:, np.newaxis]),
    (lambda x: x / 255, lambda y: np.eye(4)[y]),
    (lambda x: np.float32(x / 255), lambda y: y.astype(np.uint8)),
]


@pytest.mark.parametrize(("x", "y"), FORMS)
def test_an_npz_file_is_the_same_data_set_in_every_form_that_is_understood(tmp_path, x, y):
    path = write_npz(tmp_path / "own.npz", x=x, y=y)
    assert (info(path).num_classes, info(path).image_shape) == (4, (6, 8, 1))
    splits = load(path, batch_size=1)
    counts = [np.bincount(collected(split)[1]).tolist() for split in splits]
    assert counts == [[9] * 4, [1] * 4, [3, 3, 2, 2]]
    images, labels = collected(splits.test)
    expected = {image.tobytes(): k % 4 for k, image in enumerate(noise(1, (10, 6, 8)))}
    assert {
        (255 * image).round().astype(np.uint8).tobytes(): k for image, k in zip(images, labels, strict=True)
    } == expected


REFUSED = {
    "missing": ({"y_test": None}, "without y_test, expected arrays x_train, y_train, x_test, y_test"),
    "pickles": ({"y_train": np.array([{}] * 40, object)}, "holds objects, which only pickle reads"),
    "integers": ({"x": lambda x: x.astype(np.int64)}, "x_train: got dtype int64, expected uint8, or floats in"),
    "texts": ({"y": lambda y: np.array(list("abcd"))[y]}, r"got dtype <U1.*Number the classes: np.unique\(labels, "),
    "transparency": (
        {"x": lambda x: np.stack([x] * 4, -1)},
        r"got shape \[40, 6, 8, 4\].*the transparency: x\[..., :3\]",
    ),
    "range": ({"x": lambda x: x.astype(np.float32)}, "train images: got values from 0 to 255, expected"),
    "channels": ({"x": lambda x: np.stack([x] * 3, 1)}, r"got shape \[40, 3, 6, 8\].*channels last: np.moveaxis"),
    "unlike": ({"x_test": noise(0, (10, 8, 6))}, "x_test: got uint8 of shape"),
    "from 1": ({"y": lambda y: y + 1}, r"y_train: got labels 1, 2, 3, 4, expected all of 0..k-1"),
    "gap": ({"y": lambda y: y * 2}, "y_train: got labels 0, 2, 4, "),
    "one class": ({"y": lambda y: y * 0}, "y_train: got labels 0, expected"),
    "soft": ({"y": lambda y: np.full([len(y), 4], 0.25)}, "labels: got .* rows with other values"),
    "too few": (
        {"y_train": np.arange(40) // 39, "y_test": np.zeros(10, int)},
        "1 different training images of class 1, expected at least 2",
    ),
    "unknown": ({"y_test": np.full(10, 4)}, r"test labels: got values from 4 to 4, expected class numbers in \[0, 4\)"),
    "count": ({"y_test": np.arange(9) % 4}, "test labels: got 10 images and labels of shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_npz_file_in_any_other_form_is_refused(case, tmp_path):
    changes, message = REFUSED[case]
    with pytest.raises(InvalidInput, match=message) as error:
        load(write_npz(tmp_path / "own.npz", **changes))
    assert re.fullmatch(r"[^\n]+: got [^\n]+, expected [^\n]+\. [^\n]+", str(error.value))


# What is neither

MISTAKES = {
    "nowhere": "dataset: got 'nowhere', expected one of digits, .* or images of your own: a folder, .* or tfds:NAME",
    "nowhere/": "data: got 'nowhere', expected an existing folder",
    "nowhere.npz": "data: got 'nowhere.npz', expected an existing .npz file",
    "none": "data: got 0 subfolders in 'none', expected at least two: one subfolder of images a class",
    "one": "data: got 1 subfolder in 'one', expected at least two",
    "empty": "data: got no image in 'empty/bee', the folder of a class, expected image files whose names end in",
    "broken": "data: got no image that can be read in 'broken'",
    "uneven": "data: got cat in only one of 'uneven/train' and 'uneven/test', expected the same classes",
    "cased": "data: got Testing, Training in 'cased', of which Testing, Training have the same subfolders, expected",
    "valid": "data: got test, train, valid in 'valid', of which train, valid have the same subfolders, expected",
    "few": "data: got 2 different training images of class 0, expected at least 3, one for each split",
    "text.npz": "data: got 'text.npz' (it is no whole zip file",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    (tmp_path / "text.npz").write_text("no arrays")
    for path in ("one/ant/0.png", "empty/ant/0.png", "uneven/train/ant/0.png", "uneven/train/bee/0.png"):
        write(tmp_path / path, noise(0))
    write(tmp_path / "uneven/test/ant/0.png", noise(1))
    for root in ("cased/Training", "cased/Testing", "valid/train", "valid/valid"):
        for each in ("ant", "bee"):
            write(tmp_path / root / each / "0.png", noise(0))
    write(tmp_path / "valid/test/0.png", noise(0))
    for path in ("empty/bee", "uneven/train/cat", "uneven/test/bee", "broken/ant", "broken/bee"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("broken/ant/0.png", "broken/bee/0.png", "uneven/train/cat/0.png"):
        (tmp_path / path).write_text("no image")
    write_folder(tmp_path / "few", count=2)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidInput) as error:
        load(name)
    assert re.search(MISTAKES[name].replace("(", r"\("), str(error.value)), str(error.value)
    assert re.fullmatch(r"[^\n]+: got [^\n]+, expected [^\n]+\. [^\n]+", str(error.value))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("option", [{"image_size": [8]}, {"color": "rgb"}, {"skip_broken": True}])
def test_only_folders_take_the_options_of_folders(option, tmp_path):
    for name in ("digits", write_npz(tmp_path / "own.npz")):
        with pytest.raises(InvalidInput, match="expected nothing, since only folders of images and tfds:NAME have it"):
            info(name, **option)
    assert info(str(write_folder(tmp_path / "photos", count=1)), image_size=[8]).image_shape == (8, 8, 3)


@pytest.mark.parametrize("size", [[0], [8, 8, 8], [], ["big"]])
def test_a_size_is_one_number_or_two(size, photos):
    with pytest.raises(InvalidInput, match="image_size: got"):
        info(str(photos), image_size=size)


def test_names_come_before_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "digits", count=1)
    assert info("digits").image_shape == (8, 8, 1)
    assert info("./digits").image_shape == info("digits/").image_shape == (6, 8, 3)
