//! What a request may name: adapters by name or digest, pictures by digest.

use std::collections::BTreeMap;

use crate::adapter::{AdapterKind, AdapterManifest};
use crate::digest::{AdapterDigest, ArtifactDigest};
use crate::invalid::Invalid;
use crate::settings::PictureRef;

/// Most names that a refusal lists.
const LISTED: usize = 20;

/// The adapters and pictures that are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    /// Adapters, in any order.
    pub adapters: Vec<AdapterManifest>,
    /// Uploaded pictures that the request names.
    pub pictures: BTreeMap<ArtifactDigest, PictureSize>,
}

/// The size of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl std::fmt::Display for PictureSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl Catalogue {
    /// The adapter of `kind` that a request for a model of `family` calls `given`.
    pub(super) fn adapter(
        &self,
        kind: AdapterKind,
        given: &str,
        family: &str,
    ) -> Result<&AdapterManifest, Invalid> {
        let digest = given.parse::<AdapterDigest>().ok();
        let means = |adapter: &&AdapterManifest| {
            adapter.kind == kind && digest.map_or(adapter.name == given, |digest| adapter.digest == digest)
        };
        let mut found: Vec<&AdapterManifest> = self.adapters.iter().filter(means).collect();
        found.sort_by_key(|adapter| adapter.digest);
        found.dedup_by_key(|adapter| adapter.digest);
        match found.as_slice() {
            [] => Err(self.unknown(kind, given)),
            [adapter] => check_family(adapter, given, family),
            several => {
                let digests = several.iter().take(LISTED).map(|adapter| adapter.digest.to_string());
                let digests = digests.collect::<Vec<_>>().join(", ");
                let (kind, count) = (kind.as_str(), several.len());
                Err(Invalid::AmbiguousAdapter { kind, given: given.to_owned(), count, digests })
            }
        }
    }

    fn unknown(&self, kind: AdapterKind, given: &str) -> Invalid {
        let of_kind = self.adapters.iter().filter(|adapter| adapter.kind == kind);
        let mut names: Vec<&str> = of_kind.map(|adapter| adapter.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let listed = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
        let known = match names.len() {
            0 => format!("no {} is known: put its file into a worker's model folder", kind.as_str()),
            all if all <= LISTED => format!("known are {listed}"),
            all => format!("{all} are known, such as {listed}"),
        };
        Invalid::UnknownAdapter { kind: kind.as_str(), given: given.to_owned(), known }
    }

    /// The digest of a picture that is there and has the size of the image.
    pub(super) fn picture(
        &self,
        field: &'static str,
        picture: &PictureRef,
        wanted: PictureSize,
    ) -> Result<ArtifactDigest, Invalid> {
        let unknown = || Invalid::UnknownPicture { given: picture.to_string() };
        let PictureRef::Digest(digest) = picture else { return Err(unknown()) };
        let given = *self.pictures.get(digest).ok_or_else(unknown)?;
        if given != wanted {
            let (given, wanted) = (given.to_string(), wanted.to_string());
            return Err(Invalid::PictureSize { field, given, wanted });
        }
        Ok(*digest)
    }
}

fn check_family<'a>(
    adapter: &'a AdapterManifest,
    given: &str,
    family: &str,
) -> Result<&'a AdapterManifest, Invalid> {
    match &adapter.family {
        Some(made_for) if made_for != family => Err(Invalid::OtherFamily {
            kind: adapter.kind.as_str(),
            given: given.to_owned(),
            made_for: made_for.clone(),
            model: family.to_owned(),
        }),
        _ => Ok(adapter),
    }
}
