"""The parts of Markdown pages that commands print."""

import pytest

from results import commands
from results.refreshing import refreshed
from results.requests import parse
from sparse_rnn.core.errors import ConfigError

PAGE = """\
# Title

```markdown
<!-- python -m results table example -->
<!-- end -->
```

### Numbers

```bash
# no heading
```

<!-- python -m results table a 'b c' -->
old
<!-- end -->

between

<!-- python -m results compare a b -->
<!-- end -->

after
"""


def test_each_part_is_what_its_command_prints_and_the_rest_stays() -> None:
    made = refreshed(PAGE, lambda words: f"## {'/'.join(words)}\n\n### below\n")
    assert made == PAGE.replace("old\n", "\n#### table/a/b c\n\n##### below\n\n").replace(
        "compare a b -->\n", "compare a b -->\n\n#### compare/a/b\n\n##### below\n\n"
    )
    assert refreshed(made, lambda words: f"## {'/'.join(words)}\n\n### below\n") == made


def test_a_page_without_a_command_is_refused() -> None:
    with pytest.raises(ConfigError, match="no part to make again"):
        refreshed("# Title\n\n<!-- python -m results table a -->\n", lambda words: "")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("<!-- python -m results sync a/b -->\n<!-- end -->\n", "cannot be made by `sync a/b`"),
        ("<!-- python -m results table tabel2 -->\n<!-- end -->\n", "tabel2 is no table"),
    ],
)
def test_a_page_that_cannot_be_made_stays_as_it_was(part, said, tmp_path) -> None:
    path = tmp_path / "page.md"
    path.write_text(part, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        commands.refresh(parse("refresh", [str(path)]))
    assert path.read_text(encoding="utf-8") == part
    with pytest.raises(ConfigError, match=r"none\.md cannot be read"):
        commands.refresh(parse("refresh", [str(tmp_path / "none.md")]))
    with pytest.raises(ConfigError, match="Which page"):
        parse("refresh", [])
