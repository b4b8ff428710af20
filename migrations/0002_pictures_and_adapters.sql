-- What recipes draw on besides models: uploaded pictures, and files that change a model.

-- Uploaded pictures. The bytes, a PNG file, lie in the blob store under the same digest.
CREATE TABLE pictures (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    width integer NOT NULL CHECK (width > 0),
    height integer NOT NULL CHECK (height > 0),
    bytes bigint NOT NULL CHECK (bytes > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- LoRAs, textual inversions and ControlNets that workers have shown, by kind, name and digest: one file may
-- go by several names, and several files by one. The manifest is core's AdapterManifest.
CREATE TABLE adapters (
    kind text NOT NULL CHECK (kind IN ('lora', 'embedding', 'control')),
    name text NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    manifest jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name, digest)
);
CREATE INDEX adapters_by_digest ON adapters (digest);

-- Adapters that a worker must have for a job: those of all its lines, each once, in ascending order.
ALTER TABLE jobs ADD COLUMN needs bytea[] NOT NULL DEFAULT '{}';

-- What whoever asked for an image should know of it; only for images of which there is something to know.
-- Written by completions alone, together with the image's result.
CREATE TABLE warnings (
    job_id uuid NOT NULL REFERENCES jobs,
    idx bigint NOT NULL CHECK (idx >= 0),
    texts text[] NOT NULL,
    PRIMARY KEY (job_id, idx)
);
