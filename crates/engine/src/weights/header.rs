//! The header of a safetensors file, validated before anything is allocated from it.
//!
//! Format: eight bytes of little-endian header length, that many bytes of JSON, then the tensors'
//! bytes. The tensors must tile the rest of the file without a gap or an overlap.
//! Source: the format section of the safetensors README.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// Longest header that is read, in bytes. The largest known checkpoints stay under one tenth of it.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// One tensor's place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The stored type's name, such as `F16`.
    pub dtype: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the end of the header.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// What is wrong with a header, and at which key where it is one tensor's fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// The file as a whole.
    File(String),
    /// One tensor.
    Tensor(String, String),
}

/// Bytes of one element, for the types that weights are read from.
fn element_bytes(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "F32" | "I32" | "U32" => Some(4),
        "F64" | "I64" | "U64" => Some(8),
        _ => None,
    }
}

/// Checks the header's length, which is the first eight bytes of the file, against the file's size.
pub(super) fn check_length(header_bytes: u64, file_bytes: u64) -> Result<(), HeaderFault> {
    if header_bytes > MAX_HEADER_BYTES {
        return Err(HeaderFault::File(format!(
            "the header claims {header_bytes} bytes, more than the limit of {MAX_HEADER_BYTES}"
        )));
    }
    let available = file_bytes.saturating_sub(8);
    if header_bytes > available {
        return Err(HeaderFault::File(format!(
            "the header claims {header_bytes} bytes, but only {available} follow: the file is truncated or not safetensors"
        )));
    }
    Ok(())
}

/// Reads the header's JSON. `data_bytes` is what the file holds after the header.
pub(super) fn parse(json: &[u8], data_bytes: u64) -> Result<BTreeMap<String, Entry>, HeaderFault> {
    let raw: RawHeader = serde_json::from_slice(json)
        .map_err(|error| HeaderFault::File(format!("the header is not valid: {error}")))?;
    for (key, entry) in &raw.tensors {
        check_entry(entry, data_bytes).map_err(|reason| HeaderFault::Tensor(key.clone(), reason))?;
    }
    check_tiling(&raw.tensors, data_bytes)?;
    Ok(raw.tensors)
}

fn check_entry(entry: &Entry, data_bytes: u64) -> Result<(), String> {
    let Entry { dtype, shape, start, end } = entry;
    if start > end || *end > data_bytes {
        return Err(format!("lies at bytes {start}..{end}, outside the {data_bytes} bytes of data"));
    }
    if shape.len() > MAX_RANK {
        return Err(format!("has {} dimensions, more than the limit of {MAX_RANK}", shape.len()));
    }
    let width = element_bytes(dtype).ok_or_else(|| format!("has the unknown type '{dtype}'"))?;
    let needed = shape.iter().try_fold(width, |bytes, dim| bytes.checked_mul(*dim as u64));
    match needed {
        Some(needed) if needed == end - start => Ok(()),
        _ => Err(format!("has shape {shape:?} of {dtype}, which does not fill its {} bytes", end - start)),
    }
}

fn check_tiling(tensors: &BTreeMap<String, Entry>, data_bytes: u64) -> Result<(), HeaderFault> {
    let mut order: Vec<(&String, &Entry)> = tensors.iter().collect();
    order.sort_by_key(|(_, entry)| (entry.start, entry.end));
    let mut cursor = 0;
    for (key, entry) in order {
        if entry.start < cursor {
            let reason = format!(
                "starts at byte {}, inside the tensor before it, which ends at {cursor}",
                entry.start
            );
            return Err(HeaderFault::Tensor(key.clone(), reason));
        }
        if entry.start > cursor {
            let reason = format!("starts at byte {}, leaving a gap after byte {cursor}", entry.start);
            return Err(HeaderFault::Tensor(key.clone(), reason));
        }
        cursor = entry.end;
    }
    if cursor != data_bytes {
        let reason =
            format!("the tensors end at byte {cursor}, but the file holds {data_bytes} bytes of data");
        return Err(HeaderFault::File(reason));
    }
    Ok(())
}

