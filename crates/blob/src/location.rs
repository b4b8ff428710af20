//! Where bytes are stored.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::BlobError;

/// A place for bytes: a folder of this machine, or a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobLocation {
    /// A folder; made when it is not there.
    Folder(PathBuf),
    /// A bucket of an S3-compatible service. Endpoint, region and credentials come from the usual
    /// `AWS_*` variables.
    S3 {
        /// The bucket, which must exist.
        bucket: String,
        /// What all names in it start with; may be empty.
        prefix: String,
    },
}

impl fmt::Display for BlobLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl FromStr for BlobLocation {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        let unknown = || BlobError::UnknownLocation { given: text.to_owned() };
        match text.split_once("://") {
            None if text.is_empty() => Err(unknown()),
            None => Ok(Self::Folder(text.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Folder(path.into())),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(unknown());
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
            }
            Some(_) => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets_are_told_apart_and_print_as_they_were_given() {
        let parse = |text: &str| text.parse::<BlobLocation>().unwrap();
        assert_eq!(parse("data/blobs"), BlobLocation::Folder("data/blobs".into()));
        assert_eq!(parse("file:///var/blobs"), BlobLocation::Folder("/var/blobs".into()));
        for url in ["s3://pictures", "s3://pictures/farm/one"] {
            assert_eq!(parse(url).to_string(), url);
        }
        assert_eq!(parse("s3://pictures/farm/").to_string(), "s3://pictures/farm");
    }

    #[test]
    fn a_place_of_an_unknown_kind_is_refused_by_name() {
        for text in ["", "s3://", "s3:///prefix", "ftp://host/folder"] {
            let error = text.parse::<BlobLocation>().unwrap_err();
            assert!(error.to_string().contains(&format!("'{text}'")), "{error}");
        }
    }
}
