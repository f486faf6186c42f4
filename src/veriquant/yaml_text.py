"""YAML that people write, read without surprises: plain data, within bounds, or an error that names the line.

What a settings file has no use for is refused before it can do harm: tags, repetitions (aliases) that multiply or hold
themselves, nesting that nobody writes, numbers without end, NaN and infinity, the same key twice. A date is a text.
"""

from __future__ import annotations

import math
from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, ScalarEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from veriquant.checks import cut, quoted

#: A study of hundreds of networks and recipes has some thousand values.
_MOST_CHARACTERS = 1 << 20
_MOST_VALUES = 100_000
_DEEPEST = 40
#: The longest text of a number.
_LONGEST_NUMBER = 40
_MERGE = "tag:yaml.org,2002:merge"


def load_yaml(text: str) -> Any:
    """Return the plain data that a YAML text writes; raise ValueError, in one line, for anything else."""
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, and settings never need more than {_MOST_CHARACTERS}")
    try:
        _check_events(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(_told(error)) from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without dates, with keys that occur once and with numbers within bounds."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct_number(loader: _Loader, node: ScalarNode) -> int | float:
    text = node.value
    if len(text) > _LONGEST_NUMBER:
        raise _wrong(f"a number of {len(text)} characters", node)
    made: int | float = (
        loader.construct_yaml_int(node) if node.tag.endswith(":int") else loader.construct_yaml_float(node)
    )
    if not math.isfinite(made):
        raise _wrong(f"expected a finite number, found {quoted(text)}", node)
    return made


def _construct_mapping(loader: _Loader, node: MappingNode) -> dict[Any, Any]:
    own: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag != _MERGE:
            key = _key(loader, key_node)
            if key in own:
                raise _wrong(f"key {quoted(key)} twice", key_node)
            own.add(key)
    loader.flatten_mapping(node)  # what is merged stands in front: the mapping's own keys replace it
    return {
        _key(loader, key_node): loader.construct_object(value_node, deep=True) for key_node, value_node in node.value
    }


def _key(loader: _Loader, node: Node) -> Any:
    if not isinstance(node, ScalarNode):
        raise _wrong("a key must be a text", node)
    return loader.construct_object(node, deep=True)


def _wrong(what: str, node: Node | Event) -> yaml.YAMLError:
    place: Any = node.start_mark
    return yaml.MarkedYAMLError(None, None, what, place)


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _check_events(text: str) -> None:
    """Look at the text as it is parsed, before anything is built: PyYAML's builder is recursive, its parser is not."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if isinstance(event, CollectionStartEvent | ScalarEvent):
            values += 1
            if event.tag is not None:
                raise _wrong(f"a tag ({cut(str(event.tag), 60)}), which settings have no use for", event)
        if isinstance(event, ScalarEvent) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in event.value):
            raise _wrong("a character that no text holds (NUL, or half of one)", event)
        if depth > _DEEPEST:
            raise _wrong(f"nested more than {_DEEPEST} deep", event)
        if values > _MOST_VALUES:
            raise _wrong(f"more than {_MOST_VALUES} values", event)
        if isinstance(event, AliasEvent):
            values += 1


def _count(node: Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for, aliases written out; refuse too many, and one that holds itself."""
    if id(node) in known:
        if not known[id(node)]:
            raise _wrong("an alias to what it stands in itself", node)
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    if isinstance(node, SequenceNode | MappingNode):
        parts = node.value if isinstance(node, SequenceNode) else [part for pair in node.value for part in pair]
        for part in parts:
            total += _count(part, known)
            if total > _MOST_VALUES:
                raise _wrong(f"aliases that multiply to more than {_MOST_VALUES} values", node)
    known[id(node)] = total
    return total


def _told(error: yaml.YAMLError) -> str:
    """Return the problem and its place in one line, without the excerpt that PyYAML draws."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    parts = [part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part]
    told = cut(" ".join(" ".join(parts or [str(error)]).split()))
    return told if mark is None else f"{told} (line {mark.line + 1}, column {mark.column + 1})"
