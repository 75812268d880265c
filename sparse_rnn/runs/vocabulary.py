"""The vocabulary of a run, kept in its folder: its model can read and write text where its data are not."""

from collections.abc import Mapping
from typing import Any

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.files import write_text
from sparse_rnn.core.reading import read_bytes
from sparse_rnn.data.base import Data
from sparse_rnn.data.tokenizers import Tokenizer, from_json, to_json, tokenizer_of
from sparse_rnn.runs.folder import RunFolder

INSTEAD = "remove it, so that the run's data are read instead"


def save_vocabulary(folder: RunFolder, data: Data) -> None:
    """Keep the vocabulary of the data, if they have one. Raises OSError."""
    if tokenizer := tokenizer_of(data):
        write_text(folder.vocabulary, f"{to_json(tokenizer)}\n")


def load_vocabulary(folder: RunFolder, record: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of a run; None if it keeps none, as runs of earlier versions do not. Raises DamagedFile."""
    path = folder.vocabulary
    try:
        tokenizer = from_json(read_bytes(path), record["sizes"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DamagedFile(f"{path} is not the vocabulary of this run ({reason}): {INSTEAD}.") from None
    if tokenizer.data_sha256 != record["data_sha256"]:
        data = f"the data that {folder.path} was trained on"
        raise DamagedFile(f"{path} is not of {data}, their SHA-256 differs: {INSTEAD}.")
    return tokenizer
