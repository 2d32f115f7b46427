"""Tokens somebody made up, took from elsewhere, or kept too long: on every way in they are worth nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from support.listeners import Refused
from support.raw import HANDSHAKE, Wire, request, ws_frame
from support.server import House
from support.talkers import TALKERS
from tests.attack.people import attacked, member, now, opaque, signed
from tests.attack.people import cookie as cookie_of

KEY = "an attack knows this key, which is 45 bytes long"
OTHER_KEY = "somebody else's key, of another installation 1"


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async with attacked(tmp_path_factory.mktemp("home"), store="memory", jwt_secret_key=KEY) as house:
        yield house


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: Any, payload: Any, key: str = KEY, algorithm: str = "sha256") -> str:
    """A token put together by hand and signed well; strings are taken for JSON as they are."""
    parts = [one if isinstance(one, str) else json.dumps(one) for one in (header, payload)]
    signing = ".".join(b64(part.encode()) for part in parts)
    return f"{signing}.{b64(hmac.new(key.encode(), signing.encode(), algorithm).digest())}"


HEADER = {"alg": "HS256", "typ": "JWT"}


@pytest.fixture(scope="module", autouse=True)
def _known_generations() -> Iterator[None]:
    """The one number in a token that nobody could guess, so that a wrong one is told from a wrong kind of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hubbub.hub.gate.new_generation", lambda: 1)
        yield


def claims(name: str, **other: Any) -> dict[str, Any]:
    """What a good token of that account says, but for `other`; `...` leaves a claim out."""
    good = {"iss": "hubbub", "aud": "hubbub", "sub": name, "iat": now(), "exp": now() + 600, "jti": "j1", "gen": 1}
    return {claim: value for claim, value in {**good, **other}.items() if value is not ...}


def with_claims(**other: Any) -> Callable[[str], str]:
    return lambda name: raw(HEADER, claims(name, **other))


def with_header(**other: Any) -> Callable[[str], str]:
    """Said to be signed as `other` says, and not signed with our key."""
    return lambda name: raw({**HEADER, **other}, claims(name), OTHER_KEY)


def unsigned(algorithm: Any) -> Callable[[str], str]:
    return lambda name: (
        f"{b64(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())}.{b64(json.dumps(claims(name)).encode())}."
    )


def by_public_key(algorithm: str) -> Callable[[str], str]:
    """Our algorithm, with a public key for its secret; and the algorithm of that key, signed with ours."""
    pem = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
    if algorithm == "HS256":
        return lambda name: raw(HEADER, claims(name), pem)
    return lambda name: raw({**HEADER, "alg": algorithm}, claims(name))


def same_claim_twice(name: str) -> str:
    """The first `sub` is one's own, the last is somebody else's, and the signature is another key's."""
    text = json.dumps(claims(name))
    return raw(HEADER, text[:-1] + f', "sub": {json.dumps(name)}}}', OTHER_KEY)


