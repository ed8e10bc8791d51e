"""Sets of tensorflow-datasets by name: read from a prepared copy as that package reads them, and never downloaded."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from trainers.settings.config import Experiment
from wmr_tf.checks import InvalidInput
from wmr_tf.data import info, load
from wmr_tf.data.own import short_name

SHARED = Path(__file__).resolve().parents[2] / "shared/tfds"
CLASSES = ("ant", "bee")
NOISE = np.random.default_rng(0).integers(0, 256, [40, 6, 8, 3], np.uint8)


class TinyInsects(tfds.core.GeneratorBasedBuilder):
    """Twenty training images of two classes, and ten of another split."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("even", "uneven", "boxes")]

    def _info(self):
        shape = (6, 8, 3) if self.builder_config.name == "even" else (None, None, 3)
        label = tfds.features.ClassLabel(names=CLASSES)
        features = {"image": tfds.features.Image(shape=shape), "label": label}
        if self.builder_config.name == "boxes":
            features["label"] = tfds.features.Sequence(label)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 20), "extra": self._generate_examples(20, 30)}

    def _generate_examples(self, start, end):
        for number in range(start, end):
            image = NOISE[number] if self.builder_config.name == "even" else NOISE[number][: 4 + number % 3]
            label = CLASSES[number % 2]
            yield number, {"image": image, "label": [label] if self.builder_config.name == "boxes" else label}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    place = tmp_path_factory.mktemp("tfds")
    for config in ("even", "uneven", "boxes"):
        TinyInsects(config=config, data_dir=place).download_and_prepare()
    return place


@pytest.fixture
def copy(prepared, tmp_path):
    shutil.copytree(prepared / "tiny_insects", tmp_path / "tiny_insects")
    return tmp_path


