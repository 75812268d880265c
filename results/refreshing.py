"""Pages of Markdown with parts that a command prints: <!-- python -m results table ... --> to <!-- end -->."""

import re
import shlex
from collections.abc import Callable, Sequence

from sparse_rnn.core.errors import ConfigError

from .names import RESULTS

PART = re.compile(
    r"^(?P<begin><!-- python -m \S*results (?P<words>[^\n]+) -->\n).*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)


def refreshed(page: str, printed: Callable[[Sequence[str]], str]) -> str:
    """The page with what its commands print now; headings go one level below the one that the command stands under.

    printed: the output for the words after `-m results`. Raises ConfigError if the page has no command.
    """
    code = [match.span() for match in CODE.finditer(page)]
    found = [part for part in PART.finditer(page) if not any(low < part.start() < high for low, high in code)]
    if not found:
        raise ConfigError(
            f"The page has no part to make again: write <!-- python -m {RESULTS} ... --> and <!-- end -->."
        )
    text, done = "", 0
    for part in found:
        made = printed(shlex.split(part["words"]))
        text += f"{page[done : part.end('begin')]}\n{_below(page[: part.start()], made)}\n<!-- end -->"
        done = part.end()
    return text + page[done:]


def _below(before: str, made: str) -> str:
    """What was made, with its headings one level below the last one that a person wrote before it."""
    above, own = HEADING.findall(PART.sub("", CODE.sub("", before))), HEADING.findall(made)
    deeper = "#" * (len(above[-1]) + 1 - min(map(len, own))) if above and own else ""
    return HEADING.sub(lambda heading: f"{deeper}{heading[1]} ", made)
