"""Markdown as safe HTML: what a model or a person wrote cannot do anything to a reader."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ui.markdown import ATTRIBUTES, MOST_CHARACTERS, TAGS, render_markdown

ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<math><mtext></mtext><mglyph><style><img src onerror=alert(1)></style></mglyph></math>",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<a href='javascript:alert(1)'>x</a>",
    "<form action=/sign-out-everywhere method=post><button>x</button></form>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<object data=https://evil.example/x.swf></object>",
    "<div hx-get=/ui/runs hx-trigger=load>x</div>",
    "<details open ontoggle=alert(1)>",
    "<!--><script>alert(1)</script>-->",
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=)",
    "![x][1]\n\n[1]: https://evil.example/pixel.png",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:msgbox(1))",
    "[x](//evil.example/)",
    "[x](/sign-out-everywhere)",
    "[x](https://evil.example \"' onmouseover='alert(1)\")",
    "<javascript:alert(1)>",
    "<https://evil.example/'onclick=alert(1)//>",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "| <script>alert(1)</script> |\n| --- |\n| <img src=x onerror=alert(1)> |",
    "# <script>alert(1)</script>",
    "> <script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe",
    "a\x00b",
    "\ud800 half a pair",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "</pre></div></main><h1>Sign in</h1>",
)
VOID = {"br", "hr"}


class Elements(HTMLParser):
    """Collects the elements of a page, and checks that each is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def assert_harmless(text: str) -> None:
    """Check that a text becomes nothing but the elements and attributes that are allowed."""
    for tag, attributes in Elements(render_markdown(text)).found:
        assert tag in {*TAGS, "div"}
        ours = {"a": {"target", "rel"}, "div": {"class", "tabindex"}, "pre": {"tabindex"}}.get(tag, set())
        assert attributes.keys() <= ATTRIBUTES.get(tag, set()) | ours
        if tag == "a":
            assert attributes["rel"] == "noopener noreferrer nofollow"
            assert (attributes.get("href") or "https:").startswith(("https:", "http:", "mailto:"))
        if tag == "div":
            assert attributes == {"class": "scroll", "tabindex": "0"}


@pytest.mark.parametrize("text", ATTACKS)
def test_an_attack_is_harmless(text: str) -> None:
    assert_harmless(text)


@given(
    st.lists(st.sampled_from([*ATTACKS, "\n", "\n\n", " ", "- ", "> ", "*", "_", "`", "|", "[", "]", "(", "<"])).map(
        "".join
    )
)
def test_attacks_in_any_order_are_harmless(text: str) -> None:
    assert_harmless(text)


def test_what_a_document_has_is_shown() -> None:
    text = (
        "# Plan\n\nSome **bold** words, [a page](https://bakery.example/a?b=1&c=2).\n\n"
        "| Day | Post |\n| - | - |\n| 1 | A |\n"
    )
    assert str(render_markdown(text)) == (
        "<h3>Plan</h3>\n<p>Some <strong>bold</strong> words, "
        '<a href="https://bakery.example/a?b=1&amp;c=2" target="_blank" rel="noopener noreferrer nofollow">'
        "a page</a>.</p>\n"
        '<div class="scroll" tabindex="0"><table>\n<thead>\n<tr>\n<th>Day</th>\n<th>Post</th>\n</tr>\n</thead>\n'
        "<tbody>\n<tr>\n<td>1</td>\n<td>A</td>\n</tr>\n</tbody>\n</table></div>\n"
    )


def test_headings_follow_those_of_the_page_and_leave_no_level_out() -> None:
    text = "### Third\n\n# First\n\n#### Fourth\n\n###### Sixth"
    assert re.findall(r"<h\d", render_markdown(text)) == ["<h3", "<h3", "<h4", "<h5"]


def test_a_picture_becomes_a_link() -> None:
    assert 'href="https://bakery.example/cake.png"' in render_markdown("![a cake](https://bakery.example/cake.png)")


@pytest.mark.parametrize("piece", ["[", "![", "\n- a", "*a _b ", "&", "|a|b|\n", "[a](b", "` `` ", ">", "<a "])
def test_no_text_takes_long(piece: str) -> None:
    began = time.process_time()
    render_markdown(piece * (MOST_CHARACTERS // len(piece) // 10))
    assert time.process_time() - began < 1


def test_a_text_that_would_take_long_is_shown_as_it_was_written() -> None:
    shown = render_markdown("<b>" + "*" * MOST_CHARACTERS)
    assert shown.startswith('<pre tabindex="0">&lt;b&gt;***')
