"""Clients that keep to the protocol and believe nothing: each frame is held against what was promised.

A `Device` is one client of a member. It remembers, over its connections, how far it has heard each thread, how much of
each answer it has, and what was not acknowledged.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from simulation.line import Line
from simulation.speech import KINDS, Frame

if TYPE_CHECKING:
    from simulation.world import World

ENDS = ("run.completed", "run.failed", "run.cancelled")
AGAIN = frozenset({"unavailable", "storage_full", "rate_limited", "shutdown", "queue_full"})
REPLIES = frozenset({"ack", "welcome", "error", "thread", "threads", "history", "checked", "ok", "who", "run", "pong"})


class Device:
    """One client of one member."""

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.id = f"{name}{number}"
        self.line: Line | None = None
        self.epoch: str | None = None
        self.cursors: dict[str, int | None] = {}  # None: the next message says where it begins
        self.resets: set[str] = set()  # threads whose reset is due
        self.answers: dict[str, tuple[int, str, str]] = {}  # run -> attempt, text so far, thread
        self.finals: dict[str, str] = {}  # run -> text of its message
        self.unacked: dict[str, Frame] = {}
        self.starts: dict[str, int] = {}  # where the server goes on in threads that are reset
        self.acked: dict[str, tuple[str, int, Frame]] = {}  # key -> epoch, seq, what was sent
        self.tries: dict[str, int] = {}  # key -> how often it was sent
        self.orders: list[dict[str, list[str]]] = []  # of each line, the keys first sent on it, by their place
        self.marks: dict[str, int] = {}  # thread -> what the server said is seen
        self.away = False  # it stays away until it comes back
        self._count = 0
        self._coming = False

    def note(self, text: str) -> None:
        self.world.note(f"{self.id} {text}")

    def wrong(self, text: str) -> None:
        self.world.complain(f"{self.id}: {text}")

    def next_id(self) -> str:
        self._count += 1
        return f"{self.id}-{self._count}"

    @property
    def ready(self) -> bool:
        return self.line is not None and self.line.ready

    # Coming and going

    def come(self, after_s: float = 0.0) -> None:
        """Connect, later; unless it is connected by then."""
        if not self._coming:
            self._coming = True
            self.world.loop.call_later(after_s, self._connect)

    def _connect(self) -> None:
        self._coming = False
        world = self.world
        if self.line is not None or self.away or world.over:
            return
        kind = world.chance.choice(KINDS)
        line = Line(self, kind)
        self.orders.append(line.firsts)
        line.connection = world.connect(kind, line.hear)
        if line.connection is None:
            self.come(world.chance.uniform(0.1, 1))
            return
        self.line = line
        hello: Frame = {"token": world.tokens[self.name]} if self.name in world.tokens else {"user": self.name}
        known = {id: seq for id, seq in self.cursors.items() if seq is not None and id not in self.resets}
        if self.epoch is not None:
            runs = {run: [attempt, len(text)] for run, (attempt, text, _) in self.answers.items()}
            hello["resume"] = {"epoch": self.epoch, "threads": known, "runs": runs}
        self.note(f"hello {kind} {known}")
        line.ask("hello", self.next_id(), **hello)

    def lost(self, why: str) -> None:
        """The connection is no more; the device comes back."""
        line, self.line = self.line, None
        if line is None:
            return
        self.note(f"lost its connection: {why}")
        wait = self.world.chance.uniform(0, 0.5)
        if line.bye is not None:
            wait += line.bye["retry_after"]
        self.come(wait)

    def drop(self, why: str) -> None:
        if self.line is not None and self.line.connection is not None:
            self.line.connection.close()
        self.lost(why)

    def cut(self, noticed_after_s: float) -> None:
        if self.line is not None and self.line.connection is not None:
            self.line.connection.cut(noticed_after_s)
            self.lost(f"cut, noticed after {noticed_after_s:.2f} s")

    def stall(self, seconds: float) -> None:
        """It stops reading, for a while."""
        line = self.line
        if line is None or line.connection is None:
            return
        self.note(f"does not read for {seconds:.1f} s")
        line.smooth_since = math.inf
        line.connection.read(False)

        def go_on() -> None:
            if line.connection is not None and line.connection.transport.is_closing():
                self.world.count("closed while not reading")
            if self.line is line and line.connection is not None:
                self.note("reads again")
                line.connection.read(True)
                line.smooth_since = self.world.loop.time()

        self.world.loop.call_later(seconds, go_on)

    # Saying

    def say(self, text: str, **where: str) -> str:
        """Send it, as often as it takes."""
        key = self.next_id()
        self.unacked[key] = {"text": text, "key": key, **where}
        self.transmit(key)
        return key

    def transmit(self, key: str) -> None:
        if self.line is not None and self.line.ready and (key in self.unacked or key in self.acked):
            fields = self.unacked[key] if key in self.unacked else self.acked[key][2]
            if key not in self.tries:
                self.line.firsts.setdefault(fields.get("thread") or "to " + fields["to"], []).append(key)
            self.tries[key] = self.tries.get(key, 0) + 1
            self.line.ask("message.send", key, **fields)

    def ask(self, type: str, **fields: Any) -> None:
        if self.line is not None and self.line.ready:
            self.line.ask(type, self.next_id(), **fields)

    # Hearing

    def hear(self, line: Line, frame: Frame) -> None:
        type, id = frame["type"], frame.get("id")
        if type == "message" and id is not None:  # part of the answer to `check`
            if not line.owed or line.owed[0][0] != id:
                self.wrong(f"a message for {id} out of turn")
            self.must_be_stored(frame["thread"], frame["seq"], frame["message"]["text"])
        elif id is not None and type in REPLIES:
            if not line.owed or line.owed[0][0] != id:
                self.wrong(f"the reply to {id} came out of order; owed: {[id for id, _ in line.owed]}")
                return
            _, request = line.owed.popleft()
            self.hear_reply(line, frame, request)
        elif type == "message":
            self.hear_message(line, frame)
        elif type == "run.delta":
            self.hear_piece(frame)
        elif type == "run.reset":
            self.note(f"heard run.reset {frame['run'][:6]} {frame['attempt']}")
            if frame["attempt"] > self.answers.get(frame["run"], (0, ""))[0]:
                self.answers[frame["run"]] = (frame["attempt"], "", frame["thread"])
        elif type in ENDS:
            self.hear_end(frame)
        elif type == "reset":
            self.hear_reset(frame)
        elif type == "thread":
            # A bus that delays may bring an old view of a thread; there only what one asked for says that one is out.
            if not self.world.bus_badness or self.name in frame["thread"]["members"]:
                self.hear_thread(line, frame["thread"])
        elif type == "bye":
            self.note(f"bye {frame['code']}")
            self.world.count(f"bye {frame['code']}")
            line.bye = frame
            if not frame["resume"]:
                self.wrong(f"was sent away: {frame}")
        elif type == "error":
            self.wrong(f"an error without a question: {frame}")

    def hear_reply(self, line: Line, frame: Frame, request: Frame) -> None:
        type, asked = frame["type"], request["type"]
        if type == "error":
            self.hear_error(line, frame, request)
        elif asked == "hello":
            self.welcomed(line, frame, request)
        elif asked == "message.send":
            self.hear_ack(frame, request)
        elif asked == "history":
            self.world.judge_history(self, frame, request)
        elif asked.startswith("thread.") and type == "thread":
            self.hear_thread(line, frame["thread"])

    def welcomed(self, line: Line, frame: Frame, request: Frame) -> None:
        world = self.world
        epoch = frame["server"]["epoch"]
        self.note(f"welcome {epoch[:4]} {[(view['id'][:6], view['head'], view['seen']) for view in frame['threads']]}")
        line.ready = True
        line.smooth_since = world.loop.time()
        world.tokens[self.name] = frame["token"]
        other_epoch = self.epoch is not None and epoch != self.epoch
        if other_epoch:
            self.answers.clear()
            self.finals.clear()
            self.marks.clear()
        self.epoch = epoch
        views = {view["id"]: view for view in frame["threads"]}
        resumed = request.get("resume", {}).get("threads", {})
        for id in list(self.cursors):
            if id not in views:
                self.forget(id)
        self.resets.clear()
        self.starts = {id: min(view["seen"], view["head"]) for id, view in views.items()}
        for id, view in views.items():
            if view["seen"] < self.marks.get(id, 0):
                self.wrong(f"{id} was seen up to {self.marks[id]}, and now only up to {view['seen']}")
            self.marks[id] = view["seen"]
            if id not in resumed:
                self.cursors[id] = view["seen"]
            elif other_epoch:
                self.resets.add(id)
        for key in list(self.unacked):
            self.transmit(key)

    def hear_error(self, line: Line, frame: Frame, request: Frame) -> None:
        code, key = frame["code"], request.get("key")
        self.note(f"error {code} for {request['type']} {key or ''}")
        if request["type"] == "hello":
            if code not in {*AGAIN, "name_taken"}:
                self.wrong(f"could not say hello: {frame}")
            self.drop(code)
        elif key in self.unacked:
            if code in AGAIN:
                self.world.loop.call_later(frame.get("retry_after", 1) + 0.01, self.transmit, key)
            elif code == "not_found":  # no longer a member there
                del self.unacked[key]
            else:
                self.wrong(f"was refused {request}: {frame}")
        elif code == "key_conflict" and key in self.acked and self.acked[key][2]["text"] != request["text"]:
            pass  # as it should be
        elif code not in {*AGAIN, "not_found", "bad_request"}:
            self.wrong(f"was refused {request}: {frame}")

    def hear_ack(self, frame: Frame, request: Frame) -> None:
        key, thread, seq = request["key"], frame["thread"], frame["seq"]
        self.note(f"ack {key} {thread[:6]} {seq}")
        self.world.count("acks")
        assert self.epoch is not None
        self.must_be_stored(thread, seq, request["text"])
        known = self.acked.get(key)
        if known is not None and known[0] == self.epoch and known[1] != seq:
            self.wrong(f"G3: {key} was acknowledged as {known[1]} and as {seq}")
        self.acked[key] = (self.epoch, seq, {name: request[name] for name in request if name not in ("type", "id")})
        self.unacked.pop(key, None)

    def must_be_stored(self, thread: str, seq: int, text: str) -> None:
        assert self.epoch is not None
        log = self.world.disk.committed[self.epoch].get(thread, [])
        if seq > len(log) or log[seq - 1][0].text != text:
            self.wrong(f"G1/G2: was told of {thread} {seq} {text[:30]!r}, but that is not stored")

    def hear_message(self, line: Line, frame: Frame) -> None:
        thread, seq, message = frame["thread"], frame["seq"], frame["message"]
        self.note(f"heard {thread[:6]} {seq}{' stored' if frame.get('stored') else ''}")
        self.must_be_stored(thread, seq, message["text"])
        if thread in self.resets:
            self.wrong(f"G5: heard {thread} {seq} before the reset")
        entered = message["metadata"].get("member") == self.name and message["metadata"]["event"] in ("joined", "added")
        if thread in line.left and not entered:
            self.wrong(f"heard {thread} {seq} after leaving it")
        cursor = self.cursors.get(thread)
        if cursor is None:
            if seq != 1 and not entered:
                self.wrong(f"G5: {thread} begins with {seq}")
        elif seq != cursor + 1 and not (entered and seq > cursor):
            self.wrong(f"G5: heard {thread} {seq} after {cursor}")
        self.cursors[thread] = seq
        line.left.discard(thread)
        if (run := message["run"]) is not None:
            self.finals[run] = message["text"]

    def hear_piece(self, frame: Frame) -> None:
        run, attempt, offset, text = frame["run"], frame["attempt"], frame["offset"], frame["text"]
        strict = not self.world.bus_badness
        if run in self.finals:
            if strict:
                self.wrong(f"G7: a piece of {run} after its message")
            return
        known, have, _ = self.answers.get(run, (attempt, "", ""))
        self.note(f"heard piece {run[:6]} {attempt} {offset}+{len(text)}, having {known} {len(have)}")
        if attempt < known:
            return
        if attempt > known:
            have = ""
        if offset > len(have):
            self.wrong(f"G7: a hole in {run} between {len(have)} and {offset}")
            return
        if strict and offset != len(have):
            self.wrong(f"G7: told {run} from {offset} again, having {len(have)}")
        new = have[:offset] + text
        if not new.startswith(have) and not have.startswith(new):
            self.wrong(f"G7: {run} has two beginnings")
        self.answers[run] = (attempt, max(new, have, key=len), frame["thread"])

    def hear_end(self, frame: Frame) -> None:
        run, thread, seq = frame["run"], frame["thread"], frame["seq"]
        self.note(f"heard {frame['type']} {run[:6]} {seq}")
        self.world.count("ends")
        cursor = self.cursors.get(thread)
        if cursor is not None and thread not in self.resets and cursor < seq:
            self.wrong(f"G7: {run} ended before its message {seq}")
        attempt, have, _ = self.answers.pop(run, (0, "", ""))
        final = self.finals.get(run)
        if final is None or not have or attempt != frame["attempt"]:
            return
        interrupted = frame.get("error", "").startswith("The answer was interrupted")
        whole = final.startswith(have) if self.world.bus_badness else final == have
        if not whole and not interrupted:
            self.wrong(f"G7: of {run} the pieces were {have!r}, the message is {final!r}")

    def hear_reset(self, frame: Frame) -> None:
        thread = frame["thread"]
        self.note(f"reset {thread[:6]}: {frame['reason']}")
        if thread not in self.resets:
            self.wrong(f"G5: a reset nobody had to expect: {frame}")
        self.resets.discard(thread)
        self.cursors[thread] = self.starts[thread]

    def hear_thread(self, line: Line, view: Frame) -> None:
        id = view["id"]
        if self.name in view["members"]:
            line.left.discard(id)
            self.cursors.setdefault(id, None)
        elif id in self.cursors:
            self.note(f"is no longer in {id[:6]}")
            self.forget(id)
            line.left.add(id)

    def forget(self, thread: str) -> None:
        self.cursors.pop(thread, None)
        self.marks.pop(thread, None)
        self.answers = {run: answer for run, answer in self.answers.items() if answer[2] != thread}
