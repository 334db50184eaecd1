import functools
import random

import pytest
import segue

from driven import Driven
from scripted import Scripted
from support import Cutter, Server

QUICK = segue.Timing(first_delay=0.001, max_delay=0.008, max_hint=0.004, jitter=lambda delay: delay)


@pytest.fixture(params=["sync", "async"])
def connect(request):
    """Makes clients, as `connect(url)`: those for threads, and those for asyncio driven by a loop beside."""
    clients = []

    def make(url, timing=QUICK, **options):
        make = segue.Client if request.param == "sync" else functools.partial(Driven.of, segue.AsyncClient)
        clients.append(make(url, timing=timing, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def cut(server):
    """Makes places that cut connections to the server, as `cut(down, up)`; gives a URL."""
    cutters = []

    def make(*ways):
        cutters.append(Cutter(server, *ways))
        return cutters[-1].url

    yield make
    for cutter in cutters:
        cutter.close()


@pytest.fixture
def scripted():
    """Makes servers that say what a test tells them to."""
    servers = []

    def make(answer):
        servers.append(Scripted(answer))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture(params=[1, 2, None])
def choose(request):
    """Choices that a seed decides; the last seed is another each time, and printed."""
    seed = random.randrange(2**32) if request.param is None else request.param
    print("seed", seed)
    return random.Random(seed)
