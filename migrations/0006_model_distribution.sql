-- Models and adapters that the farm hands out to its workers, with their files.

-- A package is known by the digest of what it holds. Its manifest is core's PackageManifest; the entry is the
-- file that is opened, null where it is the whole folder.
CREATE TABLE packages (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    kind text NOT NULL CHECK (kind IN ('model', 'lora', 'embedding', 'control')),
    name text NOT NULL,
    manifest jsonb NOT NULL,
    entry text,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX packages_by_name ON packages (name);

-- The files of a package. The bytes lie in the blob store, apart from pictures, under their SHA-256; a file
-- that several packages have lies there once.
CREATE TABLE model_files (
    package bytea NOT NULL REFERENCES packages ON DELETE CASCADE,
    path text NOT NULL,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    bytes bigint NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (package, path)
);
CREATE INDEX model_files_by_sha256 ON model_files (sha256);
