//! Copies of completions, in memory and on disk, so that also a worker that was killed can send again what it
//! had sent before.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use prost::Message;
use seedfarm_proto::v1;

use crate::Random;

/// Most copies in memory.
const MOST: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Copies {
    file: File,
    latest: VecDeque<v1::Complete>,
}

impl Copies {
    /// Reads what an earlier process left; a copy that was cut off ends it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let bytes = std::fs::read(path)?;
        let mut rest = bytes.as_slice();
        let mut latest = VecDeque::new();
        while let Ok(complete) = v1::Complete::decode_length_delimited(&mut rest) {
            push(&mut latest, complete);
        }
        Ok(Self { file, latest })
    }

    pub(super) fn keep(&mut self, complete: &v1::Complete) -> Result<()> {
        self.file.write_all(&complete.encode_length_delimited_to_vec())?;
        push(&mut self.latest, complete.clone());
        Ok(())
    }

    pub(super) fn get(&self, lease: i64) -> Option<&v1::Complete> {
        self.latest.iter().find(|complete| lease_of(complete) == lease)
    }

    pub(super) fn any(&self, random: &mut Random) -> Option<&v1::Complete> {
        let at = random.below(self.latest.len().max(1) as u64) as usize;
        self.latest.get(at)
    }
}

pub(super) fn lease_of(complete: &v1::Complete) -> i64 {
    complete.fence.unwrap_or_default().lease_id
}

fn push(latest: &mut VecDeque<v1::Complete>, complete: v1::Complete) {
    if latest.len() == MOST {
        latest.pop_front();
    }
    latest.push_back(complete);
}
