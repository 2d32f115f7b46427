"""The other side of the wire: a client that stays connected, loses nothing and repeats nothing."""

from hubbub.client.client import Client
from hubbub.client.connection import Timing
from hubbub.client.life import State, Status
from hubbub.client.trust import Trust

__all__ = ["Client", "State", "Status", "Timing", "Trust"]
