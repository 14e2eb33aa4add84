"""Fifty texts that do harm where a page does not escape them, or escapes them wrongly."""

from __future__ import annotations

STRINGS = (
    "<script>window.harmed = 1</script>",
    "<img src=x onerror=window.harmed=1>",
    "<svg onload=window.harmed=1>",
    "<svg><script>window.harmed=1</script></svg>",
    '"><script>window.harmed=1</script>',
    "'><script>window.harmed=1</script>",
    "</title><script>window.harmed=1</script>",
    "</textarea><script>window.harmed=1</script>",
    "</option></select><img src=x onerror=window.harmed=1>",
    "</style><script>window.harmed=1</script>",
    "<!--><script>window.harmed=1</script>-->",
    "]]><script>window.harmed=1</script>",
    "<iframe src=javascript:window.top.harmed=1></iframe>",
    "<iframe srcdoc='<script>top.harmed=1</script>'></iframe>",
    "<object data=javascript:window.harmed=1></object>",
    "<embed src=javascript:window.harmed=1>",
    "<a href=javascript:window.harmed=1>click</a>",
    "<a href='java\tscript:window.harmed=1'>click</a>",
    "<base href=https://evil.example/>",
    "<link rel=stylesheet href=https://evil.example/a.css>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<form action=https://evil.example/><button>Go</button></form>",
    "<input autofocus onfocus=window.harmed=1>",
    "<details open ontoggle=window.harmed=1>",
    "<video><source onerror=window.harmed=1></video>",
    "<body onload=window.harmed=1>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=window.harmed=1>",
    "<noscript><p title='</noscript><img src=x onerror=window.harmed=1>'>",
    "<div hx-get=/account hx-trigger=load>x</div>",
    "<div hx-on:click=window.harmed=1 hx-trigger=load>x</div>",
    "<div data-hx-get=/account data-hx-trigger=load>x</div>",
    "<hx-partial hx-target=body>x</hx-partial>",
    "<p id=live hx-swap-oob=true>x</p>",
    "<template hx type=partial>x</template>",
    "{{ 7 * 7 }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "${window.harmed=1}",
    "#{7*7}",
    "javascript:window.harmed=1",
    "data:text/html,<script>window.harmed=1</script>",
    "&lt;script&gt;window.harmed=1&lt;/script&gt;",
    "&#60;script&#62;window.harmed=1&#60;/script&#62;",
    "%3Cscript%3Ewindow.harmed=1%3C/script%3E",
    "+ADw-script+AD4-window.harmed=1+ADw-/script+AD4-",
    "\u003cscript\u003ewindow.harmed=1",
    "\u202e\u2066<script>window.harmed=1</script>\u2069",
    "\ufeff<script>window.harmed=1</script>",
    "\u2028<script>window.harmed=1</script>\u2029",
    "<scr\u00adipt>window.harmed=1</scr\u00adipt>",
    "x" * 120 + "<img src=x onerror=window.harmed=1>",
)
assert len(STRINGS) == 50

WORKFLOW = """
title: "</label><script>window.harmed = 1</script>"
description: "<img src=x onerror=window.harmed=1>"
stages:
  - key: check
    title: "<svg onload=window.harmed=1>"
    needs_model: false
"""
