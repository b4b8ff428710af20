//! LoRAs, textual inversions and ControlNets that workers have shown.

use seedfarm_core::{AdapterDigest, AdapterManifest};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::database::Store;
use crate::error::Result;

impl Store {
    /// Stores manifests. The same kind, name and digest again replaces the manifest and keeps its age.
    pub async fn put_adapters(&self, manifests: &[AdapterManifest]) -> Result<()> {
        let mut connection = self.pool.acquire().await?;
        for manifest in manifests {
            put_adapter(&mut connection, manifest).await?;
        }
        Ok(())
    }

    /// Every adapter, by kind and name, newest first.
    pub async fn adapters(&self) -> Result<Vec<AdapterManifest>> {
        let manifests = sqlx::query_scalar!(
            r#"-- adapters
            SELECT manifest AS "manifest: Json<AdapterManifest>" FROM adapters
            ORDER BY kind, name, created_at DESC, digest"#
        );
        Ok(manifests.fetch_all(&self.pool).await?.into_iter().map(|Json(manifest)| manifest).collect())
    }

    /// Those of `digests` that no worker has ever shown, in the same order.
    pub async fn unknown_adapters(&self, digests: &[AdapterDigest]) -> Result<Vec<AdapterDigest>> {
        let keys: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        let known = sqlx::query_scalar!(
            r#"-- unknown_adapters
            SELECT DISTINCT digest AS "digest: [u8; 32]" FROM adapters WHERE digest = ANY($1)"#,
            keys.as_slice() as _
        );
        let known = known.fetch_all(&self.pool).await?;
        let is_known = |digest: &AdapterDigest| known.contains(digest.as_bytes());
        Ok(digests.iter().copied().filter(|digest| !is_known(digest)).collect())
    }
}

pub(crate) async fn put_adapter(connection: &mut PgConnection, manifest: &AdapterManifest) -> Result<()> {
    let put = sqlx::query!(
        "-- put_adapter
        INSERT INTO adapters (kind, name, digest, manifest) VALUES ($1, $2, $3, $4)
        ON CONFLICT (kind, name, digest) DO UPDATE SET manifest = excluded.manifest
        WHERE adapters.manifest <> excluded.manifest",
        manifest.kind.as_str(),
        manifest.name,
        manifest.digest.as_bytes(),
        Json(manifest) as _
    );
    put.execute(connection).await?;
    Ok(())
}
