-- Faults of workers that stay, and what workers tell of their attempts.

-- Distinct workers that failed these images through a fault of their own. Written by claims and
-- completions, together with the row.
ALTER TABLE ranges ADD COLUMN faulted uuid[] NOT NULL DEFAULT '{}';
ALTER TABLE leases ADD COLUMN faulted uuid[] NOT NULL DEFAULT '{}';

-- What happened during an attempt, as its worker told it: for people, and nothing depends on it. It is
-- written beside the lanes, after the completion that brought it, and is lost if the coordinator is killed
-- in between. No foreign keys: job and worker are those of a stored lease. Old rows are removed.
CREATE TABLE attempt_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease_id bigint NOT NULL UNIQUE,
    job_id uuid NOT NULL,
    lo bigint NOT NULL CHECK (lo >= 0),
    hi bigint NOT NULL CHECK (hi > lo),
    attempt integer NOT NULL,
    worker_id uuid NOT NULL,
    device integer NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('completed', 'task', 'worker', 'environment', 'handed_back')),
    text text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX attempt_logs_by_job ON attempt_logs (job_id, id DESC);
CREATE INDEX attempt_logs_by_worker ON attempt_logs (worker_id, id DESC);
CREATE INDEX attempt_logs_well ON attempt_logs (id) WHERE outcome IN ('completed', 'handed_back');
CREATE INDEX attempt_logs_failed ON attempt_logs (id) WHERE outcome NOT IN ('completed', 'handed_back');
