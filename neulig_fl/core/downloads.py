"""Downloads use the user's proxies; what a run says to itself on this machine never does.

The processes of a simulation talk to one another over loopback, where a proxy can only be in the
way, in whatever variable it stands. So they are started without those variables, and get them back
for the time of a download.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SET_ASIDE = "NEULIG_PROXIES"
"""The variable in which a run's processes keep the user's proxy variables, as a JSON object."""

_ENDING = "_proxy"


def proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that name a proxy, or what is asked without one; any scheme, any case.

    Example:
        >>> proxies({"HTTPS_PROXY": "http://p:3128", "no_proxy": "intern", "PATH": "/bin"})
        {'HTTPS_PROXY': 'http://p:3128', 'no_proxy': 'intern'}
    """
    return {name: each for name, each in variables.items() if name.lower().endswith(_ENDING)}


def set_aside(variables: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment of a process that is started without proxies.

    Example:
        >>> set_aside({"http_proxy": "http://p:3128"})
        {'NEULIG_PROXIES': '{"http_proxy": "http://p:3128"}'}
        >>> set_aside({"PATH": "/bin"})
        {}
    """
    found = proxies(variables)
    return {SET_ASIDE: json.dumps(found)} if found else {}


@contextmanager
def download() -> Iterator[None]:
    """Have the user's proxies in the environment within the block, for all of this process."""
    added = json.loads(os.environ.get(SET_ASIDE, "{}"))
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    _open_anew(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _open_anew(added)


def _open_anew(added: Mapping[str, str]) -> None:
    """Have `urlopen` read the variables again: it keeps the proxies that it found at first."""
    if added:
        urllib.request.install_opener(urllib.request.build_opener())
