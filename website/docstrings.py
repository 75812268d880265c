"""What mkdocstrings shows of docstrings: their `name: what it is` sentences as a list. An extension of Griffe."""

from typing import Any

from griffe import Extension, Function, Object

from website.meanings import paragraphs


class Names(Extension):
    """Puts what a docstring says of parameters and attributes into lists."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of an object that Griffe has read."""
        if obj.docstring:
            names = [each.name for each in obj.parameters] if isinstance(obj, Function) else list(obj.members)
            obj.docstring.value = listed(obj.docstring.value, [name.lstrip("*") for name in names])


def listed(text: str, names: list[str]) -> str:
    """The docstring with the parts that begin with some of the names as items of a list."""
    shown = []
    for original, parts in zip(text.split("\n\n"), paragraphs(text, names), strict=True):
        (_, before), *others = parts
        if not others:
            shown.append(original)
            continue
        items = (f"- **{', '.join(f'`{name}`' for name in keys)}**: {meaning}" for keys, meaning in others)
        shown += [*filter(None, [before]), "\n".join(items)]
    return "\n\n".join(shown)
