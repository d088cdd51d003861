"""The public API in one text: every public name with its signature, and every public member of a public class.

`python -m tools.public_api --write` writes it to `tests/project/public_api.txt`; without the option it is printed. A
test compares the two, so that no public name changes unnoticed. It is read from the source and not from the imported
package, so it is the same on every Python.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

import mmsclient

SNAPSHOT = Path(__file__).parent.parent / "tests" / "project" / "public_api.txt"
MODULES = (
    "mmsclient",
    "bulk",
    "errors",
    "limiter",
    "models",
    "observe",
    "observe.otel",
    "observe.prometheus",
    "outbox",
    "pictures",
    "sandbox",
    "sandbox.faults",
    "sms",
    "webhooks",
)
"""The public modules; all but the first are below it."""

SHOWN_DUNDERS = frozenset({"__init__", "__call__"})


def public_api() -> str:
    """A line for each public name and member, sorted."""
    places = [Path(mmsclient.__file__).parent.parent]
    package = griffe.load("mmsclient", search_paths=places, allow_inspection=False, resolve_aliases=True)
    homes: dict[str, str] = {}
    lines: list[str] = []
    for module in sorted(MODULES, key=lambda name: name in ("mmsclient", "limiter")):  # errors and models first
        found = target(package if module == "mmsclient" else package[module])
        path = "mmsclient" if module == "mmsclient" else f"mmsclient.{module}"
        for name in sorted(map(str, found.exports or exported(found))):
            thing = target(found[name])
            home = homes.setdefault(thing.path, f"{path}.{name}")
            lines += described(f"{path}.{name}", thing) if home == f"{path}.{name}" else [f"{path}.{name} = {home}"]
    return "\n".join(sorted(lines, key=lambda line: re.sub(r"^([a-z]+ )+", "", line))) + "\n"


def exported(module: griffe.Object) -> Iterator[str]:
    """The names that a module without `__all__` defines for others."""
    for name, member in module.members.items():
        if not name.startswith("_") and not member.is_alias and (member.is_class or member.is_function):
            yield name


def target(thing: griffe.Object | griffe.Alias) -> griffe.Object:
    return thing.final_target if isinstance(thing, griffe.Alias) else thing


def described(path: str, thing: griffe.Object) -> Iterator[str]:
    """`thing`, and its members if it is a class."""
    if isinstance(thing, griffe.Module):
        yield f"module {path}"
    elif isinstance(thing, griffe.Function):
        kinds = sorted({"async", "classmethod", "staticmethod"} & thing.labels)
        yield " ".join([*kinds, path]) + signature(thing)
    elif isinstance(thing, griffe.Class):
        yield f"class {path}({', '.join(short(base) for base in thing.bases)})"
        members = {**thing.inherited_members, **thing.members}
        for name, member in members.items():
            if name in SHOWN_DUNDERS or not name.startswith("_"):
                yield from described(f"{path}.{name}", target(member))
    elif isinstance(thing, griffe.Attribute):
        annotation = f": {short(thing.annotation)}" if thing.annotation is not None else ""
        yield path + annotation + default(thing) + (" [property]" if "property" in thing.labels else "")


def default(attribute: griffe.Attribute) -> str:
    """Its value where that is part of the API: a member of an enum, an alias, or the default of a field."""
    value = "" if attribute.value is None else short(attribute.value)
    is_set_at_run_time = not {"class-attribute", "module-attribute"} & attribute.labels
    is_required = value.startswith("field(") and not re.search(r"\b(default|factory)=", value)
    if not value or attribute.name == "__version__" or is_set_at_run_time or is_required:
        return ""
    return " = ..." if re.search(r"\w\(", value) else f" = {value}"


def signature(function: griffe.Function) -> str:
    """The parameters, and what it returns."""
    parts: list[str] = []
    marks = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not any(part.startswith("*") for part in parts):
            parts.append("*")
        has_default = parameter.default is not None and parameter.kind not in marks
        value = f" = {resolved(parameter.default, function)}" if has_default else ""
        parts.append(f"{marks.get(parameter.kind, '')}{parameter.name}: {short(parameter.annotation)}{value}")
        if parameter.kind is griffe.ParameterKind.positional_only:
            parts.append("/")
    while parts.count("/") > 1:
        parts.remove("/")
    return f"({', '.join(parts)}) -> {short(function.returns)}"


def resolved(expression: object, function: griffe.Function) -> str:
    """A default, and if it is a constant that is defined beside the function, that one's value."""
    beside = function.module.members
    constant = target(beside[str(expression)]) if str(expression) in beside else None
    return short(constant.value if isinstance(constant, griffe.Attribute) else expression)


def short(expression: object) -> str:
    """An expression without the modules before its names: where a name is imported from is no part of the API."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", str(expression))


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        SNAPSHOT.write_text(public_api(), encoding="utf-8")
    else:
        sys.stdout.write(public_api())
