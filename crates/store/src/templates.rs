//! Recipes without their seeds, each stored once under its digest.

use std::collections::BTreeMap;

use seedfarm_core::{RecipeTemplate, TemplateDigest, canonical};
use sqlx::PgConnection;

use crate::database::Store;
use crate::error::Result;

impl Store {
    /// The canonical JSON of those of `digests` that are known, in no certain order.
    pub async fn templates(&self, digests: &[TemplateDigest]) -> Result<Vec<(TemplateDigest, String)>> {
        let keys: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        let rows = sqlx::query!(
            r#"-- templates
            SELECT digest AS "digest: [u8; 32]", body FROM templates WHERE digest = ANY($1)"#,
            keys.as_slice() as _
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (TemplateDigest::from_bytes(row.digest), row.body)).collect())
    }
}

/// Stores templates and returns their digests, in the same order.
pub(crate) async fn insert_templates<'a>(
    connection: &mut PgConnection,
    templates: impl Iterator<Item = &'a RecipeTemplate>,
) -> Result<Vec<TemplateDigest>> {
    let mut distinct = BTreeMap::new();
    let digests = templates
        .map(|template| {
            let body = canonical::to_string(template);
            let digest = TemplateDigest::of_bytes(body.as_bytes());
            distinct.insert(digest, body);
            digest
        })
        .collect();
    let (keys, bodies): (Vec<&[u8]>, Vec<&str>) =
        distinct.iter().map(|(digest, body)| (digest.as_bytes().as_slice(), body.as_str())).unzip();
    let insert = sqlx::query!(
        "-- insert_templates
        INSERT INTO templates (digest, body) SELECT * FROM unnest($1::bytea[], $2::text[])
        ON CONFLICT (digest) DO NOTHING",
        keys.as_slice() as _,
        bodies.as_slice() as _
    );
    insert.execute(connection).await?;
    Ok(digests)
}
