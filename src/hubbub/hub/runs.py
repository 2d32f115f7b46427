"""The life of an answer, as the API node sees it: begun once, queued, streamed by a worker, ended in one message.

A run is unique on (thread, assistant, message that asked), and beginning it moves the assistant's own cursor in the
same transaction. So after a crash nothing is asked twice and nothing is forgotten: messages after that cursor are
considered again, and runs that had not ended begin their next attempt.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from hubbub.core import frames, triggers
from hubbub.core.errors import NotFound, Problem, QueueFull, StorageFull, Unavailable
from hubbub.core.nouns import Assistant, Draft, Kind, Message, Prompt, Run, RunState, Task, Turn, new_id, seq_of
from hubbub.core.ports import Progress
from hubbub.hub import access, threads
from hubbub.hub.access import Caller, Need
from hubbub.hub.catch_up import end_frame
from hubbub.hub.room import Room

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.runs")

MAX_ATTEMPTS = 3
MARK_EVERY_S = 30.0
COMPARE_EVERY_S = 3.0
PROMPT_BYTES = 256 << 10
MAX_ASKED = 1000
"""Messages of a thread that wait to be looked at."""


class Runs:
    """Begins and ends runs; owned by the hub."""

    def __init__(self, hub: Hub, assistants: Iterable[Assistant], engines: frozenset[str], engine: str) -> None:
        self._hub = hub
        self.engines = engines
        self.engine = engine
        self.assistants = {assistant.name: assistant for assistant in assistants}
        self._open: dict[str, Run] = {}
        self._ending: set[str] = set()
        self._asked: dict[str, deque[Message]] = {}  # by thread: what is being looked at, oldest first
        self._at_work: set[str] = set()  # threads whose questions somebody is looking at
        self._unstored: dict[str, Progress] = {}  # ends that could not be stored yet
        self._stray: set[str] = set()  # runs that are open in the store and nowhere else
        self._considered: dict[tuple[str, str], int] = {}  # (thread, assistant) -> seq no crash has to look at again
        self._marked_at = self._compared_at = time.monotonic()

    async def start(self) -> None:
        """Let the assistants arrive; take up what was interrupted."""
        hub = self._hub
        for name in self.assistants:
            await hub.arrive(name, Kind.ASSISTANT)
        for run in await hub.store.open_runs():
            if run.assistant in self.assistants:
                with contextlib.suppress(Unavailable, StorageFull):  # the sweep takes it up
                    await self._retry(run)
        for name in self.assistants:
            for thread, seen in await hub.store.threads_of(name):
                more, at = thread.head > seen, seen
                while more:
                    page = await hub.store.read_after(thread.id, at, 100, PROMPT_BYTES)
                    for message in page.messages:
                        await self._consider_again(message, name)
                        at = message.seq
                    more = page.more
                if at > seen and thread.id not in self._asked:
                    await hub.store.see(thread.id, name, at)

    async def _consider_again(self, message: Message, name: str) -> None:
        """After a crash: what lies after the assistant's mark."""
        if message.thread not in self._asked:
            try:
                room = await self._hub.room(message.thread)
                await self._consider(room, message, {name: self.assistants[name]})
                return
            except (Unavailable, StorageFull):
                pass
        self._asked.setdefault(message.thread, deque()).append(message)

    async def stop(self) -> None:
        """What was considered need not be looked at again."""
        await self._move_marks()

    # Beginning

    def consider(self, message: Message) -> None:
        """A new message: does an assistant in its thread have to answer? Each is asked about once and in order, as
        beginning a run counts everything before its question as seen."""
        room = self._hub.rooms.get(message.thread)
        if room is None or room.opened_at < message.seq <= room.considered:
            return
        if message.seq > room.considered + 1:
            self._hub.fill(room)  # which brings those before it first
            return
        room.considered = max(room.considered, message.seq)  # one from before is acknowledged again
        if not (room.assistants or triggers.may_mention(message.text)):
            return
        for name in room.assistants:
            self._considered[message.thread, name] = message.seq
        if message.type in ("chat", "command") and (
            room.thread.private or message.reply_to or triggers.may_mention(message.text)
        ):
            asked = self._asked.setdefault(message.thread, deque())
            if len(asked) < MAX_ASKED:
                asked.append(message)
                self._go_on(message.thread)

    def _go_on(self, thread: str) -> None:
        if thread not in self._at_work:
            self._at_work.add(thread)
            self._hub.spawn(self._work_off(thread))

    async def _work_off(self, thread: str) -> None:
        """Look at the questions of a thread in their order. One that cannot be stored now stays the first, and the
        sweep goes on with it: beginning a run marks everything up to its question as seen."""
        asked = self._asked[thread]
        try:
            while asked:
                await self._consider(await self._hub.room(thread), asked[0], self.assistants)
                asked.popleft()
        except (Unavailable, StorageFull) as failure:
            log.warning("run_not_begun", thread=thread, code=failure.code)
        except NotFound:  # the thread was deleted
            asked.clear()
        except BaseException:
            if asked:
                asked.popleft()  # a bug; the others are not to wait for it for ever
            raise
        finally:
            self._at_work.discard(thread)
            if not asked:
                del self._asked[thread]

    async def _consider(self, room: Room, message: Message, assistants: dict[str, Assistant]) -> None:
        hub = self._hub
        replied_to = None
        if message.reply_to:
            original = await hub.store.message(room.id, seq_of(message.reply_to))
            if original is not None and original.id == message.reply_to:
                replied_to = original.sender
        depth = 0
        if message.run is not None and (asked := await hub.store.run(message.run)):
            depth = asked.depth + 1
        for assistant in assistants.values():
            if not triggers.addressed(
                message, assistant.name, private=room.thread.private, replied_to=replied_to, depth=depth
            ):
                continue
            if room.thread.private and assistant.name not in room.members:
                continue
            try:
                await self._let_in(room, message.sender, assistant.name, message.seq - 1)
                await self.begin(room, assistant.name, message.seq, depth)
            except (Unavailable, StorageFull):
                raise
            except Problem as refused:
                log.warning("run_not_begun", thread=room.id, assistant=assistant.name, code=refused.code)

    async def _let_in(self, room: Room, name: str, assistant: str, seen: int = -1) -> None:
        """Whoever asks an assistant brings it into the thread, as they could have done before; the question it was
        asked is not yet seen. Raises BadRequest: the thread is the private one of two others."""
        if assistant not in room.members:
            await threads.add(self._hub, Caller(name), frames.ThreadAdd(thread=room.id, member=assistant), seen)

    async def begin(self, room: Room, assistant: str, trigger: int, depth: int = 0) -> tuple[Run, int] | None:
        """Store and queue a run, and say its place in the queue. None when that message asked this assistant before."""
        run = await self._hub.store.begin_run(
            Run(id=new_id(), thread=room.id, assistant=assistant, trigger=trigger, depth=depth)
        )
        return None if run is None else (run, await self._queue(run))

    async def _queue(self, run: Run) -> int:
        hub = self._hub
        self._open[run.id] = run
        try:
            prompt = await self._prompt(run)
            task = Task(
                run=run.id,
                thread=run.thread,
                assistant=run.assistant,
                attempt=run.attempt,
                prompt=prompt,
                engine=self.assistants[run.assistant].engine or self.engine,
                member=run.asked_by,
            )
            position = await hub.bus.put(task)
        except QueueFull as full:
            await self._end(run, Progress(run.attempt, "", RunState.FAILED, full.detail))
            raise
        except BaseException:
            self._open.pop(run.id, None)  # the sweep takes it up
            raise
        hub.publish(run.thread, frames.RunQueued(**_common(run), position=position))
        return position

    async def _prompt(self, run: Run) -> Prompt:
        """What the assistant is shown: its instructions and the newest turns of the thread."""
        hub = self._hub
        newest = run.trigger + 1 if run.trigger else None
        page = await hub.store.read_before(run.thread, newest, hub.limits.history_turns, PROMPT_BYTES)
        turns = [Turn(role="system", name=run.assistant, text=self.assistants[run.assistant].instructions)]
        for message in page.messages:
            if message.type != "notification" and message.text:
                role = "assistant" if message.sender == run.assistant else "user"
                turns.append(Turn(role=role, name=message.sender, text=message.text))
        return Prompt(run=run.id, assistant=run.assistant, turns=tuple(turns))

    async def _retry(self, run: Run) -> None:
        """A run that was interrupted begins again, at most twice."""
        room = await self._hub.room(run.thread)
        if run.attempt >= MAX_ATTEMPTS:
            self._open[run.id] = run
            error = f"The answer was interrupted {MAX_ATTEMPTS} times."
            await self._end(run, Progress(run.attempt, "", RunState.FAILED, error))
            return
        again = await self._hub.store.set_run(run.id, RunState.QUEUED, run.attempt + 1)
        if again is not None:
            room.shout(frames.RunReset(**_common(again)))
            await self._queue(again)

    # Ending

    def noticed_end(self, id: str) -> None:
        """The bus says that an answer is finished."""
        run = self._open.get(id)
        progress = self._hub.bus.so_far(id)
        if run is not None and progress is not None and progress.state.ended and progress.attempt == run.attempt:
            self._hub.spawn(self._end(run, progress))

    async def _end(self, run: Run, progress: Progress) -> None:
        """Turn the answer into its message; whoever comes second finds the run ended and does nothing."""
        hub = self._hub
        if run.id in self._ending:
            return
        self._ending.add(run.id)
        try:
            room = await hub.room(run.thread)
            metadata: dict[str, Any] = {
                "state": str(progress.state),
                "model": progress.model,
            }
            if progress.usage is not None:
                metadata["usage"] = {"prompt": progress.usage.prompt, "completion": progress.usage.completion}
            if progress.error:
                metadata["error"] = progress.error
            if progress.truncated:
                metadata["truncated"] = True
            draft = Draft(
                thread=run.thread,
                sender=run.assistant,
                text=progress.text,
                timestamp=hub.stamp(),
                destination=room.destination(run.assistant),
                metadata=metadata,
                run=run.id,
                key=run.id,
            )
            message = await hub.store.end_run(run.id, run.attempt, progress.state, progress.error, draft)
            kept = await hub.store.run(run.id) if message is None else None
        except NotFound:  # the thread was deleted meanwhile
            message = kept = None
        except Problem as failure:  # the sweep tries again
            log.warning("run_end_not_stored", run=run.id, code=failure.code)
            self._unstored[run.id] = progress
            return
        finally:
            self._ending.discard(run.id)
        self._open.pop(run.id, None)
        self._unstored.pop(run.id, None)
        if message is not None:
            ended = replace(run, state=progress.state, error=progress.error, message=message.id, seq=message.seq)
            hub.posted(message)
            hub.publish(run.thread, end_frame(ended))
        elif kept is not None and kept.state.ended:  # stored by a try whose outcome was unknown
            hub.publish(run.thread, end_frame(kept))
        hub.bus.forget(run.id)

    # What members may ask for

    async def start_by(self, caller: Caller, request: frames.RunStart) -> frames.RunReply:
        """Ask an assistant for an answer to the thread as it stands."""
        self._hub.people.require_pace(caller.name)
        room = await self._hub.room_for(caller, request.thread, Need.WRITE)
        known = self._hub.people.known(request.assistant)
        if known is None or known.name not in self.assistants:
            raise NotFound(f"No assistant is called '{request.assistant}'.{self._hub.people.hint(request.assistant)}")
        await self._let_in(room, caller.name, known.name)
        begun = await self.begin(room, known.name, 0)
        assert begun is not None
        return frames.RunReply(run=self.view(*begun))

    async def cancel_by(self, caller: Caller, request: frames.RunCancel) -> frames.RunReply:
        """Stop an answer; what was written so far becomes its message. Whoever may write in the thread may."""
        run = await self.get(caller, request.run, Need.WRITE)
        open_run = self._open.get(run.id)
        if open_run is not None:
            self._hub.bus.cancel(run.id)  # first, so that nobody hears more than the message will hold
            progress = self._hub.bus.so_far(run.id)
            if progress is None or progress.attempt != open_run.attempt or not progress.state.ended:
                progress = Progress(open_run.attempt, "", RunState.CANCELLED)
            await self._end(open_run, progress)
            run = await self._hub.store.run(run.id) or run
        return frames.RunReply(run=self.view(run))

    async def get(self, caller: Caller, id: str, need: Need = Need.READ) -> Run:
        """A run in a thread of mine. Raises NotFound."""
        access.require(caller, need)
        run = await self._hub.store.run(id)
        if run is None:
            raise NotFound("There is no such run here.")
        try:  # in two steps: whoever is in the thread is told what it takes
            room = await self._hub.room_for(caller, run.thread, Need.READ if need is Need.READ else Need.LEAVE)
        except NotFound:
            raise NotFound("There is no such run here.") from None
        access.require(caller, need, room)
        return run

    def view(self, run: Run, position: int | None = None) -> frames.RunView:
        """The run as it is told to clients; it is running once a worker has taken it."""
        state = run.state
        if state is RunState.QUEUED and self._hub.bus.so_far(run.id) is not None:
            state = RunState.RUNNING
        return frames.RunView(
            id=run.id,
            thread=run.thread,
            assistant=run.assistant,
            state=str(state),
            attempt=run.attempt,
            position=UNSET if position is None or state is not RunState.QUEUED else position,
            error=run.error or UNSET,
        )

    # Sooner or later

    async def sweep(self) -> None:
        """Find ends the bus forgot to mention; remember how far the assistants have read."""
        now = time.monotonic()
        if now - self._compared_at > COMPARE_EVERY_S:
            self._compared_at = now
            for thread in list(self._asked):
                self._go_on(thread)
            for id, run in list(self._open.items()):
                if id in self._unstored:
                    self._hub.spawn(self._end(run, self._unstored[id]))
                else:
                    self.noticed_end(id)
            await self._take_up_strays()
        if now - self._marked_at > MARK_EVERY_S:
            self._marked_at = now
            await self._move_marks()

    async def _take_up_strays(self) -> None:
        """Runs that were stored although the store could not say so, or could not be queued. One that is only just
        being begun is looked at again before it counts as such."""
        runs = await self._hub.store.open_runs()
        stray = {run.id: run for run in runs if run.assistant in self.assistants and run.id not in self._open}
        before, self._stray = self._stray, set(stray)
        for id in before & stray.keys():
            await self._retry(stray[id])

    async def _move_marks(self) -> None:
        considered, self._considered = self._considered, {}
        for (thread, name), seq in considered.items():
            if asked := self._asked.get(thread):
                self._considered.setdefault((thread, name), seq)
                seq = min(seq, asked[0].seq - 1)
            try:
                await self._hub.store.see(thread, name, seq)
            except Problem as failure:
                log.debug("mark_not_moved", thread=thread, code=failure.code)


def _common(run: Run) -> dict[str, Any]:
    return {"run": run.id, "thread": run.thread, "assistant": run.assistant, "attempt": run.attempt}
