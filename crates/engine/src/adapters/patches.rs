//! What LoRAs add to the weights of one network, asked for while its layers load.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::keys::{Network, Target};
use super::lora::LoraFile;
use super::old_names::{self, Blocks};
use crate::Result;

/// The changes to one network's layers, by the layer's name in diffusers with `_` for `.`.
#[derive(Default)]
pub(crate) struct Patches {
    changes: BTreeMap<String, Vec<Change>>,
    /// Layers whose changes were merged.
    merged: RefCell<BTreeSet<String>>,
}

/// One LoRA's change to one layer.
struct Change {
    lora: Rc<LoraFile>,
    target: Target,
    weight: f64,
}

impl Patches {
    /// Takes over every change that a LoRA makes to one network, times `weight`. A weight of 0 changes nothing.
    ///
    /// Errors: a layer with an old name that the network does not have; a layer that the file changes under
    /// two names.
    pub(super) fn push(
        &mut self,
        lora: &Rc<LoraFile>,
        network: Network,
        weight: f64,
        blocks: Blocks<'_>,
    ) -> Result<()> {
        let mut seen: BTreeMap<String, &Target> = BTreeMap::new();
        for target in lora.targets().filter(|target| target.network == network) {
            let layer = if network == Network::Unet && old_names::is_old(&target.layer) {
                old_names::translate(&target.layer, blocks).ok_or_else(|| unknown(lora, target))?
            } else {
                target.layer.clone()
            };
            if let Some(other) = seen.insert(layer.clone(), target) {
                let reason = format!("changes a layer that '{}' changes under another name", other.layer);
                return Err(lora.fault(target, reason));
            }
            if weight != 0.0 {
                let change = Change { lora: Rc::clone(lora), target: target.clone(), weight };
                self.changes.entry(layer).or_default().push(change);
            }
        }
        Ok(())
    }

    /// Adds to the values of a tensor, by its whole name in diffusers, what adapters add to it, in their order.
    pub fn apply(&self, name: &str, shape: &[usize], values: &mut [f32]) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let Some(layer) = name.strip_suffix(".weight") else { return Ok(()) };
        let layer = layer.strip_prefix("text_model.").unwrap_or(layer).replace('.', "_");
        let Some(changes) = self.changes.get(&layer) else { return Ok(()) };
        for change in changes {
            change.lora.add_to(&change.target, change.weight, shape, values)?;
        }
        self.merged.borrow_mut().insert(layer);
        Ok(())
    }

    /// Refuses changes to layers that did not load.
    pub fn expect_all_merged(&self) -> Result<()> {
        let merged = self.merged.borrow();
        let left = self.changes.iter().find(|(layer, _)| !merged.contains(*layer));
        left.and_then(|(_, changes)| changes.first())
            .map_or(Ok(()), |change| Err(unknown(&change.lora, &change.target)))
    }
}

fn unknown(lora: &LoraFile, target: &Target) -> crate::Error {
    let network = target.network.name();
    lora.fault(
        target,
        format!("changes '{}', a layer that the model's {network} does not have", target.layer),
    )
}
