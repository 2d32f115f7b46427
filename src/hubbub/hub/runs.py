"""The life of an answer, as the API node sees it: begun once, queued, streamed by a worker, ended in one message.

A run is unique on (thread, assistant, message that asked), and beginning it moves the assistant's own cursor in the
same transaction. So after a crash nothing is asked twice and nothing is forgotten: messages after that cursor are
considered again (asking.py), and runs that had not ended begin their next attempt.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from hubbub.core import frames, manners
from hubbub.core.errors import NotFound, Problem, QueueFull, StorageFull, Unavailable
from hubbub.core.nouns import Assistant, Draft, Message, Prompt, Run, RunState, Task, Turn, new_id
from hubbub.core.ports import Progress, Resumed
from hubbub.hub import access, telling, threads
from hubbub.hub.access import Caller, Need
from hubbub.hub.catch_up import end_frame
from hubbub.hub.room import Room

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.runs")

MAX_ATTEMPTS = 3
COMPARE_EVERY_S = 3.0
PROMPT_BYTES = 256 << 10
GONE = "does not answer any more."
TOKEN_BYTES = 4
"""So many bytes of a text are taken for a token; that of most languages and models has as many or fewer."""


class Runs:
    """Begins and ends runs; owned by the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._open: dict[str, Run] = {}
        self._begun: dict[str, float] = {}  # when they were first queued here
        self._forgotten: dict[str, set[int]] = {}  # attempts that the queue forgot
        self._ending: set[str] = set()
        self._held: dict[str, int] = {}  # runs whose turn in their thread has not come, and the places they were told
        self._unstored: dict[str, tuple[Progress, str | None]] = {}  # ends that could not be stored yet
        self._stray: set[str] = set()  # runs that are open in the store and nowhere else
        self._compared_at = time.monotonic()

    async def start(self) -> None:
        """Take up what was interrupted."""
        with contextlib.suppress(Unavailable, StorageFull):  # the sweep takes up the others
            for run in await self._hub.store.open_runs():
                if self._hub.assistants.that_writes(run.assistant):
                    await self._take_up(run)

    def writing(self, thread: str, assistant: str) -> bool:
        """Is it writing an answer there, or about to?"""
        return any(run.thread == thread and run.assistant == assistant for run in self._open.values())

    # Beginning

    async def let_in(self, room: Room, name: str, assistant: str, seen: int = -1) -> None:
        """Whoever asks an assistant brings it into the thread, as they could have done before; the question it was
        asked is not yet seen. Raises BadRequest: the thread is the private one of two others."""
        if assistant not in room.members:
            await threads.add(self._hub, Caller(name), frames.ThreadAdd(thread=room.id, member=assistant), seen)

    async def begin(
        self, room: Room, assistant: str, asked_by: str, *, trigger: int = 0, depth: int = 0, id: str = ""
    ) -> tuple[Run, int] | None:
        """Store and queue a run, and say its place in the queue. None when that message asked this assistant before,
        or there is a run of that id. Raises NotFound: the assistant may not write there."""
        access.require(Caller(assistant), Need.WRITE, room)
        run = await self._hub.store.begin_run(
            Run(
                id=id or new_id(),
                thread=room.id,
                assistant=assistant,
                trigger=trigger,
                depth=depth,
                asked_by=asked_by,
            )
        )
        return None if run is None else (run, await self._queue(run))

    async def _queue(self, run: Run) -> int:
        """Have it written, once its turn has come. Its place in the queue; 0: it was answered at once."""
        hub = self._hub
        assistant = hub.assistants.that_writes(run.assistant)
        self._open[run.id] = run
        if assistant is None or hub.assistants.writer(assistant) not in hub.assistants.engines:
            why = f"The engine '{assistant.engine}' is not set up here." if assistant else f"{run.assistant} {GONE}"
            await self._end(run, Progress(run.attempt, "", RunState.FAILED, why))
            return 0
        try:
            if assistant.in_turn and (before := _before(run, await hub.store.open_runs())):
                return self._hold(run, before + 1)
            newest = run.trigger + 1 if run.trigger and not assistant.in_turn else None
            page = await hub.store.read_before(run.thread, newest, hub.limits.history_turns, PROMPT_BYTES)
            chosen = await hub.store.assistants.personality(run.thread, run.assistant)
            question = next((message for message in page.messages if message.seq == run.trigger), None)
            if question is not None and (told := manners.command(question.text, assistant)):
                reply, then = manners.obey(told, assistant, chosen)
                await self._end(run, Progress(run.attempt, reply, RunState.COMPLETED), then)
                return 0
            task = Task(
                run=run.id,
                thread=run.thread,
                assistant=run.assistant,
                attempt=run.attempt,
                prompt=self._prompt(run, assistant, manners.in_force(assistant, chosen), page.messages),
                engine=hub.assistants.writer(assistant),
                member=run.asked_by,
            )
            position = await hub.bus.put(task)
        except QueueFull as full:
            telling.refused(hub, run)
            await self._end(run, Progress(run.attempt, "", RunState.FAILED, full.detail))
            raise
        except BaseException:
            self._open.pop(run.id, None)  # the sweep takes it up
            raise
        if run.id not in self._open:  # it was stopped meanwhile
            hub.bus.forget(run.id)
            return 0
        self._begun.setdefault(run.id, time.monotonic())
        telling.queued(hub, run, position)
        hub.publish(run.thread, frames.RunQueued(**telling.common(run), position=position))
        return position

    def _prompt(self, run: Run, assistant: Assistant, personality: str, messages: list[Message]) -> Prompt:
        """What the assistant is shown: its instructions, and of the newest turns as many as fit."""
        left = self._hub.limits.history_tokens * TOKEN_BYTES
        said: list[Turn] = []
        for message in reversed(messages):
            if message.type == "notification" or not message.text or manners.command(message.text, assistant):
                continue
            if message.sender == run.assistant and message.type == "command":
                continue  # what it said about itself
            left -= len(message.text.encode())
            if left < 0 and said:
                break
            role = "assistant" if message.sender == run.assistant else "user"
            said.append(Turn(role=role, name=message.sender, text=message.text))
        told = (assistant.instructions, assistant.personalities.get(personality, ""))
        system = [Turn(role="system", name=run.assistant, text=text) for text in told if text]
        return Prompt(
            run=run.id,
            assistant=run.assistant,
            turns=(*system, *reversed(said)),
            model=assistant.model,
            personality=personality,
        )

    async def _take_up(self, run: Run) -> None:
        """A run this process did not begin, or could not queue for certain. Somebody else may be writing it."""
        found = await self._hub.bus.resume(run.id, run.attempt)
        if found is Resumed.GOES_ON:
            self._open[run.id] = run
            self.noticed_end(run.id)
        else:
            await self._retry(run, forgotten=found is Resumed.FORGOTTEN)

    async def _retry(self, run: Run, text: str = "", *, forgotten: bool = False) -> None:
        """A run that was interrupted, with that text written, begins again, at most twice; not counted is what the
        queue itself forgot, as long as this process remembers that it did."""
        if self._open.get(run.id, run).attempt > run.attempt:  # it has done so
            return
        room = await self._hub.room(run.thread)
        if forgotten:
            self._forgotten.setdefault(run.id, set()).add(run.attempt)
        if run.attempt - len(self._forgotten.get(run.id, ())) >= MAX_ATTEMPTS:
            self._open[run.id] = run
            error = f"The answer was interrupted {MAX_ATTEMPTS} times."
            await self._end(run, Progress(run.attempt, text, RunState.FAILED, error))
            return
        again = await self._hub.store.set_run(run.id, RunState.QUEUED, run.attempt + 1)
        if again is not None:
            telling.retried(self._hub, again)
            reset = frames.RunReset(**telling.common(again))
            room.shout(reset)  # here for certain; what the bus carries may be lost
            self._hub.publish(run.thread, reset)
            await self._queue(again)

    # Ending

    def noticed_end(self, id: str) -> None:
        """The bus says that an answer is finished, or that whoever wrote it fell silent."""
        run = self._open.get(id)
        progress = self._hub.bus.so_far(id)
        if run is None or progress is None or progress.attempt != run.attempt:
            return
        if progress.state.ended:
            self._hub.spawn(self._end(run, progress))
        elif progress.lost:
            self._hub.spawn(self._retry(run, progress.text, forgotten=progress.forgotten))

    async def _end(self, run: Run, progress: Progress, told: str | None = None) -> None:
        """Turn the answer into its message; whoever comes second finds the run ended and does nothing. `told`: it is
        about the assistant itself, whose personality is that one from then on."""
        hub = self._hub
        if run.id in self._ending:
            return
        self._ending.add(run.id)
        try:
            room = await hub.room(run.thread)
            metadata: dict[str, Any] = {"state": str(progress.state)}
            if progress.model:
                metadata["model"] = progress.model
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
                type="chat" if told is None else "command",
                metadata=metadata,
                run=run.id,
                key=run.id,
            )
            message = await hub.store.end_run(run.id, run.attempt, progress.state, progress.error, draft, told)
            kept = await hub.store.run(run.id) if message is None else None
        except NotFound:  # the thread was deleted meanwhile
            message = kept = None
        except Problem as failure:  # the sweep tries again
            log.warning("run_end_not_stored", run=run.id, code=failure.code)
            self._unstored[run.id] = (progress, told)
            return
        finally:
            self._ending.discard(run.id)
        self._open.pop(run.id, None)
        tried = self._unstored.pop(run.id, None) is not None
        begun = self._begun.pop(run.id, None)
        self._forgotten.pop(run.id, None)
        if message is not None or (tried and kept is not None and kept.state.ended):
            telling.ended(hub, run, progress, begun)
        if message is not None:
            ended = replace(run, state=progress.state, error=progress.error, message=message.id, seq=message.seq)
            hub.posted(message)
            hub.publish(run.thread, end_frame(ended))
        elif kept is not None and kept.state.ended:  # stored by a try whose outcome was unknown
            hub.publish(run.thread, end_frame(kept))
        hub.bus.forget(run.id)
        self._next_turn(run.thread)

    def _hold(self, run: Run, place: int) -> int:
        """It waits for the answers before it in its thread."""
        if self._held.get(run.id) != place:
            telling.held(self._hub, run)
            self._hub.publish(run.thread, frames.RunQueued(**telling.common(run), position=place))
        self._held[run.id] = place
        return place

    def _next_turn(self, thread: str | None = None) -> None:
        """Look whether those who wait for the answers before theirs, in that thread or in any, are next."""
        for id in list(self._held):
            run = self._open.get(id)
            if run is None:  # it was stopped
                del self._held[id]
            elif thread in (None, run.thread):
                self._hub.spawn(self._look_at_turn(run))

    async def _look_at_turn(self, run: Run) -> None:
        before = _before(run, await self._hub.store.open_runs())
        if before and run.id in self._held:
            self._hold(run, before + 1)
        elif self._held.pop(run.id, None) is not None:
            await self._queue(run)

    # How it stands

    def standing(self) -> Counter[tuple[str, str]]:
        """How many answers have not ended, by engine and state."""
        return telling.standing(self._hub, self._open.values())

    @property
    def unstored(self) -> int:
        return len(self._unstored)

    # What members may ask for

    async def start_by(self, caller: Caller, request: frames.RunStart) -> frames.RunReply:
        """Ask an assistant for an answer to the thread as it stands."""
        self._hub.people.require_pace(caller.name)
        room = await self._hub.room_for(caller, request.thread, Need.WRITE)
        assistant = self._hub.assistants.named(request.assistant)
        await self.let_in(room, caller.name, assistant.name)
        begun = await self.begin(room, assistant.name, caller.name)
        assert begun is not None
        return frames.RunReply(run=self.view(*begun))

    async def cancel_by(self, caller: Caller, request: frames.RunCancel) -> frames.RunReply:
        """Stop an answer; what was written so far becomes its message. Whoever may write in the thread may."""
        run = await self.get(caller, request.run, Need.WRITE)
        if not run.state.ended:
            await self._cancel(self._open.get(run.id, run))
            run = await self._hub.store.run(run.id) or run
        return frames.RunReply(run=self.view(run))

    async def stop_all(self, assistant: str) -> None:
        """Stop whatever it is writing."""
        for run in [run for run in self._open.values() if run.assistant == assistant]:
            await self._cancel(run)

    def thread_gone(self, thread: str) -> None:
        """Nobody waits for the answers of a thread that was deleted; they are not written on."""
        for run in [run for run in self._open.values() if run.thread == thread and run.id not in self._ending]:
            for kept in (self._open, self._held, self._begun, self._unstored, self._forgotten):
                kept.pop(run.id, None)
            self._hub.bus.forget(run.id)

    async def _cancel(self, run: Run) -> None:
        telling.cancelled(self._hub, run)
        self._hub.bus.cancel(run.id)  # first, so that nobody hears more than the message will hold
        progress = await self._hub.bus.settled(run.id)
        if progress is None or progress.attempt != run.attempt or not progress.state.ended:
            progress = Progress(run.attempt, "", RunState.CANCELLED)
        await self._end(run, progress)
        now = await self._hub.store.run(run.id)
        if now is not None and not now.state.ended and now.attempt > run.attempt:  # it was just being begun again
            await self._cancel(now)

    async def get(self, caller: Caller, id: str, need: Need = Need.READ) -> Run:
        """A run in a thread of mine. Raises NotFound."""
        access.require(caller, need)
        run = await self._hub.store.run(id)
        if run is None:
            raise NotFound("There is no such run here.")
        await self.require(caller, run, need)
        return run

    async def require(self, caller: Caller, run: Run, need: Need = Need.READ) -> None:
        """Raises NotFound: it is not in a thread of theirs."""
        try:  # in two steps: whoever is in the thread is told what it takes
            room = await self._hub.room_for(caller, run.thread, Need.READ if need is Need.READ else Need.LEAVE)
        except NotFound:
            raise NotFound("There is no such run here.") from None
        access.require(caller, need, room)

    async def how(self, caller: Caller, id: str) -> frames.RunView:
        """A run of a thread of mine, with its place in the queue while it waits there. Raises NotFound."""
        run = await self.get(caller, id)
        return self.view(run, await self._hub.bus.place(id))

    def view(self, run: Run, position: int | None = None) -> frames.RunView:
        """The run as it is told to clients; it is running once a worker has taken it."""
        state = telling.state_of(self._hub, run) if run.state is RunState.QUEUED else run.state
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
        """Find ends the bus forgot to mention, and runs that nobody is writing."""
        now = time.monotonic()
        if now - self._compared_at <= COMPARE_EVERY_S:
            return
        self._compared_at = now
        for id, run in list(self._open.items()):
            if id in self._unstored:
                self._hub.spawn(self._end(run, *self._unstored[id]))
            else:
                self.noticed_end(id)
        self._next_turn()  # what they wait for may have ended on another node
        await self._take_up_strays()

    async def _take_up_strays(self) -> None:
        """Runs that were stored although the store could not say so, or could not be queued, or whose node is gone.
        One that is only just being begun is looked at again before it counts as such; one that waits for its turn is
        none, and one of an assistant that is gone for ever fails."""
        known = self._hub.assistants.that_writes
        runs = await self._hub.store.open_runs()
        if not all(known(run.assistant) for run in runs):  # or it was made on another node, just now
            await self._hub.assistants.learn()
        stray: dict[str, Run] = {}
        for run in runs:
            assistant = known(run.assistant)
            if run.id not in self._open and not (assistant and assistant.in_turn and _before(run, runs)):
                stray[run.id] = run
        before, self._stray = self._stray, set(stray)
        for id, run in stray.items():  # oldest first
            if id in before:
                self._hub.spawn(self._take_up(run))


def _before(run: Run, open_runs: list[Run]) -> int:
    """How many answers that have not ended were asked for before it in its thread."""
    there = [other.id for other in open_runs if other.thread == run.thread]
    return there.index(run.id) if run.id in there else 0
