"""Reads the forms of a page, as a browser would send them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    """A form of a page.

    Attributes:
        action: where it is sent to.
        method: ``get`` or ``post``.
        is_long: whether it is sent as ``multipart/form-data``.
        values: what is in its fields as the page has them.
        typed: the fields whose text a page that comes back must still have.
        buttons: the names and values of its buttons, and where each sends it.
    """

    action: str
    method: str
    is_long: bool
    values: dict[str, str] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._form: Form | None = None
        self._select = self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name, form = given.get("name", ""), self._form
        if tag == "form":
            is_long = given.get("enctype") == "multipart/form-data"
            self._form = Form(given.get("action", ""), given.get("method", "get"), is_long)
            self.found.append(self._form)
        elif form is None:
            return
        elif tag == "input":
            if given.get("type") not in ("checkbox", "radio") or "checked" in dict(attrs):
                form.values[name] = given.get("value", "")
            if given.get("type", "text") in ("text", "search"):
                form.typed.add(name)
        elif tag == "textarea":
            form.values[name], self._area = "", name
            form.typed.add(name)
        elif tag == "select":
            form.values[name], self._select = "", name
        elif tag == "option" and "selected" in dict(attrs):
            form.values[self._select] = given.get("value", "")
        elif tag == "button":
            form.buttons.append((name, given.get("value", ""), given.get("formaction", "")))

    def handle_data(self, data: str) -> None:
        if self._form is not None and self._area:
            self._form.values[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "textarea":
            self._area = ""


def forms_of(page: str) -> list[Form]:
    """Return the forms of a page, in their order."""
    parser = _Forms()
    parser.feed(page)
    return parser.found
