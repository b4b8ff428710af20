//! What the board knows of why a job waits or a worker idles.

use seedfarm_core::placement::{DeviceId, DeviceOutlook, JobOutlook, Lack};
use seedfarm_core::{JobId, WorkerId};

use super::{Board, JobCard, rebuild};

/// One device of a connected worker, and why it does what it does.
#[derive(Debug)]
pub(crate) struct DeviceView {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) leases: usize,
    /// Leases that it asks for.
    pub(crate) credit: u32,
    pub(crate) outlook: DeviceOutlook,
}

impl Board {
    /// Why an unfinished job waits.
    pub(crate) fn why_job(&mut self, job: JobId, now_ms: i64) -> Option<(&JobCard, JobOutlook)> {
        let outlook = self.queue.why_job(job, now_ms)?;
        Some((self.jobs.get(&job)?, outlook))
    }

    /// Why the devices of a worker do what they do; `None` for one that is not connected.
    pub(crate) fn why_worker(&mut self, worker: WorkerId, now_ms: i64) -> Option<Vec<DeviceView>> {
        let session = self.sessions.get(&worker)?;
        let mut views = Vec::new();
        for (index, name, credit) in session.devices() {
            let device = DeviceId { worker, device: index };
            let leases = self.load.get(&device).copied().unwrap_or(0);
            let outlook = self.queue.why_device(device, now_ms)?;
            views.push(DeviceView { index, name: name.to_owned(), leases, credit, outlook });
        }
        Some(views)
    }

    /// What keeps every connected worker from rendering a job, if anything does.
    pub(crate) fn wants(&self, job: JobId) -> Option<String> {
        let row = &self.jobs.get(&job)?.row;
        let class = rebuild::class(row, None);
        if self.queue.fleet().workers_for(&class) > 0 {
            return None;
        }
        let (model, numerics) = (&row.model_name, row.numerics.as_str());
        let unable = self.queue.why_nobody(&class);
        let unable = unable.iter().filter(|(lack, _)| !matches!(lack, Some(Lack::Model | Lack::Numerics)));
        let counted = |of: fn(&Option<Lack>) -> bool| -> usize {
            unable.clone().filter(|(lack, _)| of(lack)).map(|(_, devices)| devices).sum()
        };
        let (devices, lacking) = (counted(|_| true), counted(|lack| matches!(lack, Some(Lack::Adapters(_)))));
        let what = match (devices, lacking) {
            (0, _) => {
                return Some(format!(
                    "no connected worker has the model '{model}' in {numerics} numerics: the job waits until one \
                     connects"
                ));
            }
            (devices, lacking) if devices == lacking => {
                format!("has all {} adapters that it needs", row.needs.len())
            }
            _ => "may render it".to_owned(),
        };
        Some(format!(
            "of {devices} connected devices with the model '{model}' in {numerics} numerics, none {what}: the job \
             waits until one does; `seedfarm why {job}` says what each lacks"
        ))
    }
}
