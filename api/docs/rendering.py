"""Renders the pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from api.http.templates import templates_in

CODE = re.compile("`([^`]+)`")
BOUNDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "maxItems": "at most {} items",
    "pattern": "matching {}",
    "default": "by default {}",
}

_ENVIRONMENT = templates_in(Path(__file__).parent / "templates")


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: the name of its file, without the ending.
        values: what it shows.
    """
    return _ENVIRONMENT.get_template(f"{template}.html").render(values)


def text(words: str) -> Markup:
    """Return a line of Markdown as HTML: text with code between backticks."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(words))))  # noqa: S704 - escaped


def markdown(words: str) -> Markup:
    """Return Markdown as HTML: paragraphs, lists of one level, and code. The document has no more than that."""
    html = []
    for block in words.strip().split("\n\n"):
        lines = block.split("\n")
        if not block:
            continue
        if lines[0].startswith("- "):
            items = " ".join(line.strip() if not line.startswith("- ") else f"\0{line[2:]}" for line in lines)
            html.append(f"<ul>{''.join(f'<li>{text(item.strip())}</li>' for item in items.split(chr(0)) if item)}</ul>")
        else:
            html.append(f"<p>{text(' '.join(lines))}</p>")
    return Markup("\n".join(html))  # noqa: S704 - escaped


def type_of(schema: dict[str, Any]) -> Markup:
    """Return what kind of value a schema describes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#shape-{0}">{0}</a>').format(name)
    bounds = [words.format(json.dumps(schema[name])) for name, words in BOUNDS.items() if name in schema]
    return Markup(", ").join([_kind(schema), *bounds])


def _kind(schema: dict[str, Any]) -> Markup:
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(" or ").join(Markup("<code>{}</code>").format(json.dumps(each)) for each in values)
    for keyword in ("anyOf", "oneOf"):
        # With properties beside it, anyOf says which of them are needed, not of which kind the value is.
        if keyword in schema and "properties" not in schema:
            return Markup(" or ").join(type_of(each) for each in schema[keyword])
    if schema.get("type") == "array":
        return Markup("list of {}").format(type_of(schema["items"]))
    named = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return escape(schema.get("format") or named.get(schema.get("type", ""), schema.get("type", "anything")))


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


_ENVIRONMENT.filters |= {"text": text, "markdown": markdown, "type": type_of, "tojson_text": _as_json}
