-- What a job asks of the farm besides pictures, and who shares the farm.

-- Those who share the farm, with their shares. A job's tenant need not be here: one without a row has the
-- ordinary policy.
CREATE TABLE tenants (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    weight integer NOT NULL CHECK (weight BETWEEN 1 AND 1000),
    max_devices integer CHECK (max_devices > 0),
    max_images bigint CHECK (max_images >= 0),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Most devices that render at once for a model (by name) or a licence.
CREATE TABLE device_limits (
    kind text NOT NULL CHECK (kind IN ('model', 'licence')),
    name text NOT NULL,
    max_devices integer NOT NULL CHECK (max_devices >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);

-- core's JobTerms, a column each. `hold` says why a paused job does not go on.
ALTER TABLE jobs
    ADD COLUMN tenant text NOT NULL DEFAULT 'default',
    ADD COLUMN urgency text NOT NULL DEFAULT 'bulk' CHECK (urgency IN ('bulk', 'interactive')),
    ADD COLUMN deadline_ms bigint,
    ADD COLUMN tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN memory_bytes bigint NOT NULL DEFAULT 0 CHECK (memory_bytes >= 0),
    ADD COLUMN max_devices integer CHECK (max_devices > 0),
    ADD COLUMN budget_ms bigint CHECK (budget_ms > 0),
    ADD COLUMN max_failures bigint CHECK (max_failures >= 0),
    ADD COLUMN min_image_ms bigint CHECK (min_image_ms >= 0),
    ADD COLUMN after uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN after_images uuid[] NOT NULL DEFAULT '{}',
    -- core's Demand: the largest picture, the most steps, the kinds of work.
    ADD COLUMN pixels bigint NOT NULL DEFAULT 0 CHECK (pixels >= 0),
    ADD COLUMN steps integer NOT NULL DEFAULT 0 CHECK (steps >= 0),
    ADD COLUMN features text[] NOT NULL DEFAULT '{}',
    ADD COLUMN hold text CHECK (hold IN ('person', 'budget', 'failures'));
UPDATE jobs SET hold = 'person' WHERE state = 'paused';
ALTER TABLE jobs ADD CHECK ((hold IS NOT NULL) = (state = 'paused'));
CREATE INDEX jobs_unfinished_by_tenant ON jobs (tenant) WHERE state IN ('active', 'paused');

-- Device time that a job's images took, whatever became of them. Written by completions alone.
ALTER TABLE job_progress ADD COLUMN device_ms bigint NOT NULL DEFAULT 0 CHECK (device_ms >= 0);

-- What people changed of jobs after their submission. Written by whichever lane made the change.
CREATE TABLE control_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs,
    action text NOT NULL,
    details text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX control_log_by_job ON control_log (job_id, id);

-- Retrying and skipping images takes the rows of claims and of completions in `reign`, in this order, and so
-- runs alone. Neither lane takes the other's row, and both end by themselves, so no circle of waiting can form.
