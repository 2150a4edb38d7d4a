"""The least that a broker in Python can be: ``relay.py URL`` relays the bytes of each answer."""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, TCPConnector, web


async def main(url: str) -> None:
    permits = asyncio.Semaphore(10_000)

    async def relay(request: web.Request) -> web.StreamResponse:
        body, headers = await request.read(), {"Content-Type": request.content_type}
        async with permits, session.post(url + request.path, data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", relay)
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"ready http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
