-- The farm's state. What is here survives every crash; what is not here is a cache.
--
-- Four lanes write, each one transaction at a time, because each begins by locking its own row of
-- `reign` (crates/store/src/reign.rs). No row is updated by two lanes, but for one: claims read a job's
-- state under FOR SHARE, while completions (a job finishes) and control (a job is paused) change it.
-- Claims and completions lock such rows in order of id, control locks one, and none of the three waits
-- for anything else that another lane holds; so no circle of waiting can form:
--
--   claims       reign, then jobs (shared, by id), then job_cursors, ranges, leases
--   completions  reign, then leases, results, ranges, dead, divergences, job_progress, worker_tallies,
--                then jobs (by id)
--   submissions  reign, then rows that nobody else sees before they are committed, and rows of models
--                and templates, which are otherwise written one a transaction
--   control      reign, then one row of jobs
--
-- Foreign keys lock the row they name with FOR KEY SHARE, which conflicts with none of these, as no
-- statement changes a key or deletes a job.

-- The one coordinator that may write: every takeover raises the epoch of all lanes, and thereby waits
-- for transactions of the reign before.
CREATE TABLE reign (
    lane text PRIMARY KEY CHECK (lane IN ('claims', 'completions', 'submissions', 'control')),
    epoch bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO reign (lane, epoch)
VALUES ('claims', 0), ('completions', 0), ('submissions', 0), ('control', 0);

-- Models by name and by the digest of their components: one model may go by several names, and a name
-- may pass to a newer model. The manifest is core's ModelManifest.
CREATE TABLE models (
    name text NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    manifest jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, digest)
);
CREATE INDEX models_by_digest ON models (digest);

-- Recipes without their seeds, each stored once: canonical JSON under its SHA-256.
CREATE TABLE templates (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    body text NOT NULL
);

-- One submission. A job of a million images is this one row. Seeds are 64 bits, stored as the bigint
-- with the same bits.
CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    name text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'paused', 'cancelled', 'finished')),
    is_replay boolean NOT NULL,
    model_name text NOT NULL,
    model_digest bytea NOT NULL,
    numerics text NOT NULL CHECK (numerics IN ('strict', 'fast')),
    total bigint NOT NULL CHECK (total > 0),
    seed bigint NOT NULL,
    seed_policy text NOT NULL CHECK (seed_policy IN ('sequential', 'derived', 'fixed', 'explicit')),
    count integer NOT NULL CHECK (count > 0),
    priority integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    FOREIGN KEY (model_name, model_digest) REFERENCES models (name, digest),
    CHECK ((finished_at IS NOT NULL) = (state IN ('cancelled', 'finished')))
);
CREATE INDEX jobs_by_age ON jobs (created_at DESC);
CREATE INDEX jobs_unfinished ON jobs (created_at) WHERE state IN ('active', 'paused');

-- A job's prompt lines, from 0.
CREATE TABLE job_lines (
    job_id uuid NOT NULL REFERENCES jobs,
    line integer NOT NULL,
    template bytea NOT NULL REFERENCES templates,
    seed bigint,
    PRIMARY KEY (job_id, line)
);
CREATE INDEX job_lines_by_template ON job_lines (template);

-- Written by claims alone: images below `next` have been leased at least once.
CREATE TABLE job_cursors (
    job_id uuid PRIMARY KEY REFERENCES jobs,
    next bigint NOT NULL DEFAULT 0 CHECK (next >= 0)
) WITH (fillfactor = 50);

-- Written by completions alone: counters that equal the numbers of rows in results and dead.
CREATE TABLE job_progress (
    job_id uuid PRIMARY KEY REFERENCES jobs,
    done bigint NOT NULL DEFAULT 0 CHECK (done >= 0),
    failed bigint NOT NULL DEFAULT 0 CHECK (failed >= 0)
) WITH (fillfactor = 50);