FORGED: dict[str, Callable[[str], str]] = {
    **{
        f"alg {algorithm!r}": unsigned(algorithm)
        for algorithm in ("none", "None", "NONE", "nOnE", "", None, 0, ["HS256"])
    },
    "no alg": lambda name: raw({"typ": "JWT"}, claims(name)),
    "another key": lambda name: raw(HEADER, claims(name), OTHER_KEY),
    "an empty key": lambda name: raw(HEADER, claims(name), ""),
    "a public key as the secret": by_public_key("HS256"),
    "RS256": by_public_key("RS256"),
    "ES256": by_public_key("ES256"),
    "PS256": by_public_key("PS256"),
    "EdDSA": by_public_key("EdDSA"),
    "HS512 where HS256 is configured": lambda name: raw({**HEADER, "alg": "HS512"}, claims(name), algorithm="sha512"),
    "HS384 where HS256 is configured": lambda name: raw({**HEADER, "alg": "HS384"}, claims(name), algorithm="sha384"),
    "HS256 in lower case": lambda name: raw({**HEADER, "alg": "hs256"}, claims(name)),
    "a key in its header": with_header(jwk={"kty": "oct", "k": b64(OTHER_KEY.encode())}),
    "a key's address in its header": with_header(jku="http://127.0.0.1:1/keys.json"),
    "a certificate's address in its header": with_header(x5u="http://127.0.0.1:1/cert.pem", x5c=["MIIB"]),
    "a file as its key": with_header(kid="../../../../dev/null"),
    "an empty file as its key": lambda name: raw({**HEADER, "kid": "/dev/null"}, claims(name), ""),
    "a query as its key": with_header(kid="x' UNION SELECT 'k"),
    "a kid that is no string": lambda name: raw({**HEADER, "kid": 1}, claims(name), OTHER_KEY),
    "an unknown critical header": lambda name: raw({**HEADER, "crit": ["exp"], "exp": 1}, claims(name), OTHER_KEY),
    **{f"no {claim}": with_claims(**{claim: ...}) for claim in ("iss", "aud", "sub", "iat", "exp", "jti")},
    "no claims at all": lambda name: raw(HEADER, {}),
    "claims that are a list": lambda name: raw(HEADER, []),
    "another audience": with_claims(aud="somebody"),
    "an audience that is a number": with_claims(aud=1),
    "another issuer": with_claims(iss="somebody"),
    "an issuer that is a list": with_claims(iss=["hubbub"]),
    "expired": with_claims(exp=now() - 1),
    "expired as text": with_claims(exp="yesterday"),
    "no end": lambda name: raw(HEADER, json.dumps(claims(name)).replace(f'"exp": {now() + 600}', '"exp": Infinity')),
    "an end too far away to be counted": with_claims(exp=10**400),
    "an end that is no number": with_claims(exp=[now() + 600]),
    "from the future": with_claims(iat=now() + 3600),
    "not yet valid": with_claims(nbf=now() + 3600),
    "an iat that is text": with_claims(iat="today"),
    **{
        f"sub {value!r}": with_claims(sub=value)
        for value in (1, ["a"], None, {"a": 1}, True, "", "a b", "exit", "x" * 65)
    },
    **{f"jti {value!r}": with_claims(jti=value) for value in (1, None, ["a"], {})},
    **{f"gen {value!r}": with_claims(gen=value) for value in (True, 1.0, "1", None, [1], 0, 2, -1)},
    "no gen": with_claims(gen=...),
    "huge": lambda name: raw(HEADER, claims(name, more="x" * 5000)),
    "a header nested a thousand deep": lambda name: raw("[" * 1200, claims(name)),
    "claims nested a thousand deep": lambda name: raw(HEADER, "[" * 1400 + "]" * 1400),
    "claims nested a thousand deep in objects": lambda name: raw(HEADER, '{"a":' * 560),
    "the same claim twice": same_claim_twice,
    "empty parts": lambda name: "..",
    "four parts": lambda name: raw(HEADER, claims(name)) + ".e30",
    "no signature": lambda name: raw(HEADER, claims(name)).rpartition(".")[0] + ".",
    "half a signature": lambda name: raw(HEADER, claims(name))[:-20],
    "one byte": lambda name: "e",
    "not base64": lambda name: "!!!.???.###",
    "another number for a digit": lambda name: raw(HEADER, "1e999"),
    "a token of the other kind": lambda name: "hbt_" + "A" * 43,
    "the beginning of one": lambda name: "hbt_",
}


async def refused_everywhere(house: House, token: str) -> None:
    """REST, event streams, an upgrade that shows it in a header or a cookie, and `hello` on every transport."""
    bearer, cookie = {"authorization": f"Bearer {token}"}, cookie_of(house, token)
    async with house.http() as http:
        for headers in (bearer, cookie):
            for path in ("/api/me", "/api/threads"):
                answer = await http.get(path, headers=headers)
                assert answer.status_code == 401, (path, answer.text)
                assert answer.json()["code"] == "unauthorized"
                assert answer.headers["www-authenticate"] == "Bearer"
    for headers in (bearer, cookie):
        with pytest.raises(Refused) as refused:
            await house.listen(headers=headers)
        assert refused.value.status == 401
        async with await Wire.open(house.port) as wire:
            wire.send(request("GET", "/ws", {**HANDSHAKE, **headers}))
            assert (await wire.response()).status == 101
            wire.send(ws_frame(0x81, b'{"type":"hello"}'))
            _, said = await wire.frame()
            assert json.loads(said)["code"] == "unauthorized"
    for kind in TALKERS:
        async with await house.connect(kind) as talker:
            assert (await talker.ask("hello", token=token)).get("code") == "unauthorized"
            assert (await talker.ask("thread.list"))["code"] == "hello_required"
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/ws/somebody", {**HANDSHAKE, **bearer}))
        await wire.response()
        assert await wire.close_code() == 1008


