-- The farm's state. What is here survives every crash; what is not here is a cache.
--
-- Two lanes write the hot tables: claims (jobs.cursor, ranges, leases in) and completions (leases out,
-- results, dead, job_progress, ranges in). No row is updated by both, so that they never wait for each
-- other in opposite order.

-- The one coordinator that may write. Every takeover raises the epoch.
CREATE TABLE coordinator (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO coordinator (epoch) VALUES (0);

-- Models by the digest of their components; the manifest is core's ModelManifest.
CREATE TABLE models (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    name text NOT NULL,
    manifest jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX models_by_name ON models (name, created_at DESC);

-- Recipes without their seeds, each stored once: canonical JSON under its SHA-256.
CREATE TABLE templates (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    body text NOT NULL
);

-- One submission. A job of a million images is this one row: images below `cursor` have been leased at
-- least once; seeds are 64 bits, stored as the bigint with the same bits.
CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    name text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'paused', 'cancelled', 'finished')),
    is_replay boolean NOT NULL,
    model_name text NOT NULL,
    model_digest bytea NOT NULL REFERENCES models,
    numerics text NOT NULL CHECK (numerics IN ('strict', 'fast')),
    total bigint NOT NULL CHECK (total > 0),
    cursor bigint NOT NULL DEFAULT 0 CHECK (cursor BETWEEN 0 AND total),
    seed bigint NOT NULL,
    seed_policy text NOT NULL CHECK (seed_policy IN ('sequential', 'derived', 'fixed', 'explicit')),
    count integer NOT NULL CHECK (count > 0),
    priority integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX jobs_by_age ON jobs (created_at DESC);
CREATE INDEX jobs_unfinished ON jobs (created_at) WHERE state IN ('active', 'paused');

-- A job's prompt lines, from 0.
CREATE TABLE job_lines (
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    line integer NOT NULL,
    template bytea NOT NULL REFERENCES templates,
    seed bigint,
    PRIMARY KEY (job_id, line)
);

-- Counters, written by the completion lane alone; they equal the sums over results and dead.
CREATE TABLE job_progress (
    job_id uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    done bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Who renders. A worker keeps its id over restarts.
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now()
);

-- How images were rendered: core's Fingerprint, stored once under the SHA-256 of its canonical JSON.
CREATE TABLE fingerprints (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    numeric_class bytea NOT NULL CHECK (length(numeric_class) = 32),
    body jsonb NOT NULL
);

-- Ranges to be leased again, with the attempts already spent and the workers to avoid.
CREATE TABLE ranges (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    lo bigint NOT NULL,
    hi bigint NOT NULL CHECK (hi > lo),
    spent integer NOT NULL CHECK (spent >= 0),
    not_before timestamptz NOT NULL DEFAULT now(),
    avoid uuid[] NOT NULL DEFAULT '{}'
);
CREATE INDEX ranges_by_job ON ranges (job_id, lo);

-- Ranges that are out. The fence is (id, attempt, epoch).
CREATE TABLE leases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    lo bigint NOT NULL,
    hi bigint NOT NULL CHECK (hi > lo),
    attempt integer NOT NULL CHECK (attempt > 0),
    epoch bigint NOT NULL,
    worker_id uuid NOT NULL REFERENCES workers,
    device integer NOT NULL,
    avoid uuid[] NOT NULL DEFAULT '{}',
    granted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX leases_by_job ON leases (job_id);

-- Every image ever made. The bytes lie in the blob store under `artifact` and are a cache; the recipe
-- is `template` with `seed`.
CREATE TABLE results (
    job_id uuid NOT NULL REFERENCES jobs,
    idx bigint NOT NULL,
    seed bigint NOT NULL,
    template bytea NOT NULL REFERENCES templates,
    recipe bytea NOT NULL CHECK (length(recipe) = 32),
    pixels bytea NOT NULL CHECK (length(pixels) = 32),
    artifact bytea NOT NULL CHECK (length(artifact) = 32),
    artifact_bytes bigint NOT NULL,
    fingerprint bytea NOT NULL REFERENCES fingerprints,
    worker_id uuid NOT NULL REFERENCES workers,
    attempt integer NOT NULL,
    duration_ms bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, idx)
);
CREATE INDEX results_by_recipe ON results (recipe);

-- Images given up, with the last attempt's error.
CREATE TABLE dead (
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
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
    original_fingerprint jsonb,
    job_id uuid REFERENCES jobs,
    verdict text CHECK (verdict IN ('exact', 'equivalent', 'different', 'unverifiable')),
    details jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    judged_at timestamptz,
    CHECK ((original_job_id IS NULL) = (original_idx IS NULL))
);
CREATE INDEX replays_by_age ON replays (created_at DESC);
CREATE INDEX replays_unjudged ON replays (job_id) WHERE verdict IS NULL;
