//! Models and adapters that the farm hands out, with their files. The bytes lie in the blob store.

use std::collections::BTreeMap;

use seedfarm_core::{FileDigest, Package, PackageDigest, PackageFile, PackageManifest, PackagePath};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::adapters::put_adapter;
use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::models::put_model;
use crate::value::{natural, saturate};

/// A package without its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRow {
    /// The digest of the model or of the adapter.
    pub digest: PackageDigest,
    /// `model`, `lora`, `embedding` or `control`.
    pub kind: String,
    /// The name under which people ask for it.
    pub name: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
}

impl Store {
    /// Stores a package whole, and its manifest among those that may be asked for. The same digest again
    /// replaces what was there.
    pub async fn put_package(&self, package: &Package) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let digest = package.digest();
        delete_package(&mut transaction, &digest).await?;
        let put = sqlx::query!(
            "-- put_package
            INSERT INTO packages (digest, kind, name, manifest, entry, bytes) VALUES ($1, $2, $3, $4, $5, $6)",
            digest.as_bytes(),
            package.manifest.kind(),
            package.manifest.name(),
            Json(&package.manifest) as _,
            package.entry.as_ref().map(PackagePath::as_str),
            saturate(package.bytes())
        );
        put.execute(&mut *transaction).await?;
        put_files(&mut transaction, &digest, &package.files).await?;
        match &package.manifest {
            PackageManifest::Model(manifest) => put_model(&mut transaction, manifest).await?,
            PackageManifest::Adapter(manifest) => put_adapter(&mut transaction, manifest).await?,
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Every package, by kind and name, newest first.
    pub async fn packages(&self) -> Result<Vec<PackageRow>> {
        let rows = sqlx::query!(
            r#"-- packages
            SELECT digest AS "digest: [u8; 32]", kind, name, bytes,
                (SELECT count(*) FROM model_files WHERE package = packages.digest) AS "files!"
            FROM packages ORDER BY kind = 'model' DESC, kind, name, created_at DESC, digest"#
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(PackageRow {
                digest: PackageDigest::from_bytes(row.digest),
                kind: row.kind,
                name: row.name,
                bytes: natural(row.bytes)?,
                files: natural(row.files)?,
            })
        });
        rows.collect()
    }

    /// A package with its files, in order of their paths.
    pub async fn package(&self, digest: &PackageDigest) -> Result<Option<Package>> {
        let row = sqlx::query!(
            r#"-- package
            SELECT manifest AS "manifest: Json<PackageManifest>", entry FROM packages WHERE digest = $1"#,
            digest.as_bytes()
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        let entry = row.entry.as_deref().map(path).transpose()?;
        Ok(Some(Package { manifest: row.manifest.0, entry, files: self.package_files(digest).await? }))
    }

    async fn package_files(&self, digest: &PackageDigest) -> Result<Vec<PackageFile>> {
        let rows = sqlx::query!(
            r#"-- package_files
            SELECT path, sha256 AS "sha256: [u8; 32]", bytes FROM model_files WHERE package = $1 ORDER BY path"#,
            digest.as_bytes()
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            let sha256 = FileDigest::from_bytes(row.sha256);
            Ok(PackageFile { path: path(&row.path)?, sha256, bytes: natural(row.bytes)? })
        });
        rows.collect()
    }

    /// The size of each package.
    pub async fn package_sizes(&self) -> Result<BTreeMap<PackageDigest, u64>> {
        let rows = sqlx::query!(
            r#"-- package_sizes
            SELECT digest AS "digest: [u8; 32]", bytes FROM packages"#
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| Ok((PackageDigest::from_bytes(row.digest), natural(row.bytes)?))).collect()
    }

    /// The size of a file, where a package has it.
    pub async fn model_file_bytes(&self, sha256: &FileDigest) -> Result<Option<u64>> {
        let bytes = sqlx::query_scalar!(
            "-- model_file_bytes
            SELECT bytes FROM model_files WHERE sha256 = $1 LIMIT 1",
            sha256.as_bytes()
        );
        bytes.fetch_optional(&self.pool).await?.map(natural).transpose()
    }

    /// Removes a package. Answers the files that no package has any more, with their sizes.
    pub async fn remove_package(&self, digest: &PackageDigest) -> Result<BTreeMap<FileDigest, u64>> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query!(
            r#"-- remove_package
            SELECT DISTINCT sha256 AS "sha256: [u8; 32]", bytes FROM model_files AS own
            WHERE package = $1 AND NOT EXISTS (
                SELECT FROM model_files AS other WHERE other.sha256 = own.sha256 AND other.package <> $1
            )"#,
            digest.as_bytes()
        );
        let rows = rows.fetch_all(&mut *transaction).await?.into_iter();
        let orphans = rows.map(|row| Ok((FileDigest::from_bytes(row.sha256), natural(row.bytes)?)));
        let orphans = orphans.collect::<Result<_>>()?;
        delete_package(&mut transaction, digest).await?;
        transaction.commit().await?;
        Ok(orphans)
    }
}

/// Its files go with it.
async fn delete_package(connection: &mut PgConnection, digest: &PackageDigest) -> Result<()> {
    let delete = sqlx::query!(
        "-- delete_package
        DELETE FROM packages WHERE digest = $1",
        digest.as_bytes()
    );
    delete.execute(connection).await?;
    Ok(())
}

async fn put_files(
    connection: &mut PgConnection,
    package: &PackageDigest,
    files: &[PackageFile],
) -> Result<()> {
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let digests: Vec<&[u8]> = files.iter().map(|file| file.sha256.as_bytes().as_slice()).collect();
    let sizes: Vec<i64> = files.iter().map(|file| saturate(file.bytes)).collect();
    let put = sqlx::query!(
        "-- put_files
        INSERT INTO model_files (package, path, sha256, bytes)
        SELECT $1, * FROM unnest($2::text[], $3::bytea[], $4::bigint[])",
        package.as_bytes(),
        paths.as_slice() as _,
        digests.as_slice() as _,
        sizes.as_slice()
    );
    put.execute(connection).await?;
    Ok(())
}

fn path(text: &str) -> Result<PackagePath> {
    text.parse().map_err(|_| StoreError::unreadable("the path", text.to_owned()))
}
