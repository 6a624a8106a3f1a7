"""What comes before serving: the socket, an upstream to forward to, and the words a person sees."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from proxy.demo_fleet import LARGE, SMALL, DemoFleet
from proxy.logs import in_json
from proxy.model_settings import Offload
from proxy.settings import Settings, Upstream, upstream_of_openai
from proxy.whereabouts import url_of

log = logging.getLogger("nearhit.start")

_CURL = """\
nearhit is ready on {url}; try:
  curl {url}/v1/chat/completions -H 'content-type: application/json' {key}-i -d \\
    '{{"model": "{model}", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'"""
_KEY = "-H 'authorization: Bearer YOUR_KEY' "


class CannotStart(Exception):
    """The server cannot start; says why in one line."""


def say(line: str) -> None:
    """Tell the person at the terminal, or the log where that is read by machines."""
    if in_json():
        log.info("%s", line)
        return
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def greeting(listener: socket.socket, model: str, *, pages: bool, keys: bool) -> str:
    """Return what a person is told once it serves: the command to try it with, and the `pages`.

    Where `keys` are configured the command takes one of them.
    """
    url = url_of(listener)
    told = _CURL.format(url=url, model=model, key=_KEY if keys else "")
    return f"{told}\nwhat becomes of it: {url}/admin" if pages else told


def listen(host: str, port: int, *, beside_others: bool = False) -> socket.socket:
    """Return a listening socket; with `beside_others`, one of several on this port.

    Raises CannotStart.
    """
    with _refusing(host, port):
        return socket.create_server(
            (host.strip("[]"), port),
            family=_family(host),
            backlog=2048,
            reuse_port=beside_others,
        )


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds a port for those who will listen there, and takes no connection.

    Raises CannotStart, also when somebody listens there who would share the port.
    """
    with _refusing(host, port):
        listen(host, port).close()  # refused if anybody listens, whoever it is
        held = socket.socket(_family(host), socket.SOCK_STREAM)
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if held.family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as create_server
            held.bind((host.strip("[]"), port))
        except BaseException:
            held.close()
            raise
        return held


@asynccontextmanager
async def with_upstreams(
    settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[tuple[Settings, str, bool]]:
    """Yield settings that name an upstream, a model to try it with, and whether it is the demo's.

    Raises DemoFleetFailed, OSError, ConfigInvalid.
    """
    if settings.upstreams:
        literal = [m for u in settings.upstreams for m in u.models if not set("*?[") & set(m)]
        yield settings, (literal or ["gpt-4o-mini"])[0], False
    elif upstream := upstream_of_openai(environ):
        yield settings.model_copy(update={"upstreams": [upstream]}), "gpt-4o-mini", False
    else:
        say("no upstream configured: starting demo models on this machine")
        async with DemoFleet(progress=say) as fleet:
            yield settings.model_copy(update=demo_settings(fleet.urls, settings)), SMALL.name, True


def demo_settings(urls: Mapping[str, str], settings: Settings) -> dict[str, object]:
    """Return the settings that name the demo models served at these base URLs.

    The small one also answers for every other name, and stands in for the large one, if that is
    there.
    """
    small = Upstream(name="demo-small", base_url=urls[SMALL.name], models=[SMALL.name, "*"])
    if LARGE.name not in urls:
        return {"upstreams": [small]}
    large = Upstream(name="demo-large", base_url=urls[LARGE.name], models=[LARGE.name])
    pair = Offload(model=LARGE.name, small=SMALL.name)
    return {"upstreams": [large, small], "offload": settings.offload or [pair]}


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def _refusing(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError) as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error}") from None
