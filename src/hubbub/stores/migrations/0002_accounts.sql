-- Who may sign in, and what they may do in a thread. `version` orders the changes of the three tables below; each row
-- has that of its last one, so that what changed since is found by a number.

ALTER TABLE memberships ADD COLUMN role TEXT NOT NULL DEFAULT 'member';

-- Whoever made a group is the oldest in it; a private thread belongs to both.
UPDATE memberships SET role = 'owner' WHERE n IN (
  SELECT min(memberships.n) FROM memberships JOIN threads ON threads.id = memberships.thread
  WHERE pair IS NULL AND threads.id <> 'lobby' GROUP BY threads.id
);
UPDATE memberships SET role = 'owner' WHERE thread IN (SELECT id FROM threads WHERE pair IS NOT NULL);

-- Whoever was made a reader is one again when they come back.
CREATE TABLE readers (
  thread TEXT NOT NULL,
  member TEXT NOT NULL,
  PRIMARY KEY (thread, member)
) WITHOUT ROWID;

CREATE TABLE accounts (
  key        TEXT PRIMARY KEY,        -- casefolded name
  name       TEXT NOT NULL,
  password   TEXT NOT NULL,           -- its hash; '' for none
  admin      INTEGER NOT NULL,
  disabled   INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  version    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX accounts_by_version ON accounts (version);

CREATE TABLE tokens (
  id      TEXT PRIMARY KEY,
  member  TEXT NOT NULL,
  label   TEXT NOT NULL,
  digest  TEXT NOT NULL UNIQUE,       -- of the secret
  scopes  TEXT NOT NULL,              -- separated by spaces
  created REAL NOT NULL,
  expires REAL,
  revoked INTEGER NOT NULL,
  version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tokens_by_version ON tokens (version);

CREATE TABLE signed_out (
  id      TEXT PRIMARY KEY,           -- of a signed token
  expires REAL NOT NULL,
  version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX signed_out_by_version ON signed_out (version);

INSERT INTO meta (name, value) VALUES ('rights', '0');