def collected(dataset):
    images, labels = zip(*dataset, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_a_set_is_read_as_its_own_package_reads_it(prepared):
    source = info("tfds:tiny_insects/even", data_dir=prepared)
    assert (source.num_classes, source.image_shape, source.class_names) == (2, (6, 8, 3), CLASSES)
    splits = load("tfds:tiny_insects/even", data_dir=prepared, batch_size=1)
    # Cut by class as every set of one's own: 4 for the test, 2 of the rest for validation.
    found = [collected(split) for split in splits]
    assert [np.bincount(labels).tolist() for _, labels in found] == [[7, 7], [1, 1], [2, 2]]
    builder = TinyInsects(config="even", data_dir=prepared)
    expected = {each["image"].tobytes(): each["label"] for each in tfds.as_numpy(builder.as_dataset(split="train"))}
    read = {
        (255 * image).round().astype(np.uint8).tobytes(): label
        for images, labels in found
        for image, label in zip(images, labels, strict=True)
    }
    assert read == expected and len(read) == 20


def test_what_does_not_fit_decoded_stays_encoded_and_the_images_are_the_same(prepared, monkeypatch):
    kept = collected(load("tfds:tiny_insects/even", data_dir=prepared, batch_size=4).test)
    monkeypatch.setattr("wmr_tf.data.decoding._fit_in_memory", lambda *_: False)
    encoded = collected(load("tfds:tiny_insects/even", data_dir=prepared, batch_size=4).test)
    assert all(map(np.array_equal, kept, encoded))


def test_images_of_several_sizes_are_resized_if_that_is_asked_for(prepared):
    with pytest.raises(InvalidInput, match="'tfds:tiny_insects/uneven', whose images differ in size.*--image_size="):
        info("tfds:tiny_insects/uneven", data_dir=prepared)
    source = info("tfds:tiny_insects/uneven", data_dir=prepared, image_size=[5], color="grayscale")
    assert source.image_shape == (5, 5, 1)
    assert collected(load(source, batch_size=2).test)[0].shape == (4, 5, 5, 1)


def test_the_settings_of_a_run_take_it(prepared):
    experiment = Experiment.of("tfds:tiny_insects/even", "pgd", data_dir=str(prepared))
    experiment.check_place()
    assert experiment.architecture == "digits_cnn" and experiment.source() is experiment.source()
    assert short_name(experiment.dataset) == "tiny_insects-even"


def edited(file, change):
    def edit(place):
        path = place / "tiny_insects/even/1.2.0" / file
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def remove(pattern):
    return lambda place: [path.unlink() for path in (place / "tiny_insects/even/1.2.0").glob(pattern)]


def damage(place):
    (path,) = (place / "tiny_insects/even/1.2.0").glob("*train.tfrecord*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def image_of(features):
    return features["featuresDict"]["features"]["image"]["image"]


REFUSED = {
    "nowhere": ("tfds:beans", None, "got tfds:beans without a prepared copy in .*tfds build beans --data_dir=FOLDER"),
    "no such version": ("tfds:tiny_insects/even:9.0.0", None, "got tfds:tiny_insects/even:9.0.0 without a prepared"),
    "which config": ("tfds:tiny_insects", None, "got 'tfds:tiny_insects', expected one of its boxes, even, uneven."),
    "elsewhere": ("tfds:../tiny_insects", None, "got 'tfds:../tiny_insects', expected tfds:NAME"),
    "no classes": ("tfds:tiny_insects/boxes", None, "of which label is .*Sequence, expected a set of images and cl"),
    "no JSON": (
        None,
        lambda place: (place / "tiny_insects/even/1.2.0/features.json").write_text("{"),
        "cannot be read",
    ),
    "a file is gone": (None, remove("*train.tfrecord*"), "it tells of 1 train files and has 0"),
    "damaged": (None, damage, "that cannot be read .*expected one that tensorflow-datasets prepared"),
    "fewer": (
        None,
        edited("dataset_info.json", lambda info: info["splits"][0].update(shardLengths=["21"])),
        "it tells of 21 train images and has 20",
    ),
    "no train": (
        None,
        edited("dataset_info.json", lambda info: info["splits"][0].update(name="extra")),
        "with extra, expected a split train",
    ),
    "another kind of file": (
        None,
        edited("dataset_info.json", lambda info: info.update(fileFormat="array_record")),
        "as array_record, expected a copy as tfrecord",
    ),
    "floats": (
        None,
        edited("features.json", lambda features: image_of(features).update(dtype="float32")),
        "with images of float32, expected images of bytes",
    ),
    "names": (
        None,
        lambda place: (place / "tiny_insects/even/1.2.0/label.labels.txt").write_text("ant\n"),
        "it has 2 classes and 1 names",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_refused_in_one_line_and_nothing_is_downloaded(case, copy, monkeypatch):
    name, prepare, message = REFUSED[case]
    if prepare:
        prepare(copy)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    before = sorted(copy.rglob("*"))
    with pytest.raises(InvalidInput, match=message) as error:
        load(name or "tfds:tiny_insects/even", data_dir=copy)
    assert re.fullmatch(r"[^\n]+: got [^\n]+, expected [^\n]+\. [^\n]+", str(error.value))
    assert sorted(copy.rglob("*")) == before


def test_a_set_larger_than_memory_is_refused_before_it_is_read(prepared, monkeypatch):
    source = info("tfds:tiny_insects/even", data_dir=prepared)
    monkeypatch.setattr("wmr_tf.engine.machine.free_memory", lambda: 0)
    with pytest.raises(InvalidInput, match="of 0.0 GB, where 0.0 GB of memory are free, expected one that fits"):
        load(source)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no prepared copies here")
@pytest.mark.slow
def test_mnist_by_this_name_has_the_test_images_of_mnist():
    ours, theirs = (load(name, data_dir=SHARED, batch_size=1000).test for name in ("tfds:mnist", "mnist"))
    one, other = ({image.tobytes() for image in collected(dataset)[0]} for dataset in (ours, theirs))
    assert one == other and info("tfds:mnist", data_dir=SHARED).image_shape == (28, 28, 1)
