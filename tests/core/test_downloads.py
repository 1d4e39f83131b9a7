"""Downloads go through the user's proxies, and nothing else does."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from neulig_fl.core.downloads import SET_ASIDE, download, set_aside


@pytest.fixture
def proxy() -> Iterator[str]:
    """A proxy on this machine that answers everything itself."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"for {self.path}".encode())

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_of_a_run_uses_the_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it weights could not be fetched where a proxy is the only way out."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    aside = set_aside({"http_proxy": proxy, "PATH": "/bin"})
    monkeypatch.setenv(SET_ASIDE, aside[SET_ASIDE])
    monkeypatch.setenv("HTTPS_PROXY", "http://before")
    urllib.request.install_opener(urllib.request.build_opener())  # as an earlier download leaves it
    with download(), urllib.request.urlopen("http://weights.invalid/x.pt", timeout=30) as answer:
        assert answer.read() == b"for http://weights.invalid/x.pt"
    assert "http_proxy" not in os.environ
    assert os.environ["HTTPS_PROXY"] == "http://before"


def test_without_proxies_nothing_changes() -> None:
    """Without it a download would need a variable that only a run sets."""
    before = dict(os.environ)
    assert set_aside({"PATH": "/bin"}) == {}
    with download():
        assert dict(os.environ) == before
