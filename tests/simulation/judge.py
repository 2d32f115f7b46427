"""What must be true at every moment, and what must have come true once everything is at rest.

What a single client can tell is judged where it is heard (`people.py`); here is what takes the whole world to see.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from simulation.server import ASSISTANTS, SLOW_S
from simulation.speech import Frame

if TYPE_CHECKING:
    from simulation.clock import VirtualLoop
    from simulation.disk import Disk
    from simulation.people import Device
    from simulation.server import Server

MAX_UNSENT = 1 << 20
NOTICED_S = 3.0
"""How much later than promised a slow reader may be closed: the sweep looks every second."""

LIVE_S = 5.0
"""So long after its commit everybody who reads has heard a message, while nothing goes wrong."""

REPAIRED_S = 20.0
"""So long, at most, when the bus or the disk fails: heads are compared every ten seconds."""


class Judge:
    """The half of the world that looks."""

    loop: VirtualLoop
    disk: Disk
    server: Server | None
    devices: list[Device]
    written: dict[str, list[str]]
    bus_badness: float
    rough_at: float
    calm: bool

    def complain(self, wrong: str) -> None:
        raise NotImplementedError

    # At every moment

    def judge_now(self) -> None:
        self._judge_stalled()
        self._judge_delays()

    def _judge_stalled(self) -> None:
        """G6: a reader that does not read costs little and is closed."""
        now = self.loop.time()
        for connection in self.server.connections if self.server else ():
            transport = connection.transport
            unsent = transport.get_write_buffer_size()
            if unsent > MAX_UNSENT:
                self.complain(f"G6: {unsent} bytes wait for a reader that does not read")
            if unsent and not transport.is_closing() and now - transport.shrank_at > SLOW_S + NOTICED_S:
                self.complain(f"G6: a reader that has not read for {now - transport.shrank_at:.1f} s is still here")

    def _judge_delays(self) -> None:
        """Who reads hears everything soon, whatever the others do."""
        now = self.loop.time()
        limit = LIVE_S if not self.bus_badness and now - self.rough_at > REPAIRED_S else REPAIRED_S
        if now - self.rough_at < limit:
            return
        for device in self.devices:
            line = device.line
            if line is None or not line.ready or now - line.smooth_since < limit or device.resets:
                continue
            if device.epoch != self.disk.log.epoch:
                continue
            for thread, cursor in device.cursors.items():
                if not self.disk.log.is_in(thread, device.name):
                    continue  # removed while its socket was full: then it is not told so
                log = self.disk.committed[device.epoch].get(thread, ())
                if cursor is not None and cursor < len(log) and log[cursor][1] < now - limit:
                    since = log[cursor][1]
                    self.complain(f"G5: {device.id} has not heard {thread} {cursor + 1}, stored since {since:.2f}")

    def judge_history(self, device: Device, frame: Frame, request: Frame) -> None:
        """G4: history is the log, whoever asks."""
        assert device.epoch is not None
        for message in frame["messages"]:
            device.must_be_stored(request["thread"], message["seq"], message["text"])
        seqs = [message["seq"] for message in frame["messages"]]
        if seqs and seqs != list(range(seqs[0], seqs[0] + len(seqs))):
            self.complain(f"G4: history of {device.id} is {seqs}")
        if "after" in request and seqs and seqs[0] != request["after"] + 1:
            self.complain(f"G4: history after {request['after']} begins with {seqs[0]}")
        if "before" in request and seqs and seqs[-1] >= request["before"]:
            self.complain(f"G4: history before {request['before']} ends with {seqs[-1]}")

    # At the end

    def missing(self) -> list[str]:
        """What has not yet come to rest."""
        if self.server is None or not self.server.accepting:
            return ["the server is not back"]
        wrongs: list[str] = []
        log = self.disk.log
        logs = log.messages()
        for device in self.devices:
            if not device.ready:
                wrongs.append(f"{device.id} is not connected")
                continue
            wrongs += [f"G1: {device.id} never got an answer to {key}" for key in device.unacked]
            wrongs += [f"G5: {device.id} never got the reset of {thread}" for thread in device.resets]
            if not self.bus_badness:
                ended = [run for run in device.answers if self.disk.has_ended(run)]
                wrongs += [f"G7: {device.id} never heard the end of {run}" for run in ended]
            for thread, messages in logs.items():
                if device.name not in log.members_of(thread):
                    continue
                cursor = device.cursors.get(thread)
                if cursor is None:
                    cursor = log.seen(thread, device.name)
                if cursor != len(messages):
                    wrongs.append(f"G5: {device.id} heard {thread} up to {cursor} of {len(messages)}")
        wrongs += [f"G7: run {run.id} has not ended" for run in log.runs() if not run.state.ended]
        asked = {(run.thread, run.assistant, run.trigger) for run in log.runs()}
        for thread, messages in logs.items():
            for message in messages:
                for assistant in self._asked(thread, message.sender, message.text, message.type):
                    if (thread, assistant, message.seq) not in asked:
                        wrongs.append(f"G7: {assistant} was never asked by {thread} {message.seq}")
        assert self.server.hub is not None
        for room in self.server.hub.rooms.values():
            if set(room.members) != set(log.members_of(room.id)):
                wrongs.append(f"the room {room.id} has {[*room.members]}, the log {log.members_of(room.id)}")
        return wrongs

    def _asked(self, thread: str, sender: str, text: str, type: str) -> list[str]:
        if type != "chat" or sender in ASSISTANTS:
            return []
        if self.disk.log.private(thread):
            return [name for name in self.disk.log.members_of(thread) if name in ASSISTANTS]
        return [name for name in ASSISTANTS if f"@{name}" in text]

    def judge_end(self) -> None:
        for thread, messages in self.disk.log.messages().items():
            if [message.seq for message in messages] != list(range(1, len(messages) + 1)):
                self.complain(f"G4: {thread} is not numbered 1, 2, 3 …")
            if messages != [message for message, _ in self.disk.committed[self.disk.log.epoch].get(thread, [])]:
                self.complain(f"G1: what was committed of {thread} is not what is there")
        self._judge_keys()
        self._judge_runs()

    def _judge_keys(self) -> None:
        """G3: texts are unique, so one text stored twice is one key stored twice."""
        for log in self.disk.committed.values():
            texts = Counter(m.text for thread in log.values() for m, _ in thread if m.type == "chat" and m.run is None)
            for text, count in texts.items():
                if count > 1:
                    self.complain(f"G3: {text[:40]!r} is stored {count} times")
        for device in self.devices:
            for order in device.orders:
                self._judge_order(device, order)
            for key, (epoch, seq, fields) in device.acked.items():
                if "thread" in fields:
                    kept = self.disk.committed[epoch][fields["thread"]][seq - 1][0]
                    if kept.text != fields["text"] or kept.sender != device.name:
                        self.complain(f"G1: {key} was acknowledged as {seq}, where {kept.sender} said {kept.text!r}")

    def _judge_order(self, device: Device, order: dict[str, list[str]]) -> None:
        """What was sent once, on one connection and to one thread, is numbered in that order."""
        for place, keys in order.items():
            seqs = [device.acked[key][:2] for key in keys if device.tries[key] == 1 and key in device.acked]
            if any(epoch == next_epoch and seq > next_seq for (epoch, seq), (next_epoch, next_seq) in pairwise(seqs)):
                self.complain(f"G4: what {device.id} said in {place} is numbered {seqs}")

    def _judge_runs(self) -> None:
        """G7: one message a run, with what the engine wrote."""
        messages = self.disk.log.messages()
        ends = Counter(message.run for log in messages.values() for message in log if message.run is not None)
        for run in self.disk.log.runs():
            if not run.state.ended:
                continue  # as `missing` has said
            if ends.pop(run.id, 0) != 1:
                self.complain(f"G7: run {run.id} did not end in one message")
                continue
            assert run.seq is not None
            message = messages[run.thread][run.seq - 1]
            wrote = self.written.get(run.id, [""])
            if message.run != run.id or message.metadata["state"] != run.state:
                self.complain(f"G7: run {run.id} ended {run.state} in {message}")
            elif run.state == "completed" and message.text not in wrote:
                self.complain(f"G7: the answer {message.text!r} is none of {wrote!r}")
            elif not any(text.startswith(message.text) for text in ["", *wrote]):
                self.complain(f"G7: the answer {message.text!r} begins none of {wrote!r}")
        if ends:
            self.complain(f"G7: messages of runs there are not: {ends}")
