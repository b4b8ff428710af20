//! How images were rendered.

use seedfarm_core::{Fingerprint, FingerprintDigest, NumericClass, canonical};

use crate::database::Store;
use crate::error::{Result, StoreError};

/// A fingerprint that is in the database; only [`Store::put_fingerprint`] makes one, so that no result
/// can name a fingerprint that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredFingerprint {
    digest: FingerprintDigest,
    class: NumericClass,
}

impl StoredFingerprint {
    /// The digest under which it is stored.
    pub fn digest(&self) -> FingerprintDigest {
        self.digest
    }

    /// Its numeric class.
    pub fn class(&self) -> NumericClass {
        self.class
    }
}

impl Store {
    /// Stores a fingerprint, once.
    pub async fn put_fingerprint(&self, fingerprint: &Fingerprint) -> Result<StoredFingerprint> {
        let body = canonical::to_string(fingerprint);
        let stored = StoredFingerprint {
            digest: FingerprintDigest::of_bytes(body.as_bytes()),
            class: fingerprint.numeric_class(),
        };
        let put = sqlx::query!(
            "-- put_fingerprint
            INSERT INTO fingerprints (digest, numeric_class, body) VALUES ($1, $2, $3)
            ON CONFLICT (digest) DO NOTHING",
            stored.digest.as_bytes(),
            stored.class.as_bytes(),
            body
        );
        put.execute(&self.pool).await?;
        Ok(stored)
    }

    /// The fingerprint under `digest`.
    pub async fn fingerprint(&self, digest: &FingerprintDigest) -> Result<Option<Fingerprint>> {
        let body = sqlx::query_scalar!(
            "-- fingerprint
            SELECT body FROM fingerprints WHERE digest = $1",
            digest.as_bytes()
        );
        body.fetch_optional(&self.pool).await?.map(|body| parse(&body)).transpose()
    }
}

pub(crate) fn parse(body: &str) -> Result<Fingerprint> {
    serde_json::from_str(body).map_err(|_| StoreError::unreadable("the fingerprint", body))
}
