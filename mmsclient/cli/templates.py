"""Templates on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from mmsclient._words import counted
from mmsclient.bulk import Template
from mmsclient.bulk.template import MessageText, field_key
from mmsclient.cli.status import UsageError

__all__ = ["NO_TEMPLATE", "TemplateOptions"]


@Parameter(name="*", group=Group("Template"))
@dataclass(frozen=True, kw_only=True)
class TemplateOptions:
    """A message of their own for each recipient."""

    template: Annotated[bool, Parameter(show_default=False)] = False
    """Text and subject are templates: {first_name} stands for the column of that name, {{ and }} for a brace."""
    default: Annotated[tuple[str, ...], Parameter(show_default=False, negative=())] = ()
    """Such as first_name=there: what stands for a field that a row leaves empty. May be given again for others."""

    def texts(self, text: str, subject: str | None) -> tuple[MessageText, MessageText | None]:
        """The text and the subject of the campaign. Raises `UsageError` for a wrong default."""
        defaults = dict(_pair(default) for default in self.default)
        if len(defaults) < len(self.default):
            raise UsageError(f"--default: {counted(len(self.default), 'value')} for {counted(len(defaults), 'field')}")
        if not self.template:
            if defaults:
                raise UsageError("--default fills in a template: give --template too")
            return text, subject
        names = {*Template(text).names, *Template(subject or "").names}
        if unknown := [name for name in defaults if name not in names]:
            raise UsageError(f"--default {unknown[0]}=…: text and subject have no field {{{unknown[0]}}}")
        return _template(text, defaults), None if subject is None else _template(subject, defaults)


NO_TEMPLATE = TemplateOptions()


def _pair(default: str) -> tuple[str, str]:
    name, equals, value = default.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--default {default}: expected NAME=VALUE, such as first_name=there")
    return field_key(name), value


def _template(source: str, defaults: dict[str, str]) -> Template:
    names = Template(source).names
    return Template(source, defaults={name: value for name, value in defaults.items() if name in names})
