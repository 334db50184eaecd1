"""An object for asyncio, driven from a thread: one set of tests is then for both kinds of client."""

import asyncio
import inspect
import threading

_LOOP = asyncio.new_event_loop()
threading.Thread(target=_LOOP.run_forever, daemon=True).start()


def _run(make):
    """Calls `make` in the loop, and waits for what it gives if that has to be awaited."""

    async def call():
        given = make()
        return await given if inspect.isawaitable(given) else given

    return Driven.wrap(asyncio.run_coroutine_threadsafe(call(), _LOOP).result())


class Driven:
    """Has what the object has, without `await`."""

    def __init__(self, inner):
        self._inner = inner

    @classmethod
    def of(cls, kind, *args, **options):
        return _run(lambda: kind(*args, **options))

    @classmethod
    def wrap(cls, given):
        is_ours = type(given).__module__.startswith("segue._async") or inspect.isasyncgen(given)
        return cls(given) if is_ours else given

    def __getattr__(self, name):
        found = getattr(self._inner, "aclose" if name == "close" else name)
        if not callable(found):
            return found
        return lambda *args, **options: _run(lambda: found(*args, **options))

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return _run(lambda: anext(self._inner))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
