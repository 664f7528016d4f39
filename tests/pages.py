"""A reader of pages that collects what matters."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects what matters: what is asked of a network, pictures without words, tags left open."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.mute: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "img", "br", "hr", "line", "path", "rect", "image", "link", "input"):
            self.open.append(tag)
        for name in ("src", "href", "srcset", "data", "action"):
            if given.get(name) and not str(given[name]).startswith("data:"):
                self.requests.append(str(given[name]))
        if (tag == "img" and not given.get("alt")) or (tag == "svg" and not given.get("aria-label")):
            self.mute.append(str(given))
        assert tag != "script"

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "path", "rect", "image"):
            assert self.open.pop() == tag
