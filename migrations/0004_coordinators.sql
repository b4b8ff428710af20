-- Who coordinates: every replica says now and then where it is reached and what it is. This is a word for
-- people, and for callers that look for the active one; it has no authority, which `reign` and the lock have.
CREATE TABLE coordinators (
    id uuid PRIMARY KEY,
    address text NOT NULL,
    -- The epoch in which it is active, or null while it stands by.
    epoch bigint,
    seen timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