-- Who renders. A worker keeps its id over restarts.
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Written by completions alone: what each worker has made.
CREATE TABLE worker_tallies (
    worker_id uuid PRIMARY KEY REFERENCES workers,
    images bigint NOT NULL,
    device_ms bigint NOT NULL
) WITH (fillfactor = 50);

-- How images were rendered: core's Fingerprint, stored once under the SHA-256 of its canonical JSON.
CREATE TABLE fingerprints (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    numeric_class bytea NOT NULL CHECK (length(numeric_class) = 32),
    body text NOT NULL
);

-- Ranges to be leased again, with the attempts already spent and the workers to avoid.
CREATE TABLE ranges (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs,
    lo bigint NOT NULL CHECK (lo >= 0),
    hi bigint NOT NULL CHECK (hi > lo),
    spent integer NOT NULL CHECK (spent >= 0),
    not_before timestamptz NOT NULL DEFAULT now(),
    avoid uuid[] NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Ranges that are out. The fence is (id, attempt, epoch).
CREATE TABLE leases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs,
    lo bigint NOT NULL CHECK (lo >= 0),
    hi bigint NOT NULL CHECK (hi > lo),
    attempt integer NOT NULL CHECK (attempt > 0),
    epoch bigint NOT NULL,
    worker_id uuid NOT NULL REFERENCES workers,
    device integer NOT NULL,
    avoid uuid[] NOT NULL DEFAULT '{}',
    granted_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Every image ever made. The bytes lie in the blob store under `artifact` and are a cache; the recipe
-- is `template` with `seed`.
--
-- No foreign keys and one index, because this table takes a row an image: four keys double the cost of
-- a row, and an index over random digests doubles it again. The rows they would name are there: the
-- lease that a result ends names job and worker, job_lines name templates, a fingerprint is stored
-- before it can be named, and nothing of these is ever deleted. seedfarm_store::check looks after it.
-- An image is found by its recipe through job_lines_by_template.
CREATE TABLE results (
    job_id uuid NOT NULL,
    idx bigint NOT NULL CHECK (idx >= 0),
    seed bigint NOT NULL,
    template bytea NOT NULL CHECK (length(template) = 32),
    recipe bytea NOT NULL CHECK (length(recipe) = 32),
    pixels bytea NOT NULL CHECK (length(pixels) = 32),
    artifact bytea NOT NULL CHECK (length(artifact) = 32),
    artifact_bytes bigint NOT NULL,
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    worker_id uuid NOT NULL,
    attempt integer NOT NULL,
    duration_ms bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, idx)
);

-- Images given up, with the last attempt's error.
CREATE TABLE dead (
    job_id uuid NOT NULL REFERENCES jobs,
    idx bigint NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, idx)
);

-- The same recipe in the same numeric class gave other pixels: the first stays in results.
CREATE TABLE divergences (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs,
    idx bigint NOT NULL,
    recipe bytea NOT NULL,
    pixels bytea NOT NULL,
    artifact bytea NOT NULL,
    fingerprint bytea NOT NULL REFERENCES fingerprints,
    worker_id uuid NOT NULL REFERENCES workers,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Recipes rendered again. `job_id` is the one-image job that does it; `verdict` is null until then.
CREATE TABLE replays (
    id uuid PRIMARY KEY,
    original_job_id uuid REFERENCES jobs,
    original_idx bigint,
    recipe bytea NOT NULL CHECK (length(recipe) = 32),
    recipe_body text NOT NULL,
    expected_pixels bytea NOT NULL CHECK (length(expected_pixels) = 32),
    expected_artifact bytea,
    original_worker_id uuid REFERENCES workers,
    original_fingerprint text,
    job_id uuid REFERENCES jobs,
    verdict text CHECK (verdict IN ('exact', 'equivalent', 'different', 'unverifiable')),
    details jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    judged_at timestamptz,
    CHECK ((original_job_id IS NULL) = (original_idx IS NULL))
);
CREATE INDEX replays_by_age ON replays (created_at DESC);
CREATE INDEX replays_by_job ON replays (job_id);
CREATE INDEX replays_unjudged ON replays (created_at) WHERE verdict IS NULL;
