"""Renders the Markdown that a model or a person wrote as HTML that is safe to show.

Two independent walls: the parser passes no HTML through (CommonMark with tables, ``html=False``), and nh3 (ammonia)
keeps only the elements and attributes below. Nothing that is rendered makes a browser send a request: there are no
images, and a link is followed only by a click.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from vm_webapp.text import storable

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore

MOST_CHARACTERS = 100_000
REMEMBERED_CHARACTERS = 64_000
# A page has a heading of its own, and one for each document.
HEADINGS_ABOVE = 2
TAGS = frozenset(
    {"a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "strong"}
    | {"table", "tbody", "td", "th", "thead", "tr", "ul"}
)
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}


def render_markdown(text: str) -> Markup:
    """Return a text as HTML. The same short text is rendered once.

    Args:
        text: Markdown; beyond ``MOST_CHARACTERS`` it is shown as it was written, since rendering would take seconds.
    """
    if len(text) > MOST_CHARACTERS:
        return Markup('<pre tabindex="0">{}</pre>').format(storable(text))
    return _remembered(text) if len(text) <= REMEMBERED_CHARACTERS else _rendered(text)


def _rendered(text: str) -> Markup:
    import nh3  # here, as the parser below: an API starts sooner without them

    cleaned = nh3.clean(
        _parser().render(storable(text)),
        tags=set(TAGS),
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        url_relative="deny",  # a text may not lead into this site under words of its own choice
        link_rel="noopener noreferrer nofollow",
        # The page that a link is on may hold a form that is half filled in.
        set_tag_attribute_values={"a": {"target": "_blank"}, "pre": {"tabindex": "0"}},
        strip_comments=True,
    )
    # A wide table scrolls in its own box and not with the page; the box can be reached by keyboard.
    cleaned = cleaned.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    return Markup(cleaned.replace("</table>", "</table></div>"))  # noqa: S704 - cleaned above


_remembered = lru_cache(maxsize=64)(_rendered)


def _lower_headings(state: StateCore) -> None:
    """Put the headings of a text below those of its page, and let no level be left out."""
    level = HEADINGS_ABOVE
    for token in state.tokens:
        if token.type == "heading_open":
            level = min(int(token.tag[1:]) + HEADINGS_ABOVE, level + 1, 6)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{level}"


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    parser.core.ruler.push("lower_headings", _lower_headings)
    return parser
