"""What may happen at a step: what people do, and what goes wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, ClassVar

from simulation.disk import Disk, Weather
from simulation.people import Device
from simulation.server import ASSISTANTS

if TYPE_CHECKING:
    from simulation.clock import VirtualLoop

NAMES = ("alice", "bob", "carol", "dave", "eve", "frank")
SLOW_WEATHER = (Weather(commit_s=0.3), Weather(read_s=0.2), Weather(commit_s=0.05, read_s=0.05))
BAD_WEATHER = (
    *SLOW_WEATHER,
    Weather(commit_fails=0.3),
    Weather(read_fails=0.2),
    Weather(full=True),
    Weather(commit_s=0.05, read_s=0.05, commit_fails=0.1, read_fails=0.05),
)


class Doings:
    """The half of the world that acts. `flood`: texts are long; `disk_fails`: the disk may be worse than slow."""

    loop: VirtualLoop
    chance: Random
    disk: Disk
    disk_fails: bool
    flood: bool
    note: Callable[[str], None]
    rough: Callable[[], None]
    crash: Callable[[], None]
    stop: Callable[[], None]
    texts: itertools.count[int]

    def text(self) -> str:
        n = next(self.texts)
        if self.flood:
            return f"{n} " + "ü" * self.chance.randint(5000, 25000)
        return f"{n} " + self.chance.choice(("", "Grüße", "x" * 200, "日本語 " * 30, '"\\\n'))

    def place(self, device: Device) -> dict[str, str]:
        """Where to send: a thread it knows, or somebody."""
        if self.chance.random() < 0.2:
            return {"to": self.chance.choice([name for name in (*NAMES, *ASSISTANTS) if name != device.name])}
        known = sorted(device.cursors)
        return {"thread": self.chance.choice(known) if known and self.chance.random() < 0.5 else "lobby"}

    ACTIONS: ClassVar[dict[str, int]] = {
        "say": 26,
        "burst": 8,
        "question": 12,
        "again": 3,
        "conflict": 1,
        "cut": 8,
        "vanish": 2,
        "leave_politely": 2,
        "half_close": 2,
        "go_away": 2,
        "stall": 5,
        "forget": 1,
        "weather": 6,
        "sunshine": 3,
        "crash": 2,
        "stop": 1,
        "backup": 1,
        "group": 2,
        "membership": 3,
        "seen": 2,
        "check": 2,
        "history": 3,
        "run": 2,
        "cancel": 3,
        "typing": 1,
    }
    """How often each happens, compared with the others."""

    def do_say(self, device: Device) -> None:
        device.say(self.text(), **self.place(device))

    def do_burst(self, device: Device) -> None:
        place = self.place(device)
        for _ in range(self.chance.randint(2, 12)):
            device.say(self.text(), **place)

    def do_question(self, device: Device) -> None:
        name = self.chance.choice(ASSISTANTS)
        text = self.chance.choice((f"@{name} what is {self.text()}", f"repeat: {self.text()}"))
        device.say(text, **({"to": name} if text.startswith("r") else self.place(device)))

    def do_again(self, device: Device) -> None:
        """What was acknowledged is sent once more."""
        if device.acked:
            device.transmit(self.chance.choice(list(device.acked)))

    def do_conflict(self, device: Device) -> None:
        """A key that was used, for something else."""
        keys = [key for key in device.acked if device.acked[key][0] == device.epoch]
        if keys:
            fields = {**device.acked[self.chance.choice(keys)][2], "text": self.text()}
            device.ask("message.send", **fields)

    def do_cut(self, device: Device) -> None:
        device.cut(self.chance.uniform(0, 0.3))

    def do_vanish(self, device: Device) -> None:
        """Its machine is unplugged: the server does not learn of it for a long time."""
        device.cut(self.chance.uniform(5, 30))

    def do_leave_politely(self, device: Device) -> None:
        if device.ready:
            device.ask("bye")
            device.drop("said bye")

    def do_half_close(self, device: Device) -> None:
        if device.line is not None and device.line.kind == "framed" and device.line.connection is not None:
            device.note("says no more")
            device.line.smooth_since = math.inf
            device.line.connection.half_close()

    def do_go_away(self, device: Device) -> None:
        device.away = True
        device.drop("goes away")

        def back() -> None:
            device.away = False
            device.come()

        self.loop.call_later(self.chance.uniform(1, 15), back)

    def do_stall(self, device: Device) -> None:
        device.stall(self.chance.choice((0.5, 3.0, 12.0, 25.0)))

    def do_forget(self, device: Device) -> None:
        """It comes back as if for the first time."""
        device.drop("forgets everything")
        device.epoch = None
        device.cursors.clear()
        device.answers.clear()
        device.finals.clear()
        device.resets.clear()
        device.marks.clear()

    def do_weather(self, device: Device) -> None:
        chance = self.chance
        self.disk.weather = chance.choice(BAD_WEATHER if self.disk_fails else SLOW_WEATHER)
        self.note(f"{self.disk.weather}")
        self.rough()
        self.loop.call_later(chance.uniform(0.5, 5), self.do_sunshine, device)

    def do_sunshine(self, device: Device) -> None:
        if self.disk.weather != Weather():
            self.note("the disk is well")
            self.disk.weather = Weather()
            self.rough()

    def do_crash(self, device: Device) -> None:
        self.crash()

    def do_stop(self, device: Device) -> None:
        self.stop()

    def do_backup(self, device: Device) -> None:
        self.note("backup")
        self.disk.backup = self.disk.log.copy()

    def do_group(self, device: Device) -> None:
        names = self.chance.sample(NAMES, 2)
        device.ask("thread.create", title="garden", members=names, public=self.chance.random() < 0.5)

    def do_membership(self, device: Device) -> None:
        known = sorted(id for id in device.cursors if id != "lobby")
        if not known:
            return
        verb = self.chance.choice(("leave", "add", "add", "remove", "join"))
        member = {"member": self.chance.choice((*NAMES, "openai"))} if verb in ("add", "remove") else {}
        device.ask(f"thread.{verb}", thread=self.chance.choice(known), **member)

    def do_seen(self, device: Device) -> None:
        known = [(id, seq) for id, seq in sorted(device.cursors.items()) if seq]
        if known:
            id, seq = self.chance.choice(known)
            device.ask("seen", thread=id, seq=seq)

    def do_check(self, device: Device) -> None:
        device.ask("check")

    def do_history(self, device: Device) -> None:
        thread = self.chance.choice(sorted(device.cursors) or ["lobby"])
        where = self.chance.choice(({}, {"after": self.chance.randint(0, 20)}, {"before": self.chance.randint(1, 20)}))
        device.ask("history", thread=thread, limit=self.chance.randint(1, 60), **where)

    def do_run(self, device: Device) -> None:
        device.ask("run.start", thread="lobby", assistant=self.chance.choice(ASSISTANTS))

    def do_cancel(self, device: Device) -> None:
        if device.answers:
            device.ask("run.cancel", run=self.chance.choice(list(device.answers)))

    def do_typing(self, device: Device) -> None:
        device.ask("typing", thread="lobby")
