"""dataset=sequential_mnist and sequential_digits: small files in the published formats, and what is made of them."""

import gzip
import struct
from collections.abc import Sequence
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.registry import lookup
from sparse_rnn.data import fetch
from sparse_rnn.data.baselines import image_models
from sparse_rnn.data.batches import Shuffled
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.sequences import images
from sparse_rnn.data.sequences.images import SequentialDigits, SequentialMNIST, make_images, permutation

SIZES = {"sequential_mnist": (784, 55_000), "sequential_digits": (64, 1_293)}


def idx(content: Sequence[int], *shape: int, magic: int = 0x800) -> bytes:
    """A gzipped file of bytes in MNIST's format."""
    return gzip.compress(struct.pack(f">{1 + len(shape)}I", magic + len(shape), *shape) + bytes(content))


def publish(root: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Path:
    """Put files in the place of the published ones."""
    folder = root / "sequential_mnist"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    known = {name: (name, sha256(content).hexdigest()) for name, content in files.items()}
    monkeypatch.setattr(images, "MNIST_FILES", known)
    return folder


@pytest.fixture
def mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Five training and two test images of 2 x 2 pixels; three of the five are trained on."""
    files = {
        "train-images-idx3-ubyte.gz": idx(range(20), 5, 2, 2),
        "train-labels-idx1-ubyte.gz": idx([3, 1, 4, 1, 5], 5),
        "t10k-images-idx3-ubyte.gz": idx([255, 0, 51, 102] * 2, 2, 2, 2),
        "t10k-labels-idx1-ubyte.gz": idx([9, 2], 2),
    }
    publish(root, monkeypatch, files)
    monkeypatch.setattr(SequentialMNIST, "train", 3)
    return files


def test_the_last_training_images_are_held_out(mnist: dict[str, bytes]) -> None:
    data = SequentialMNIST().load()
    assert [data.splits[name].pixels.tolist() for name in SPLITS] == [
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
        [[12, 13, 14, 15], [16, 17, 18, 19]],
        [[255, 0, 51, 102]] * 2,
    ]
    assert [data.splits[name].labels.tolist() for name in SPLITS] == [[3, 1, 4], [1, 5], [9, 2]]
    assert fetch.describe(SequentialMNIST()) == "3 / 2 / 2 images, 1 number per step, 10 classes"


def test_a_batch_has_a_number_between_0_and_1_for_each_step(mnist: dict[str, bytes]) -> None:
    batch = next(Shuffled(SequentialMNIST().load().splits["test"], 5).after(0))
    assert batch.inputs.shape == (4, 2, 1)
    assert batch.inputs[:, 1, 0].tolist() == pytest.approx([1.0, 0.0, 0.2, 0.4])
    assert batch.targets.tolist() == [9, 2]
    assert batch.tokens == 8


def test_all_images_are_permuted_alike(mnist: dict[str, bytes]) -> None:
    plain, permuted = SequentialMNIST().load(), SequentialMNIST(permuted=True).load()
    order = permutation(4)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert order.equal(permutation(4)), "another order in another run"
    for name in SPLITS:
        assert permuted.splits[name].pixels.equal(plain.splits[name].pixels[:, order])
        assert permuted.splits[name].labels.equal(plain.splits[name].labels)
    assert permuted.sha256 != plain.sha256
    assert permutation(784).tolist() != list(range(784))


def test_the_beginning_has_whole_images(mnist: dict[str, bytes]) -> None:
    data = SequentialMNIST().load()
    assert data.limited(9, 4).counts == {"train": 2, "valid": 1, "test": 1}
    assert data.limited(1, None).counts == {"train": 1, "valid": 2, "test": 2}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train-images-idx3-ubyte.gz", idx(range(19), 5, 2, 2)),
        ("train-images-idx3-ubyte.gz", idx(range(20), 5, 2, 2, magic=0x900)),
        ("train-images-idx3-ubyte.gz", idx(range(20), 20)),
        ("t10k-labels-idx1-ubyte.gz", gzip.compress(b"x")),
    ],
    ids=["too short", "another type", "too flat", "no header"],
)
def test_what_is_no_such_file_is_named(
    mnist: dict[str, bytes], root: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    folder = publish(root, monkeypatch, mnist | {name: content})
    kind = 3 if "images" in name else 1
    again = "remove it and get it again."
    assert refusal(SequentialMNIST()) == f"{folder / name} is no IDX file of bytes in {kind} dimensions: {again}"


def test_a_file_that_was_cut_off_is_named(mnist: dict[str, bytes], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "train-labels-idx1-ubyte.gz"
    folder = publish(root, monkeypatch, mnist | {name: mnist[name][:-9]})
    assert refusal(SequentialMNIST()).startswith(f"{folder / name} is damaged or cut off (")


def test_images_need_a_label_each(mnist: dict[str, bytes], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(root, monkeypatch, mnist | {"t10k-labels-idx1-ubyte.gz": idx([9], 1)})
    assert "The t10k files of sequential_mnist have 2 images and 1 labels" in refusal(SequentialMNIST())


def test_what_cannot_be_downloaded_is_named(root: Path) -> None:
    sentence = refusal(SequentialMNIST())
    assert sentence.startswith("sequential_mnist cannot be downloaded (no connection): put ")
    assert sentence.endswith("or use dataset=sequential_digits, which needs nothing.")


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """scikit-learn with these lines as its digits."""
    path = tmp_path / "sklearn" / images.DIGITS
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(text.encode()))
    origin = str(tmp_path / "sklearn" / "__init__.py")
    monkeypatch.setattr(images, "find_spec", lambda name: ModuleSpec(name, None, origin=origin))
    monkeypatch.setattr(images, "DIGITS_SHA256", sha256(path.read_bytes()).hexdigest())
    return path


def lines(count: int) -> str:
    """Image k has k % 17 at its first step, and the digit k % 10."""
    return "".join(f"{k % 17},{','.join(['16'] * 63)},{k % 10}\n" for k in range(count))


def test_digits_are_drawn_once_and_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, lines(1797))
    data = SequentialDigits().load()
    assert data.counts == {"train": 1_293, "valid": 144, "test": 360}
    assert data.splits["train"].largest == 16
    drawn = torch.cat([data.splits[name].labels for name in SPLITS])
    assert torch.bincount(drawn).tolist() == [180] * 7 + [179] * 3
    assert drawn[:20].tolist() != [k % 10 for k in range(20)]
    assert SequentialDigits().load().sha256 == data.sha256
    assert SequentialDigits(permuted=True).load().sha256 != data.sha256


@pytest.mark.parametrize("text", ["1,2\n", f"17,{','.join(['0'] * 63)},1\n", f"{','.join(['0'] * 64)},10\n", "a\n"])
def test_another_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = package(tmp_path, monkeypatch, text)
    sentence = refusal(SequentialDigits())
    assert sentence.startswith(f"{path} is no table of ")
    assert sentence.endswith(": install scikit-learn again.")


def test_without_the_package_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    assert refusal(SequentialDigits()).endswith("not installed: pip install 'sparse-rnn[digits]' brings it.")


def test_another_file_than_the_known_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = package(tmp_path, monkeypatch, lines(5))
    path.write_bytes(b"x")
    assert refusal(SequentialDigits()) == f"{path} is not the file of digits that is known: install scikit-learn again."


@pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_the_digits_are_as_published() -> None:
    data = SequentialDigits().load()
    assert list(data.counts.values()) == [1_293, 144, 360]
    assert data.sizes == SequentialDigits().sizes() == (1, 10)
    assert data.splits["train"].pixels.max() == 16


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_known_without_the_files(name: str, root: Path) -> None:
    dataset = compose_run(["model=lstm_classifier", f"dataset={name}"]).dataset
    steps, train = SIZES[name]
    assert type(dataset) is lookup("dataset", name)
    assert dataset.sizes() == (1, 10)
    assert dataset.train_tokens(None) == steps * train
    assert dataset.train_tokens(2 * steps + 1) == 2 * steps
    assert not root.exists()


def test_baselines_by_hand() -> None:
    """Class 1 is most frequent; means are (0, 2) for class 0 and (8, 8) for class 1; others have no image."""
    train = np.array([[0, 0], [0, 4], [8, 8], [8, 8], [8, 8]], np.uint8), np.array([0, 0, 1, 1, 1], np.uint8)
    valid = np.array([[3, 3], [9, 9], [5, 6]], np.uint8), np.array([0, 1, 0], np.uint8)
    made = make_images({"train": train, "valid": valid, "test": valid}, 16, permuted=False)
    assert image_models(made) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
