//! Content-addressed bytes: put and get by SHA-256 on a local folder or an S3-compatible bucket.
