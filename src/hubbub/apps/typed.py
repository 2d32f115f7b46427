"""What a typed line makes the client do, and what of the answer goes to the screen."""

from __future__ import annotations

from collections.abc import Callable

from hubbub.client import Client
from hubbub.core import frames, lines, names
from hubbub.core.errors import BadRequest, NotFound
from hubbub.core.screen import Screen

HISTORY = 20


async def carry_out(line: lines.Line, client: Client, screen: Screen, show: Callable[[frames.Frame], None]) -> None:
    """Do what the line asks for. Raises Problem: it was refused, or is no line at all.

    The messages of `!check`, and its end, come as events.
    """
    match line:
        case lines.Say(to, text):
            show(await client.send(text, to=to))
        case lines.SayIn(thread, text):
            show(await client.send(text, thread=await _thread(thread, client, screen)))
        case lines.CheckNow():
            await client.request(frames.Check())
        case lines.AskWho():
            show(await client.request(frames.WhoGet()))
        case lines.ListThreads():
            show(await client.request(frames.ThreadList(public=True)))
        case lines.JoinThread(thread):
            id = await _thread(thread, client, screen)
            show(await client.request(frames.ThreadJoin(thread=id)))
        case lines.ReadHistory(of):
            id = await _thread(of, client, screen) if of.startswith("#") else _private(of, screen)
            show(await client.request(frames.HistoryGet(thread=id, limit=HISTORY)))
        case lines.StopWriting(name):
            runs = screen.places.writing(name)
            for run in runs:
                await client.request(frames.RunCancel(run=run))
            if not runs:
                raise NotFound(lines.SILENT.format(name=name))
        case lines.AskHelp():
            for text in lines.HELP.splitlines():
                show(remark(text))
        case lines.Unclear(detail):
            raise BadRequest(detail)


def remark(text: str) -> frames.Error:
    """A line of the program's own, in the one form the screen takes lines in."""
    return frames.Error(code="", title="", detail=text)


async def _thread(name: str, client: Client, screen: Screen) -> str:
    """The id of a thread by its title or id. Raises NotFound."""
    name = name.removeprefix("#").strip()
    if known := screen.places.thread_named(name):
        return known
    wanted = names.key(name)
    for view in (await client.request(frames.ThreadList(public=True))).threads:
        if wanted in (names.key(view.id), names.key(view.title)):
            return view.id
    raise NotFound(f"There is no thread #{name} here. Try !threads.")


def _private(name: str, screen: Screen) -> str:
    if known := screen.places.private_with(name):
        return known
    raise NotFound(f"You and {name} have not written to each other yet.")
