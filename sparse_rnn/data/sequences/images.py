"""Images whose pixels a classifier reads one by one, row after row; each data set's dataclass is its configuration."""

import gzip
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.random import generator
from sparse_rnn.core.registry import register
from sparse_rnn.data import download
from sparse_rnn.data.content import data_root
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.text_files import reading

Pixels = npt.NDArray[np.uint8]
CLASSES = 10

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
# By the checksums that public code compares them with, for example that of TensorFlow Datasets.
MNIST_FILES = {
    name: (name, sha256)
    for name, sha256 in {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }.items()
}
DIGITS = "datasets/data/digits.csv.gz"  # in scikit-learn's folder
DIGITS_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


@dataclass(frozen=True)
class ImageSplit:
    """pixels: uint8 [images, steps], up to `largest`. labels: int64 [images]."""

    pixels: Tensor
    labels: Tensor
    largest: int

    @property
    def length(self) -> int:
        """Pixels of an image."""
        return self.pixels.shape[1]

    def inputs(self, chosen: Tensor) -> Tensor:
        """The pixels of these images as numbers in [0, 1], float32 [steps, images, 1]."""
        return (self.pixels[chosen].t().float() / self.largest)[..., None].contiguous()

    def first(self, images: int | None) -> "ImageSplit":
        """The first images (None: all)."""
        return replace(self, pixels=self.pixels[:images], labels=self.labels[:images])

    def to(self, device: torch.device) -> "ImageSplit":
        """The split on a device."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Images:
    """Three splits of images. sha256: of pixels, labels and order."""

    unit: ClassVar[str] = "images"
    size_names: ClassVar[tuple[str, ...]] = ("number per step", "classes")
    sizes: ClassVar[tuple[int, ...]] = (1, CLASSES)
    splits: Mapping[str, ImageSplit]
    sha256: str

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each split."""
        return {name: len(split.labels) for name, split in self.splits.items()}

    def limited(self, train: int | None, other: int | None) -> "Images":
        """The first images of each split: as many as fit into `train` and `other` pixels, at least one (None: all)."""
        cut = {}
        for name, split in self.splits.items():
            pixels = train if name == "train" else other
            cut[name] = split.first(None if pixels is None else max(1, pixels // split.length))
        return replace(self, splits=cut)


def make_images(splits: Mapping[str, tuple[Pixels, Pixels]], largest: int, *, permuted: bool) -> Images:
    """Images from the pixels [images, steps] and labels [images] of each split.

    permuted: whether the pixels come in a random order, the same for all images, splits and runs.
    """
    digest, made = hashlib.sha256(f"images {largest}".encode()), {}
    for name in SPLITS:
        pixels, labels = splits[name]
        if permuted:
            pixels = pixels[:, permutation(pixels.shape[1]).numpy()]
        digest.update(f"{name} {pixels.shape}".encode() + pixels.tobytes() + labels.tobytes())
        made[name] = ImageSplit(torch.from_numpy(np.array(pixels)), torch.from_numpy(np.array(labels)).long(), largest)
    return Images(made, digest.hexdigest())


def permutation(pixels: int) -> Tensor:
    """The order in which the permuted pixels of an image are read, int64 [pixels]."""
    return torch.randperm(pixels, generator=generator("sequential_images", "permutation", pixels))


class _SequentialImages:
    """What both data sets have in common."""

    task: ClassVar[str] = "text_classification"
    reads_numbers: ClassVar[bool] = True
    steps: ClassVar[int]  # pixels of an image
    train: ClassVar[int]  # images for training

    def sizes(self) -> tuple[int, ...]:
        """One number at each step, ten classes."""
        return Images.sizes

    def train_tokens(self, limit: int | None) -> int:
        """The pixels of the training images, or of as many images as fit into `limit`."""
        return self.steps * (self.train if limit is None else min(self.train, max(1, limit // self.steps)))


@register("dataset", "sequential_mnist")
@dataclass
class SequentialMNIST(_SequentialImages):
    """MNIST (LeCun et al. 1998), pixel by pixel (Le et al. 2015): 55,000 / 5,000 / 10,000 images of 784 pixels.

    The last 5,000 training images are held out for validation. permuted: whether pixels come in a random order, the
    same in all runs.
    """

    steps: ClassVar[int] = 784
    train: ClassVar[int] = 55_000

    name: str = "sequential_mnist"
    permuted: bool = False

    def load(self) -> Images:
        """The images, downloaded if need be."""
        paths = self.fetch()
        read = {
            part: (
                read_idx(paths[f"{part}-images-idx3-ubyte.gz"], 3),
                read_idx(paths[f"{part}-labels-idx1-ubyte.gz"], 1),
            )
            for part in ("train", "t10k")
        }
        for part, (pixels, labels) in read.items():
            if len(pixels) != len(labels):
                found = f"{len(pixels):,} images and {len(labels):,} labels"
                raise ConfigError(f"The {part} files of {self.name} have {found}: remove them and get them again.")
        (pixels, labels), test = read["train"], read["t10k"]
        splits = {
            "train": (pixels[: self.train], labels[: self.train]),
            "valid": (pixels[self.train :], labels[self.train :]),
            "test": test,
        }
        return make_images(splits, 255, permuted=self.permuted)

    def fetch(self) -> dict[str, Path]:
        """Paths of the four files by name; missing ones are downloaded."""
        remote = download.mirrored(MNIST_MIRRORS, MNIST_FILES)
        own = "labelled_text"
        return download.fetch(data_root() / self.name, remote, dataset=self.name, embedded="sequential_digits", own=own)


@register("dataset", "sequential_digits")
@dataclass
class SequentialDigits(_SequentialImages):
    """scikit-learn's copy of the UCI digits, pixel by pixel: 1,293 / 144 / 360 images of 64 pixels with 17 levels.

    Nobody has divided them: a fixed seed draws a fifth for the test, and a tenth of the others for validation.
    permuted: whether pixels come in a random order, the same in all runs.
    """

    steps: ClassVar[int] = 64
    train: ClassVar[int] = 1_293
    valid: ClassVar[int] = 144

    name: str = "sequential_digits"
    permuted: bool = False

    def load(self) -> Images:
        """The images, from the installed package."""
        table = read_digits(digits_file())
        order = torch.randperm(len(table), generator=generator("sequential_digits", "splits")).numpy()
        places = np.split(order, [self.train, self.train + self.valid])
        splits = {name: (table[rows, :-1], table[rows, -1]) for name, rows in zip(SPLITS, places, strict=True)}
        return make_images(splits, 16, permuted=self.permuted)


def read_idx(path: Path, dimensions: int) -> Pixels:
    """The bytes of a gzipped file in MNIST's format: [images, pixels], or labels [images]. Raises ConfigError."""
    with reading(path), gzip.open(path) as stream:
        content = stream.read()
    header = 4 * (1 + dimensions)
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:header]) if len(content) >= header else (0,)
    if magic != 0x800 + dimensions or len(content) != header + int(np.prod(shape, dtype=np.int64)):
        raise ConfigError(f"{path} is no IDX file of bytes in {dimensions} dimensions: remove it and get it again.")
    found = np.frombuffer(content, np.uint8, offset=header)
    return found.reshape(shape[0], -1) if dimensions > 1 else found


def digits_file() -> Path:
    """Where scikit-learn has its digits; it is not imported for that. Raises ConfigError."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ConfigError(
            "dataset=sequential_digits reads the digits that come with scikit-learn, which is not installed: "
            "pip install 'sparse-rnn[digits]' brings it."
        )
    path = Path(package.origin).parent / DIGITS
    if not path.is_file() or download.sha256_of(path) != DIGITS_SHA256:
        raise ConfigError(f"{path} is not the file of digits that is known: install scikit-learn again.")
    return path


def read_digits(path: Path) -> Pixels:
    """The lines of the file, 64 levels from 0 to 16 and the digit [images, 65]. Raises ConfigError."""
    try:
        with reading(path), gzip.open(path, "rt", encoding="ascii") as stream:
            table = np.loadtxt(stream, delimiter=",", ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no table of digits ({error}): install scikit-learn again.") from None
    pixels, digits = table[:, :-1], table[:, -1]
    if table.shape[1] != 65 or not (0 <= pixels.min() <= pixels.max() <= 16 and 0 <= digits.min() <= digits.max() <= 9):
        raise ConfigError(f"{path} is no table of 64 levels and a digit: install scikit-learn again.")
    return table.astype(np.uint8)
