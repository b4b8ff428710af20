//! Models that workers and coordinators have shown.

use seedfarm_core::{ModelDigest, ModelManifest};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::database::Store;
use crate::error::Result;

impl Store {
    /// Stores manifests. The same name and digest again replaces the manifest and keeps its age.
    pub async fn put_models(&self, manifests: &[ModelManifest]) -> Result<()> {
        let mut connection = self.pool.acquire().await?;
        for manifest in manifests {
            put_model(&mut connection, manifest).await?;
        }
        Ok(())
    }

    /// The model of this name, the newest where several had it, or of this digest in hexadecimal.
    pub async fn model(&self, name_or_digest: &str) -> Result<Option<ModelManifest>> {
        match self.model_by_name(name_or_digest).await? {
            Some(manifest) => Ok(Some(manifest)),
            None => match name_or_digest.parse() {
                Ok(digest) => self.model_by_digest(&digest).await,
                Err(_) => Ok(None),
            },
        }
    }

    async fn model_by_name(&self, name: &str) -> Result<Option<ModelManifest>> {
        let manifest = sqlx::query_scalar!(
            r#"-- model_by_name
            SELECT manifest AS "manifest: Json<ModelManifest>" FROM models
            WHERE name = $1 ORDER BY created_at DESC, digest LIMIT 1"#,
            name
        );
        Ok(manifest.fetch_optional(&self.pool).await?.map(|Json(manifest)| manifest))
    }

    async fn model_by_digest(&self, digest: &ModelDigest) -> Result<Option<ModelManifest>> {
        let manifest = sqlx::query_scalar!(
            r#"-- model_by_digest
            SELECT manifest AS "manifest: Json<ModelManifest>" FROM models
            WHERE digest = $1 ORDER BY created_at DESC, name LIMIT 1"#,
            digest.as_bytes()
        );
        Ok(manifest.fetch_optional(&self.pool).await?.map(|Json(manifest)| manifest))
    }

    /// Every model, by name, newest first.
    pub async fn models(&self) -> Result<Vec<ModelManifest>> {
        let manifests = sqlx::query_scalar!(
            r#"-- models
            SELECT manifest AS "manifest: Json<ModelManifest>" FROM models
            ORDER BY name, created_at DESC, digest"#
        );
        Ok(manifests.fetch_all(&self.pool).await?.into_iter().map(|Json(manifest)| manifest).collect())
    }
}

pub(crate) async fn put_model(connection: &mut PgConnection, manifest: &ModelManifest) -> Result<()> {
    let digest = manifest.digest();
    let put = sqlx::query!(
        "-- put_model
        INSERT INTO models (name, digest, manifest) VALUES ($1, $2, $3)
        ON CONFLICT (name, digest) DO UPDATE SET manifest = excluded.manifest
        WHERE models.manifest <> excluded.manifest",
        manifest.name,
        digest.as_bytes(),
        Json(manifest) as _
    );
    put.execute(connection).await?;
    Ok(())
}
