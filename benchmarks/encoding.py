"""The time to turn the texts of a data set into numbers."""

import numpy as np

from benchmarks.row import Row, median_seconds
from sparse_rnn.data.labelled.published import IMDB
from sparse_rnn.data.labelled.texts import Encoding, Labelled, LabelledTexts, make_labelled_texts

BAR = 30  # seconds
ROUNDS = 3
REVIEWS = 50_000
WORDS = 124_252  # different ones in IMDB
LOG_LENGTH = 5.25, 0.645  # mean and deviation of the logarithm of the number of words in IMDB's reviews


def rows() -> list[Row]:
    """Seconds for IMDB's 50,000 reviews, from their files and without the cache, or for made-up ones without IMDB."""
    imdb = IMDB()
    if (imdb.folder / "aclImdb").is_dir():
        return [Row("encoding, IMDB from its files", median_seconds(imdb.encode, ROUNDS), BAR, None, "seconds")]
    reviews = made_up()
    seconds = median_seconds(lambda: encode(reviews), ROUNDS)
    return [Row("encoding, 50,000 made-up reviews as long as IMDB's", seconds, BAR, None, "seconds")]


def made_up() -> list[Labelled]:
    """Texts as long as IMDB's, with word frequencies by Zipf's law."""
    random = np.random.default_rng(1)
    lengths = random.lognormal(*LOG_LENGTH, REVIEWS).astype(int) + 1
    shares = 1 / np.arange(1, WORDS + 1)
    drawn = random.choice(WORDS, int(lengths.sum()), p=shares / shares.sum())
    spelled = np.array([f"Word{number}," if number % 7 == 0 else f"word{number}" for number in range(WORDS)], object)
    texts = np.split(spelled[drawn], lengths.cumsum()[:-1])
    return [("positive" if i % 2 else "negative", " ".join(words)) for i, words in enumerate(texts)]


def encode(reviews: list[Labelled]) -> LabelledTexts:
    """Encode reviews with the settings of IMDB."""
    settings = Encoding(IMDB.vocabulary, IMDB.length, IMDB.valid_share)
    half = len(reviews) // 2
    return make_labelled_texts({"train": reviews[:half], "test": reviews[half:]}, settings)
