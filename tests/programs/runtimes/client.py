"""client.py KIND URL...: asks each URL, and says `URL STATUS` or why not."""
import sys

TOKEN = {"Authorization": "Bearer dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}
LIMIT = 20


def by_urllib(url):
    import urllib.request
    return urllib.request.urlopen(urllib.request.Request(url, headers=TOKEN), timeout=LIMIT).status


def by_requests(url):
    import requests
    return requests.get(url, headers=TOKEN, timeout=LIMIT).status_code


def by_httpx(url):
    import httpx
    return httpx.get(url, headers=TOKEN, timeout=LIMIT).status_code


def by_aiohttp(url):
    import aiohttp
    import asyncio

    async def ask():
        limit = aiohttp.ClientTimeout(total=LIMIT)
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url, headers=TOKEN) as answer:
            return answer.status

    return asyncio.run(ask())


failed = False
for url in sys.argv[2:]:
    try:
        status = {"urllib": by_urllib, "requests": by_requests, "httpx": by_httpx, "aiohttp": by_aiohttp}[sys.argv[1]](url)
        print(url, status)
        failed |= status != 200
    except Exception as problem:
        print(f"{url}: {problem!r}", file=sys.stderr)
        failed = True
sys.exit(failed)
