"""Fetch the photos that a request names by URL, through the guard of `web` and within the service's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_network

from carspotter.errors import CarspotterError
from carspotter.serving.settings import ServeSettings
from carspotter.serving.uploads import MemoryUse, Upload, readable

_URLS_AT_ONCE = 4


async def fetch_photos(urls: Sequence[str], hold: MemoryUse, settings: ServeSettings) -> list[Upload | CarspotterError]:
    """Fetch photos, some at a time, counted in `hold`; what cannot be read is its error."""
    from carspotter.web import fetch
    from carspotter.web_policy import UrlPolicy

    networks = tuple(map(ip_network, settings.allow_networks))
    policy = UrlPolicy(
        max_bytes=min(settings.max_bytes, settings.uploads - hold.bytes),
        timeout_s=settings.timeout_s,
        allow_hosts=settings.allow_hosts,
        allow_networks=networks,
        ports=None if networks else (80, 443),
    )
    # Each is counted as large as it may be: half of all that may be held stays for what has come, and for others.
    gate = asyncio.Semaphore(max(1, min(_URLS_AT_ONCE, settings.uploads // (2 * policy.max_bytes))))

    async def one(url: str) -> Upload | CarspotterError:
        async with gate:
            hold.add(policy.max_bytes)  # as much as may come; then as much as came
            came = 0
            try:
                data = await fetch(url, policy)
                came = len(data)
                return Upload(data=data, name=readable(url))
            except CarspotterError as error:
                return error
            finally:
                hold.drop(policy.max_bytes - came)

    tasks = [asyncio.ensure_future(one(url)) for url in urls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
