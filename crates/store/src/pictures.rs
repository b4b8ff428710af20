//! Uploaded pictures: which there are, and how large.

use std::collections::BTreeMap;

use seedfarm_core::ArtifactDigest;
use seedfarm_core::plan::PictureSize;

use crate::database::Store;
use crate::error::Result;
use crate::value::{saturate, small};

/// A picture whose bytes lie in the blob store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPicture {
    /// SHA-256 of its file.
    pub digest: ArtifactDigest,
    /// Its sides.
    pub size: PictureSize,
    /// Size of the file.
    pub bytes: u64,
}

impl Store {
    /// Stores a picture; says whether it is new.
    pub async fn put_picture(&self, picture: &NewPicture) -> Result<bool> {
        let put = sqlx::query!(
            "-- put_picture
            INSERT INTO pictures (digest, width, height, bytes) VALUES ($1, $2, $3, $4)
            ON CONFLICT (digest) DO NOTHING",
            picture.digest.as_bytes(),
            picture.size.width.cast_signed(),
            picture.size.height.cast_signed(),
            saturate(picture.bytes)
        );
        Ok(put.execute(&self.pool).await?.rows_affected() == 1)
    }

    /// The sizes of those of `digests` that are known.
    pub async fn pictures(
        &self,
        digests: &[ArtifactDigest],
    ) -> Result<BTreeMap<ArtifactDigest, PictureSize>> {
        let keys: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        let rows = sqlx::query!(
            r#"-- pictures
            SELECT digest AS "digest: [u8; 32]", width, height FROM pictures WHERE digest = ANY($1)"#,
            keys.as_slice() as _
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            let size = PictureSize { width: small(row.width)?, height: small(row.height)? };
            Ok((ArtifactDigest::from_bytes(row.digest), size))
        });
        rows.collect()
    }
}
