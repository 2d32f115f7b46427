-- Everything Hubbub keeps. Messages live in a plain rowid table with an index on (thread, seq): appending to fifty
-- threads then dirties the same last page, which takes grouped commits twice as far as a table clustered by thread.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE members (
  n       INTEGER PRIMARY KEY,
  key     TEXT NOT NULL UNIQUE,       -- casefolded name
  name    TEXT NOT NULL,              -- first spelling
  kind    TEXT NOT NULL,
  arrived INTEGER NOT NULL            -- 0: was written to, but never signed in
);

CREATE TABLE threads (
  n       INTEGER PRIMARY KEY,
  id      TEXT NOT NULL UNIQUE,
  title   TEXT NOT NULL,
  public  INTEGER NOT NULL,
  pair    TEXT UNIQUE,                -- the two keys of a private thread, NULL for groups
  member_count INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX threads_public ON threads (n) WHERE public;

CREATE TABLE memberships (
  n      INTEGER PRIMARY KEY,         -- order of joining
  thread TEXT NOT NULL,
  member TEXT NOT NULL,
  seen   INTEGER NOT NULL
);
CREATE UNIQUE INDEX memberships_by_thread ON memberships (thread, member);
CREATE INDEX memberships_by_member ON memberships (member, n);

CREATE TABLE messages (
  n           INTEGER PRIMARY KEY,
  thread      TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  id          TEXT NOT NULL,
  sender      TEXT NOT NULL,
  destination TEXT,                   -- NULL: the thread
  type        TEXT NOT NULL,
  text        TEXT NOT NULL,
  timestamp   TEXT NOT NULL,
  metadata    TEXT,                   -- JSON; NULL: {}
  reply_to    TEXT,
  run         TEXT,
  key         TEXT
);
CREATE UNIQUE INDEX messages_by_seq ON messages (thread, seq);
CREATE UNIQUE INDEX messages_by_key ON messages (sender, key) WHERE key IS NOT NULL;

CREATE TABLE runs (
  n         INTEGER PRIMARY KEY,
  id        TEXT NOT NULL UNIQUE,
  thread    TEXT NOT NULL,
  assistant TEXT NOT NULL,
  trigger_  INTEGER NOT NULL,
  depth     INTEGER NOT NULL,
  state     TEXT NOT NULL,
  attempt   INTEGER NOT NULL,
  error     TEXT,
  message   TEXT,
  seq       INTEGER
);
CREATE UNIQUE INDEX runs_once ON runs (thread, assistant, trigger_) WHERE trigger_ > 0;
CREATE INDEX runs_open ON runs (n) WHERE state IN ('queued', 'running');
