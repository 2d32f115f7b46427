"""Who may do what, written down a second time: by a person, from what was promised, and not from the code.

Callers are letters: g a guest who is in no such thread · r, m, o reader, member and owner of the thread · a an admin of
the server, who is not in the thread · x somebody who was removed from it · R, W an owner of the thread who shows a
token that only reads, or only writes · v somebody whose token was revoked · n nobody: no hello was said; over HTTP a
guest without a name. A letter in the column says that it is done for them; everybody else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

CALLERS = "ngrmoaxRWv"
WHO = {
    "n": "nobody",
    "g": "a guest outside the thread",
    "r": "a reader",
    "m": "a member",
    "o": "an owner",
    "a": "an admin outside the thread",
    "x": "somebody removed",
    "R": "an owner by a token that reads",
    "W": "an owner by a token that writes",
    "v": "somebody whose token was revoked",
}

# verb, and which of its forms     in a closed thread   in a public one
_VERBS = """
message.send                       mo                   mo
message.send | to somebody         grmoax               grmoax
thread.create                      grmoax               grmoax
thread.join                        rmo                  grmoax
thread.leave                       rmo                  rmo
thread.add                         mo                   mo
thread.remove                      o                    oa
thread.remove | oneself            rmo                  rmo
thread.role                        o                    oa
thread.role | oneself              o                    o
thread.list                        grmoaxR              grmoaxR
history                            rmoR                 rmoR
check                              grmoaxR              grmoaxR
seen                               rmoR                 rmoR
typing                             mo                   mo
who                                grmoaxR              grmoaxR
run.start                          mo                   mo
run.cancel                         mo                   mo
ping                               grmoaxR              grmoaxR
bye                                ngrmoaxRWv           ngrmoaxRWv
hello                              ngrmoaxR             ngrmoaxR
register                           g                    g
"""

# route, and which of its forms                            closed        public        refused with (else 404)
_ROUTES = """
POST /api/auth/logout                                      rmoaxRW       same          401
POST /api/auth/refresh                                     rmoax         same          400
POST /api/auth/password                                    -             same          400 401
GET /api/me                                                ngrmoaxRW     same
POST /api/tokens                                           rmoax         same          401
POST /api/tokens | for somebody else                       a             same          401
GET /api/tokens                                            ngrmoaxR      same
GET /api/tokens | of somebody else                         a             same          401
DELETE /api/tokens/{id}                                    a             same
GET /api/accounts                                          a             same          401
POST /api/accounts                                         a             same          401
PATCH /api/accounts/{name}                                 a             same          401
POST /api/accounts/{name}/sign-out                         a             same          401
GET /api/users                                             ngrmoaxR      same
GET /api/assistants                                        ngrmoaxR      same
POST /api/assistants                                       ngrmoaxW      same
GET /api/assistants/{name}                                 ngrmoaxR      same
PATCH /api/assistants/{name}                               oaW           same
DELETE /api/assistants/{name}                              oaW           same
POST /api/threads                                          ngrmoaxW      same
GET /api/threads                                           ngrmoaxR      same
GET /api/threads/{id}                                      rmoR          ngrmoaxR
PATCH /api/threads/{id}                                    oW            oaW
DELETE /api/threads/{id}                                   oW            oaW
PUT /api/threads/{id}/members/{member}                     moW           moW
PUT /api/threads/{id}/members/{member} | oneself           rmoW          ngrmoaxW
GET /api/threads/{id}/members                              rmoR          ngrmoaxR
PATCH /api/threads/{id}/members/{member}                   oW            oaW
DELETE /api/threads/{id}/members/{member}                  oW            oaW
DELETE /api/threads/{id}/members/{member} | oneself        rmoW          rmoW
POST /api/threads/{id}/messages                            moW           moW
GET /api/threads/{id}/messages                             rmoR          rmoR
PUT /api/threads/{id}/seen                                 rmoR          rmoR
POST /api/messages                                         ngrmoaxW      same
GET /api/unseen                                            ngrmoaxR      same
POST /api/threads/{id}/runs                                moW           moW
GET /api/runs/{id}                                         rmoR          rmoR
POST /api/runs/{id}/cancel                                 moW           moW
GET /api/runs/{id}/events                                  rmoR          rmoR
GET /api/events                                            ngrmoaxR      same
GET /metrics                                               ngrmoaxR      same
GET /api/stats                                             ngrmoaxR      same
GET /api/threads/{id}/events                               rmoR          rmoR
POST /chat                                                 ngrmoaxW      same
GET /conversations/{id}/history                            -             same          404 401
GET /conversations/{id}/history | one's own                ngrmoaxR      same
GET /generate                                              ngrmoaxW      same
POST /generate                                             ngrmoaxW      same
POST /messages/                                            ngrmoaxW      same
POST /messages/ | as somebody else                         -             same          404 401
GET /messages/{user}                                       -             same          404 401
GET /messages/{user} | oneself                             ngrmoaxR      same
"""

OPEN = frozenset(
    {
        "GET /api/auth",
        "POST /api/auth/guest",
        "POST /api/auth/register",
        "POST /api/auth/login",
        "GET /health",
        "HEAD /health",
        "GET /healthz",
        "HEAD /healthz",
        "GET /readyz",
        "HEAD /readyz",
        "GET /",
        "HEAD /",
        "GET /test",
        "HEAD /test",
        "GET /test/{name}",
        "GET /docs",
        "HEAD /docs",
        "GET /stats",
        "GET /stats/stats.js",
        "GET /stats/stats.css",
        "GET /assets/{name}",
        "GET /{name}",
        "GET /openapi.json",
        "HEAD /openapi.json",
    }
)
"""Routes that take no token: to sign in, to see whether it runs, and the page with what describes it."""


@dataclass(frozen=True)
class Row:
    """`what` is a verb or a route, `form` how it is asked for; the letters of those for whom it is done."""

    what: str
    form: str
    closed: str
    public: str
    refused: tuple[int, ...] = (404,)


def _rows(table: str) -> list[Row]:
    rows = []
    for line in table.strip().splitlines():
        said, _, form = line[: 35 if table is _VERBS else 59].partition("|")
        closed, public, *refused = line[35 if table is _VERBS else 59 :].split()
        closed = closed.replace("-", "")
        public = closed if public == "same" else public
        rows.append(Row(said.strip(), form.strip(), closed, public, tuple(map(int, refused)) or (404,)))
    return rows


VERBS = _rows(_VERBS)
ROUTES = _rows(_ROUTES)
