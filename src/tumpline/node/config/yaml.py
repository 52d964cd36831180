"""YAML with positions: values by PyYAML, and beside them the line of every key."""

from __future__ import annotations

from typing import Any

import yaml

from tumpline.errors import ConfigError
from tumpline.node.config.problems import Path, Problems

SUFFIXES = frozenset({".yaml", ".yml"})
MAX_KEYS = 200_000  # a few lines of aliases of aliases are billions


def parse(text: str, problems: Problems) -> Any:
    """The values; the lines of keys go into `problems`. Aliases are resolved, merge keys as YAML 1.1 says. Keys are texts.

    After a problem there is nothing."""
    value = _parse(text, problems)
    return {} if len(problems) else _with_text_keys(value)


def _parse(text: str, problems: Problems) -> Any:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add_line(mark.line + 1 if mark else 1, f"{error.problem or error.context}; correct the YAML there")
        return {}
    except yaml.YAMLError as error:  # octets that no YAML has
        problems.add_line(1, f"{' '.join(str(error).split())}; write YAML")
        return {}
    if root is None:
        return {}
    _note_lines(root, (), problems, set())
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add_line(mark.line + 1 if mark else 1, f"{error.problem or error.context}; correct the YAML there")
        return {}
    finally:
        loader.dispose()


def _with_text_keys(value: Any) -> Any:
    """YAML has keys that are numbers or nothing; here they are names: a net may be called 7."""
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


def _note_lines(node: yaml.Node, path: Path, problems: Problems, above: set[int]) -> None:
    problems.lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in above:
        problems.add(path, "this contains itself; write it out")
        return
    if len(problems.lines) > MAX_KEYS:
        raise ConfigError(f"{problems.source}: more than {MAX_KEYS} keys once its aliases are written out; write fewer")
    inside = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            problems.lines[(*path, str(key.value))] = key.start_mark.line + 1
            _note_lines(item, (*path, str(key.value)), problems, inside)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, index), problems, inside)
