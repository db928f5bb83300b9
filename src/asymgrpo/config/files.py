"""YAML files, read strictly, and checked against the JSON schemas in workflow/schemas/."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import referencing
import yaml
from referencing.jsonschema import DRAFT202012

from asymgrpo.config.errors import ConfigError, did_you_mean, mistake, show

SCHEMAS = Path("workflow", "schemas")
DOCUMENTS = ("setting", "config", "methods", "benchmarks", "artefacts", "claims", "scale")

# Which of several violations is told first: a misspelt key explains the missing one beside it.
_ORDER = ("additionalProperties", "type", "enum", "required")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which a key is text and is given once, and 3e-4 is a number (as in YAML 1.2)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                text = f"the key {key.value!r} is not text, put it in quotes"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
            if key.value in seen:
                text = f"the key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str, file: str) -> Any:
    """YAML text as plain Python; ConfigError with line and column if it is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise mistake(file, place, f"this is not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise mistake(file, "", f"this is not valid YAML: {' '.join(str(error).split())}") from None


def read(root: Path, file: Path) -> Any:
    """The content of `root/file`; ConfigError if there is no such file, or it is not UTF-8 or not YAML."""
    name = file.as_posix()
    try:
        text = (root / file).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        where = (root / file).resolve().parent
        raise mistake(name, "", f"there is no such file in {where}", "the whole of config/ and workflow/") from None
    except UnicodeDecodeError as error:
        raise mistake(name, "", f"byte {error.start} is not UTF-8", "a YAML file in UTF-8") from None
    except OSError as error:
        raise mistake(name, "", f"cannot be read: {error.strerror}", "a readable YAML file") from None
    return parse(text, name)


class Schemas:
    """The schemas of one repository."""

    def __init__(self, root: Path) -> None:
        self._contents = {name: read(root, SCHEMAS / f"{name}.schema.yaml") for name in DOCUMENTS}
        self._registry: referencing.Registry = referencing.Registry().with_resources(
            (f"{name}.schema.yaml", DRAFT202012.create_resource(contents)) for name, contents in self._contents.items()
        )

    def check(self, data: Any, schema: str, file: str) -> None:
        """Raise ConfigError for the first thing in `data`, read from `file`, that `<schema>.schema.yaml` forbids."""
        violations = list(_validator_class()(self._contents[schema], registry=self._registry).iter_errors(data))
        if violations:
            first = min(violations, key=lambda v: (_rank(v), [str(part) for part in v.absolute_path]))
            more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
            raise ConfigError(f"{_explain(first, file)}{more}")


@lru_cache(1)
def _validator_class() -> Any:
    """JSON schema 2020-12, except that 1.0 is no integer and an infinite number or NaN is no number."""
    base = jsonschema.Draft202012Validator
    checker = base.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            ),
        }
    )
    return jsonschema.validators.extend(base, type_checker=checker)


def _rank(violation: jsonschema.ValidationError) -> int:
    if "propertyNames" in violation.absolute_schema_path:
        return -1
    return _ORDER.index(violation.validator) if violation.validator in _ORDER else len(_ORDER)


def _explain(violation: jsonschema.ValidationError, file: str) -> ConfigError:
    path = list(violation.absolute_path)
    found, schema, rule = violation.instance, violation.schema, violation.validator
    if "propertyNames" in violation.absolute_schema_path:
        return mistake(file, _dotted([*path, found]), f"the name {found!r} cannot be used", expected_by(schema))
    if rule == "additionalProperties":
        known = list(schema.get("properties", {}))
        name = next(key for key in found if key not in known)
        hint = did_you_mean(name, known)
        return mistake(file, _dotted([*path, name]), f"unknown key{hint}", f"only the keys {', '.join(known)}")
    if rule == "required":
        name = next(key for key in violation.validator_value if key not in found)
        wanted = schema.get("properties", {}).get(name, {})
        return mistake(file, _dotted([*path, name]), "is missing", wanted.get("description", ""))
    if rule == "uniqueItems":
        twice = next(item for item in found if found.count(item) > 1)
        return mistake(file, _dotted(path), f"found {twice!r} more than once", "each of them once")
    hint = did_you_mean(found, map(str, schema["enum"])) if rule == "enum" and isinstance(found, str) else ""
    return mistake(file, _dotted(path), f"found {show(found)}{hint}", expected_by(schema))


def _dotted(path: list[Any]) -> str:
    return ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path).replace(".[", "[")


def expected_by(schema: Mapping[str, Any]) -> str:
    """What a (sub)schema asks for, in words: its own `x-expected` if it has one, else put together from its rules."""
    return schema.get("x-expected") or " ".join(_words(schema))


def _words(schema: Mapping[str, Any]) -> Iterator[str]:
    if "const" in schema or "enum" in schema:
        yield "one of " + ", ".join("null" if v is None else str(v) for v in schema.get("enum", [schema.get("const")]))
        return
    kinds = schema.get("type", "value")
    yield " or ".join(_kind(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{words} {schema[rule]}" for rule, words in bounds.items() if rule in schema]
    if limits:
        yield "that is " + " and ".join(limits)


def _kind(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "integer":
        step = schema.get("multipleOf", 1)
        return "an integer" if step == 1 else "an even integer" if step == 2 else f"a multiple of {step}"
    if kind == "array":
        size = "" if "minItems" not in schema else f" of at least {schema['minItems']}"
        inner = expected_by(schema["items"]) if "items" in schema else ""
        return f"a list{size}" + (f", each {inner}" if inner else "")
    return {
        "number": "a number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
        "object": "a mapping",
    }.get(kind, "a value")
