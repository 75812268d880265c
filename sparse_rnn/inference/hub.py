"""Models of a hub, fetched by huggingface_hub: it has the cache, the login and the variables that steer it."""

from pathlib import Path

from sparse_rnn import __version__
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.extras import missing_extra
from sparse_rnn.inference.untrusted import reason


def downloaded(name: str, file: str, revision: str | None) -> Path:
    """A file of the model OWNER/NAME in the cache, fetched if need be; raises ConfigError.

    revision: a branch, tag or commit; None: the newest of the main branch. Without a connection, what was fetched
    before is taken.
    """
    try:
        from huggingface_hub import constants, errors, hf_hub_download
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name} is no file or folder here. {missing_extra(error) or error}") from None
    hub = constants.ENDPOINT
    try:
        return Path(
            hf_hub_download(name, file, revision=revision, library_name="sparse_rnn", library_version=__version__)
        )
    except errors.GatedRepoError:
        why = f"on {hub} is open only to those whom its owner lets in: ask there, then log in by `hf auth login`"
    except errors.RepositoryNotFoundError:
        why = f"is no file or folder here, and no public model on {hub} (log in by `hf auth login` for a private one)"
    except errors.RevisionNotFoundError:
        why = f"on {hub} has no revision {revision}"
    except errors.LocalEntryNotFoundError:
        why = f"is no file or folder here, {hub} cannot be reached, and the cache does not have it"
    except errors.EntryNotFoundError:
        why = f"on {hub} has no {file}: it is no model that sparse_rnn has exported"
    except errors.HFValidationError:
        why = "is no file or folder here, and cannot be the name of a model of a hub"
    except Exception as error:  # of the client, of what it sends requests with, or of the disk
        why = f"cannot be fetched from {hub} ({reason(error)})"
    raise ConfigError(f"{name} {why}.")
