"""Who may come in, and as whom: accounts, passwords, tokens, and the rule for names nobody has registered.

What the store knows of accounts is remembered here and read again, from the version it had, twice a second; so what
was taken from somebody is taken from them on every node, on their open connections too, within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog

from hubbub.core import names
from hubbub.core.errors import BadRequest, NameTaken, NotFound, Problem, Unauthorized
from hubbub.core.nouns import LOBBY, Account, Kind, Rights, Scope, Token, new_generation, new_id
from hubbub.hub.access import ALL, VISITOR, Caller
from hubbub.hub.addresses import whose
from hubbub.hub.auth import Auth, Claims
from hubbub.hub.passwords import Attempts, Passwords

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.gate")

LOOK_EVERY_S = 0.5
OPAQUE = "hbt_"
MAX_TOKENS = 100
"""Tokens a member may have at a time."""

MAX_LABEL = 100
WRONG = "The name or the password is wrong."
SIGNED_OUT = "You were signed out; sign in again."


class Audit(Protocol):
    """Where it is noted who came in and who changed whose rights; never what was said, never a secret."""

    def __call__(self, event: str, /, **details: str | None) -> None: ...


class Gate:
    """Owned by the hub.

    Args:
        registration: may anybody register a name?
    """

    def __init__(self, hub: Hub, auth: Auth, *, registration: bool, audit: Audit) -> None:
        self._hub = hub
        self.auth = auth
        self.registration = registration
        self.audit = audit
        self._passwords = Passwords()
        self._attempts = Attempts(hub.limits.wrong_passwords)
        self._version = 0
        self._accounts: dict[str, Account] = {}  # by key
        self._tokens: dict[str, Token] = {}  # those that were not revoked, by id
        self._by_digest: dict[str, Token] = {}
        self._of: dict[str, dict[str, Token]] = {}  # by member, then id
        self._making = asyncio.Lock()  # tokens, so that nobody makes more at once than they may have
        self._signed_out: dict[str, float] = {}
        self._held: set[HasCaller] = set()

    # What the store knows

    async def refresh(self) -> None:
        """Learn what changed, and let go of whoever may no longer be here."""
        news = await self._hub.store.accounts.changes_after(self._version)
        if news.version == self._version:
            return
        await self._meet(account.name for account in news.accounts)
        if news.version <= self._version:  # somebody else has read it meanwhile
            return
        self._version = news.version
        self._learn(news)
        self._look_again({*(a.name for a in news.accounts), *(t.member for t in news.tokens)}, news.signed_out)

    async def _meet(self, who: Iterable[str]) -> None:
        """Get to know the members of accounts that were made elsewhere."""
        people = self._hub.people
        if all((known := people.known(name)) is not None and known.arrived for name in who):
            return
        for member in await self._hub.store.members():
            known = people.known(member.name)
            if known is None or (member.arrived and not known.arrived):
                people.remember(member)
        if lobby := self._hub.rooms.get(LOBBY):
            self._hub.unsure.add(lobby)

    def _learn(self, news: Rights) -> None:
        for account in news.accounts:
            self._accounts[names.key(account.name)] = account
            self._hub.people.own_shape(account.name)
        for token in news.tokens:
            if token.revoked:
                self._tokens.pop(token.id, None)
                self._by_digest.pop(token.digest, None)
                self._of.get(token.member, {}).pop(token.id, None)
            else:
                self._tokens[token.id] = self._by_digest[token.digest] = token
                self._of.setdefault(token.member, {})[token.id] = token
        self._signed_out.update(news.signed_out)

    def _look_again(self, who: Iterable[str], signed_out: Iterable[str] = ()) -> None:
        gone = set(signed_out)
        sessions = {session for name in who for session in self._hub.people.sessions_of(name)}
        if gone:
            sessions.update(session for session in self._hub.sessions if session.caller.sign_in in gone)
        for session in sessions:
            try:
                self.renew(session)
            except Exception:  # a bug; the others are not to stay for it
                log.exception("session_not_ended", member=session.name)

    def renew(self, session: HasCaller) -> None:
        """Look again at what a connection was let in for; end it when that is worth nothing any more."""
        if session in self._held:
            return
        try:
            session.caller = self.judge(session.caller)
        except Unauthorized as refused:
            session.end(refused.code, refused.detail)

    @contextlib.contextmanager
    def holding(self, session: HasCaller) -> Iterator[None]:
        """While what a connection was let in for is replaced, it is not looked at, and after that at once."""
        self._held.add(session)
        try:
            yield
        finally:
            self._held.discard(session)
            self.renew(session)

    async def watch(self) -> None:
        """Until cancelled: learn what others changed, and let nobody stay longer than their token."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.refresh()
                now = self._hub.clock()
                for session in list(self._hub.sessions):
                    expires = session.caller.expires
                    if expires is not None and expires <= now:
                        self.renew(session)
                self._signed_out = {id: expires for id, expires in self._signed_out.items() if expires > now}
            except Problem as failure:
                log.warning("accounts_not_read", reason=failure.detail)
            except Exception:
                log.exception("watch_failed")

    def close(self) -> None:
        self._passwords.close()

    # Who is it?

    def account(self, name: str) -> Account | None:
        return self._accounts.get(names.key(name))

    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    def identify(self, token: str | None, user: str | None, address: str = "", cookie: str | None = None) -> Caller:
        """Who a caller is, by a token, by the cookie of their browser unless they name somebody else, or as a guest.
        Raises Unauthorized, NameTaken, RateLimited or BadRequest.

        A guest's name belongs to whoever is connected under it, until they leave; their token proves it.
        """
        shown = cookie if token is None else token
        if shown is None:
            return self._guest(user, address)
        try:
            caller = self._bearer(shown)
        except Unauthorized:
            if token is None and user is not None:
                return self._guest(user, address)
            self._hub.addresses.count(address)
            raise
        if token is not None:
            return caller
        if user is not None and names.key(user) != names.key(caller.name):
            return self._guest(user, address)
        return replace(caller, by_cookie=True)

    def _bearer(self, token: str) -> Caller:
        if token.startswith(OPAQUE):
            known = self._by_digest.get(digest(token))
            if known is None:
                raise Unauthorized("The token is not one of this server's, or was revoked.")
            return self.judge(Caller(known.member, token=known.id, expires=known.expires))
        claims: Claims = self.auth.read(token)
        return self.judge(
            Caller(claims.name, sign_in=claims.sign_in, generation=claims.generation, expires=claims.expires),
        )

    def judge(self, caller: Caller) -> Caller:
        """The caller as their rights are now. Raises Unauthorized: what they came in with is worth nothing any more."""
        if caller.expires is not None and caller.expires <= self._hub.clock():
            raise Unauthorized("The token has expired; sign in again.")
        account = self.account(caller.name)
        scopes = ALL
        if caller.token:
            token = self._tokens.get(caller.token)
            if token is None:
                raise Unauthorized(SIGNED_OUT)
            scopes = frozenset(token.scopes)
        else:
            if caller.sign_in in self._signed_out:
                raise Unauthorized(SIGNED_OUT)
            if account is None and not self.auth.guests:
                raise Unauthorized("Guests are not allowed here; sign in.")
            if caller.generation != (account.generation if account else 0):
                raise Unauthorized(SIGNED_OUT)
        if account is not None and account.disabled:
            raise Unauthorized(SIGNED_OUT)
        admin = account is not None and account.admin
        return replace(
            caller,
            name=account.name if account else caller.name,
            scopes=scopes if admin else scopes - {Scope.ADMIN},
            admin=admin,
        )

    def _guest(self, user: str | None, address: str) -> Caller:
        if not self.auth.guests:
            self._hub.addresses.count(address)
            raise Unauthorized("Guests are not allowed here; sign in.")
        name = names.normalise(VISITOR if user is None else user)
        self._hub.addresses.count(address)
        if self.account(name) is not None:
            raise Unauthorized(f"The name '{name}' is registered; sign in with its password.")
        return self.judge(Caller(self._free(name), sign_in=new_id()))

    def _free(self, name: str) -> str:
        """The name, in its first spelling. Raises NameTaken: somebody speaks under it, or it looks like another's."""
        people = self._hub.people
        known = people.known(name)
        self._require_distinct(name, here_before=known is not None and known.arrived)
        name = known.name if known else name
        if people.claimed(name) or self._is_assistant(name):
            raise NameTaken("Username already taken.")
        return name

    def _require_distinct(self, name: str, *, here_before: bool) -> None:
        """Raises NameTaken: it looks like somebody else's. Whoever was here before, or is given an account by an admin,
        gives way to accounts and assistants alone: a name that a passer-by has used keeps nobody from their own."""
        other = self._hub.people.looks_like(name)
        if other is not None and (not here_before or self.account(other) is not None or self._is_assistant(other)):
            self._hub.people.require_distinct(name)

    def _is_assistant(self, name: str) -> bool:
        return self._hub.assistants.is_one(name)

    def require_free(self, name: str) -> None:
        """Raises NameTaken: it cannot be given an account, not even by somebody who runs the server."""
        if self.account(name) is not None or names.key(name) == VISITOR or self._is_assistant(name):
            raise NameTaken("Username already taken.")
        self._require_distinct(name, here_before=True)

    def issue(self, caller: Caller) -> str:
        """A signed token for somebody who came in otherwise; signing out with one ends them all."""
        return self.auth.issue(caller.name, self._hub.clock(), caller.generation, caller.sign_in)

    async def introduce(self, name: str) -> str:
        """A signed token for a device of whoever runs the server: its account is made here where guests are not
        allowed. "" where its name alone is enough, or is somebody else's. Raises Unauthorized: its account was
        disabled."""
        account = self.account(name)
        member = self._hub.people.known(name)
        if account is not None and (member is None or member.kind is not Kind.DEVICE):
            return ""
        if account is None:
            if self.auth.guests:
                return ""
            account = await self.add(name, kind=Kind.DEVICE)
            self.audit("introduced", user=account.name)
        return self.issue(self._signed_in(account))

    # Passwords

    async def register(self, name: str, password: str, address: str = "", guest: Caller | None = None) -> Caller:
        """Make a name one's own; a guest who has it shows their token. Raises Unauthorized: registration is closed;
        NameTaken, BadRequest, RateLimited."""
        name = names.normalise(name)
        self._hub.addresses.count(address)
        self.require_free_to_register(name, guest)
        hashed = await self.hash(password)
        self.require_free_to_register(name, guest)  # time has passed
        account = await self.add(name, password_hash=hashed)
        self.audit("registered", user=account.name, address=address)
        return self._signed_in(account)

    def require_free_to_register(self, name: str, guest: Caller | None = None) -> None:
        """Raises Unauthorized: registration is closed; NameTaken: the name is somebody's."""
        if not self.registration:
            raise Unauthorized("Registration is closed here; somebody who runs the server can add you.")
        own = guest is not None and names.key(guest.name) == names.key(name)
        if self.account(name) is not None:
            raise NameTaken(f"'{name}' is registered already." if own else "Username already taken.")
        self.require_free(name)
        known = self._hub.people.known(name)
        self._require_distinct(name, here_before=known is not None and known.arrived)
        if not own and known is not None and self._hub.people.claimed(known.name):
            raise NameTaken("Username already taken.")

    async def add(
        self, name: str, *, password_hash: str = "", kind: Kind = Kind.PERSON, admin: bool = False
    ) -> Account:
        """A new account, whose member is in the lobby from now on. Raises NameTaken."""
        name = names.normalise(name)
        self.require_free(name)
        member = await self._hub.arrive(name, kind)  # first: whoever learns of the account elsewhere looks for them
        account = Account(name=member.name, password=password_hash, admin=admin, generation=new_generation())
        await self._hub.store.accounts.add(account)
        await self.refresh()
        return account

    async def login(self, name: str, password: str, address: str = "") -> Caller:
        """Who has that password. Raises Unauthorized, RateLimited."""
        key = names.key(name)[:256]
        self._hub.addresses.count(address)
        counted, address = address, whose(address)
        self._attempts.begin(key, address, time.monotonic())
        try:
            await self.refresh()
            known = self.account(name)
            right = await self._passwords.verify(
                password, known.password if known else "", self._hub.addresses.limited(counted)
            )
        except BaseException:
            self._attempts.undone(key, address)
            raise
        account = self.account(name)  # as it is now
        if not right or account is None or known is None or account.password != known.password or account.disabled:
            self._hub.counts.wrong_passwords += 1
            self.audit("login_failed", user=name[:64], address=counted)
            raise Unauthorized(WRONG)
        self._attempts.succeeded(key, address)
        self.audit("login", user=account.name, address=counted)
        return self._signed_in(account)

    def _signed_in(self, account: Account) -> Caller:
        return self.judge(Caller(account.name, sign_in=new_id(), generation=account.generation))

    async def change_password(self, caller: Caller, old: str, new: str, address: str = "") -> Caller:
        """Everybody else who is signed in with the old one has to sign in again; tokens stay. Raises Unauthorized,
        BadRequest, RateLimited."""
        account = self.account(caller.name)
        if account is None or caller.token:
            raise BadRequest("Only somebody who signed in with a password can change it.")
        try:
            await self.login(caller.name, old, address)
        except Unauthorized:
            raise Unauthorized("The old password is wrong.") from None
        return self._signed_in(await self.set_password(caller.name, new, by=caller.name))

    async def set_password(self, name: str, new: str, *, by: str) -> Account:
        """Everybody who is signed in with the old one has to sign in again; tokens stay. Raises NotFound, BadRequest,
        RateLimited."""
        hashed = await self.hash(new)
        account = await self._hub.store.accounts.change(name, password=hashed, sign_out=True)
        await self.refresh()
        self.audit("password_changed", user=account.name, by=by)
        return account

    async def sign_out(self, caller: Caller) -> None:
        """What the caller showed is worth nothing from now on, on their open connections too."""
        if caller.token:
            await self._hub.store.accounts.revoke_token(caller.token)
        else:
            now = self._hub.clock()
            await self._hub.store.accounts.sign_out(caller.sign_in, now + self.auth.expires_s, now)
        await self.refresh()
        self.audit("logout", user=caller.name)

    async def sign_out_everywhere(self, name: str, *, by: str) -> None:
        """Whatever was signed for this account is worth nothing from now on; tokens stay. Raises NotFound."""
        account = await self._hub.store.accounts.change(name, sign_out=True)
        await self.refresh()
        self.audit("signed_out_everywhere", user=account.name, by=by)

    async def change(self, name: str, *, by: str, admin: bool | None = None, disabled: bool | None = None) -> Account:
        """Change somebody's rights. Raises NotFound."""
        account = await self._hub.store.accounts.change(name, admin=admin, disabled=disabled, sign_out=bool(disabled))
        await self.refresh()
        for event, value in (("admin", admin), ("disabled", disabled)):
            if value is not None:
                self.audit(f"{event}_{'on' if value else 'off'}", user=account.name, by=by)
        return account

    async def hash(self, password: str) -> str:
        """What is kept of a password. Raises BadRequest, RateLimited."""
        return await self._passwords.hash(password)

    # Tokens

    async def make_token(
        self, name: str, label: str, scopes: Iterable[Scope], *, by: str, expires_s: float | None = None
    ) -> tuple[Token, str]:
        """A token for an account, and its secret, which is told this once. Raises NotFound, BadRequest."""
        account = self.account(name)
        if account is None:
            raise NotFound(f"There is no account '{name}'.")
        now = self._hub.clock()
        secret = OPAQUE + secrets.token_urlsafe(32)
        token = Token(
            id=f"t{new_id()}",  # on a command line, one that begins with '-' would be an option
            member=account.name,
            label=label,
            digest=digest(secret),
            scopes=tuple(sorted(set(scopes))),
            created=now,
            expires=None if expires_s is None else now + expires_s,
        )
        async with self._making:
            if len(self.tokens_of(account.name)) >= MAX_TOKENS:
                raise BadRequest(f"An account has at most {MAX_TOKENS} tokens; revoke one first.")
            await self._hub.store.accounts.add_token(token)
            await self.refresh()
        self.audit("token_made", user=account.name, by=by, token=token.id, scopes=" ".join(token.scopes))
        return token, secret

    def tokens_of(self, name: str) -> list[Token]:
        """Those that are worth something, oldest first."""
        now = self._hub.clock()
        mine = self._of.get(name, {}).values()
        return sorted((t for t in mine if t.expires is None or t.expires > now), key=lambda token: token.created)

    async def revoke_token(self, id: str, *, by: Caller) -> Token:
        """What was revoked. Raises NotFound: it is not the caller's, and they are no admin."""
        token = self._tokens.get(id)
        if token is None or not (token.member == by.name or (by.admin and Scope.ADMIN in by.scopes)):
            raise NotFound("There is no such token.")
        await self._hub.store.accounts.revoke_token(id)
        await self.refresh()
        self.audit("token_revoked", user=token.member, by=by.name, token=id)
        return token


class HasCaller(Protocol):
    """A connection, as far as the gate looks at it."""

    name: str
    caller: Caller

    def end(self, code: str, reason: str) -> None: ...


def digest(secret: str) -> str:
    """What is kept of a token: it holds 256 random bits, so a fast hash of it cannot be turned round."""
    return hashlib.sha256(secret.encode()).hexdigest()