@pytest.mark.parametrize("what", FORGED)
async def test_a_forged_token_lets_nobody_in(house: House, what: str) -> None:
    name, _ = await member(house)

    await refused_everywhere(house, FORGED[what](name))


async def test_what_the_forged_ones_are_made_of_is_good_otherwise(house: House) -> None:
    name, _ = await member(house)

    async with house.http(raw(HEADER, claims(name))) as http:
        assert (await http.get("/api/me")).json()["user"] == name


@pytest.mark.parametrize("change", [0, 1, -1, 20])
async def test_a_token_with_one_character_changed_is_nobodys(house: House, change: int) -> None:
    name, token = await member(house)
    _, secret = await opaque(house, name)

    for good, at in ((token, change), (secret, 4 + change if change >= 0 else change)):
        at %= len(good)
        # The last character of base64 may carry bits that do not count; every one of the alphabet is tried there.
        others = (
            [char for char in "AQgwBRhxCSiy_-" if char != good[at]]
            if change == -1
            else ["A" if good[at] != "A" else "B"]
        )
        for other in others:
            wrong = good[:at] + other + good[at + 1 :]
            async with house.http(wrong) as http:
                answer = await http.get("/api/me")
            if answer.status_code == 200:  # the same bytes, spelled otherwise
                head, _, signature = wrong.rpartition(".")
                pad = "=" * (-len(signature) % 4)
                assert head == good.rpartition(".")[0]
                assert base64.urlsafe_b64decode(signature + pad) == base64.urlsafe_b64decode(
                    good.rpartition(".")[2] + pad
                )
            else:
                assert answer.status_code == 401


@pytest.mark.parametrize("around", ["{} ", " {}", "{}\t", "{} x", "{},{}", '"{}"', "{}\x00"])
async def test_what_is_around_a_token_does_not_make_it_another(house: House, around: str) -> None:
    _, token = await member(house)

    async with await house.connect("framed") as talker:
        answer = await talker.ask("hello", token=around.format(token, token))

    assert answer["type"] == "error"
    assert answer["code"] == "unauthorized"


async def test_a_token_of_another_installation_is_worth_nothing(house: House, tmp_path: Path) -> None:
    name, _ = await member(house)
    async with attacked(tmp_path / "other", store="memory") as other:
        await member(other, name)
        theirs, (_, secret) = signed(other, name), await opaque(other, name)

        await refused_everywhere(house, theirs)
        await refused_everywhere(house, secret)
        await refused_everywhere(other, raw(HEADER, claims(name)))


async def test_a_refusal_never_repeats_the_token(house: House) -> None:
    forged = raw(HEADER, claims("somebody"), OTHER_KEY)

    async with house.http(forged) as http:
        said = (await http.get("/api/me")).text
    async with await house.connect("text") as talker:
        said += json.dumps(await talker.ask("hello", token=forged))

    assert not any(part in said for part in forged.split("."))


@pytest.mark.parametrize("place", ["setting", "file"])
async def test_tokens_of_the_key_from_before_are_still_read_and_of_no_other(tmp_path: Path, place: str) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    more = {"jwt_previous_secret_key": OTHER_KEY} if place == "setting" else {}
    if place == "file":
        (home / "secret.key").write_text(KEY)
        (home / "secret.key.old").write_text(OTHER_KEY)
        for file in home.iterdir():
            file.chmod(0o600)
    else:
        more["jwt_secret_key"] = KEY

    async with attacked(home, store="memory", **more) as house:
        name, new = await member(house)
        assert jwt.decode(new, KEY, algorithms=["HS256"], audience="hubbub")["sub"] == name  # signs with the new one
        for good in (new, raw(HEADER, claims(name), OTHER_KEY)):
            async with house.http(good) as http:
                assert (await http.get("/api/me")).status_code == 200
        await refused_everywhere(house, raw(HEADER, claims(name), hashlib.sha256(b"a third").hexdigest()))
        await refused_everywhere(house, raw(HEADER, claims(name, exp=now() - 5), OTHER_KEY))