/// The JSON object, with repeated keys refused: which of two would win is a matter of the reader.
struct RawHeader {
    tensors: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from tensor names to their type, shape and offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "__metadata__" {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            let RawEntry { dtype, shape, data_offsets: (start, end) } = map.next_value()?;
            let entry = Entry { dtype, shape, start, end };
            if tensors.insert(key.clone(), entry).is_some() {
                return Err(serde::de::Error::custom(format!("tensor '{key}' appears twice")));
            }
        }
        Ok(RawHeader { tensors })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}"#;

    fn fault(json: &str, data_bytes: u64) -> String {
        match parse(json.as_bytes(), data_bytes).unwrap_err() {
            HeaderFault::File(reason) => reason,
            HeaderFault::Tensor(key, reason) => format!("{key}: {reason}"),
        }
    }

    #[test]
    fn a_good_header_gives_each_tensor_its_place() {
        let tensors = parse(GOOD.as_bytes(), 16).unwrap();
        assert_eq!(tensors.len(), 2);
        let b = Entry { dtype: "F32".to_owned(), shape: vec![], start: 12, end: 16 };
        assert_eq!(tensors["b"], b);
    }

    #[test]
    fn a_length_beyond_the_file_or_the_limit_is_refused_before_it_is_allocated() {
        assert!(check_length(92, 100).is_ok());
        assert!(check_length(93, 100).is_err());
        assert!(check_length(u64::MAX, u64::MAX).is_err());
        assert!(check_length(MAX_HEADER_BYTES + 1, u64::MAX).is_err());
    }

    #[test]
    fn tensors_must_tile_the_data() {
        assert!(fault(GOOD, 15).contains("b: lies at bytes 12..16, outside the 15"));
        assert!(fault(GOOD, 17).contains("the tensors end at byte 16"));
        assert!(fault(&GOOD.replace("[12,16]", "[8,12]"), 12).contains("b: starts at byte 8, inside"));
        assert!(
            fault(&GOOD.replace("[12,16]", "[13,17]"), 17).contains("b: starts at byte 13, leaving a gap")
        );
        assert!(fault(&GOOD.replace("[12,16]", "[16,12]"), 16).contains("b: lies at bytes 16..12"));
    }

    #[test]
    fn a_shape_must_fill_its_bytes_and_not_overflow() {
        assert!(fault(&GOOD.replace("[2,3]", "[2,4]"), 16).contains("a: has shape [2, 4] of F16"));
        let huge = GOOD.replace("[2,3]", "[4294967296,4294967296,4294967296]");
        assert!(fault(&huge, 16).contains("does not fill its 12 bytes"));
        assert!(fault(&GOOD.replace("[2,3]", "[1,1,1,1,1,1,1,2,3]"), 16).contains("9 dimensions"));
        assert!(fault(&GOOD.replace("F16", "Q4"), 16).contains("unknown type 'Q4'"));
        assert!(fault(&GOOD.replace("[2,3]", "[-2,-3]"), 16).contains("not valid"));
    }

    #[test]
    fn a_tensor_named_twice_is_refused() {
        assert!(fault(&GOOD.replace("\"b\"", "\"a\""), 16).contains("'a' appears twice"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), data in any::<u64>()) {
            let _ = parse(&bytes, data);
        }

        #[test]
        fn no_change_of_a_good_header_makes_a_tensor_leave_the_data(
            at in 0..GOOD.len(),
            byte in prop::char::range(' ', '~'),
            data in 0u64..40,
        ) {
            let mut json = GOOD.as_bytes().to_vec();
            json[at] = byte as u8;
            if let Ok(tensors) = parse(&json, data) {
                prop_assert_eq!(tensors.values().map(|entry| entry.end - entry.start).sum::<u64>(), data);
                prop_assert!(tensors.values().all(|entry| entry.end <= data));
            }
        }
    }
}
