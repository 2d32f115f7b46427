-- Who answers, and in which manner in which thread; and whose turn in the queue an answer takes.

CREATE TABLE assistants (
  n    INTEGER PRIMARY KEY,
  key  TEXT NOT NULL UNIQUE,          -- casefolded name
  body TEXT NOT NULL                  -- JSON
);

ALTER TABLE memberships ADD COLUMN personality TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN asked_by TEXT NOT NULL DEFAULT '';
