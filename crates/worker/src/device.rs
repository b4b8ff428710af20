//! A device's render thread: takes leases from its queue, renders them batch by batch, and passes the
//! pictures on to the store thread.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use seedfarm_core::completion::FailureClass;
use seedfarm_core::{Numerics, Recipe};
use seedfarm_engine::group;
use seedfarm_picture::encode_plain;
use seedfarm_proto::v1;
use tokio::sync::mpsc;

use crate::event::Event;
use crate::lease::{Lease, LeasedImage, Stop};
use crate::pictures::PictureStore;
use crate::renderer::{Drawn, Fault, Pictures, RenderFault, Renderer, Step};

/// What a device is to do.
pub(crate) enum Order {
    /// Render a lease.
    Render(Arc<Lease>),
    /// Drop what is loaded, where the device still rests.
    Free,
}

/// What a device made, on its way to the store thread.
pub(crate) enum Made {
    /// Pictures of a lease.
    Pictures {
        lease: Arc<Lease>,
        /// Position in the lease's images, and the picture.
        pictures: Vec<(usize, Drawn)>,
        /// Time on the device for each.
        each: Duration,
    },
    /// Rendering of a lease is over.
    Ended { lease: Arc<Lease>, fault: Option<Fault>, busy: Duration },
}

/// A device's thread.
pub(crate) struct RenderThread {
    pub renderer: Box<dyn Renderer>,
    /// Classes of arithmetic that the device offers.
    pub numerics: Vec<Numerics>,
    /// Most images rendered together.
    pub batch: usize,
    /// Whether progress carries previews.
    pub previews: bool,
    /// Where pictures come from that recipes name.
    pub pictures: Arc<PictureStore>,
    pub made: SyncSender<Made>,
    pub events: mpsc::Sender<Event>,
    /// Whether the device rests: then nothing stays loaded.
    pub resting: Arc<AtomicBool>,
    /// Gives memory that was freed back to the system.
    pub give_back_memory: fn(),
}

/// Why no more images of a lease are rendered.
enum Halt {
    /// It was asked for.
    Asked,
    /// The device cannot go on with this lease.
    Fault(Fault),
}

impl RenderThread {
    /// Renders until the queue's other end or the store thread is gone.
    pub(crate) fn run(mut self, queue: &Receiver<Order>) {
        while let Ok(order) = queue.recv() {
            if let Order::Render(lease) = order {
                let begun = Instant::now();
                let fault = self.render_lease(&lease);
                if self.made.send(Made::Ended { lease, fault, busy: begun.elapsed() }).is_err() {
                    return;
                }
            }
            if self.resting.load(Ordering::Relaxed) {
                self.renderer.forget();
                (self.give_back_memory)();
            }
        }
    }

    /// Renders what can be rendered. An image that fails by its own fault does not keep the others from
    /// being rendered; any other fault ends the lease.
    fn render_lease(&mut self, lease: &Arc<Lease>) -> Option<Fault> {
        let recipes: Vec<Recipe> = lease.images.iter().map(|image| image.recipe.clone()).collect();
        if let Some(numerics) = self.missing_numerics(&recipes) {
            let error = format!("this device does not render in {} numerics", numerics.as_str());
            return Some(Fault::new(FailureClass::Worker, error));
        }
        let mut own_fault = None;
        let mut done = 0;
        for batch in group(&recipes, self.batch) {
            match self.render_batch(lease, &batch, &mut done) {
                Ok(None) => {}
                Ok(Some(fault)) => own_fault = own_fault.or(Some(fault)),
                Err(Halt::Fault(fault)) => return Some(fault),
                Err(Halt::Asked) => return own_fault.or_else(|| Some(handed_back(lease))),
            }
        }
        own_fault
    }

    fn missing_numerics(&self, recipes: &[Recipe]) -> Option<Numerics> {
        recipes.iter().map(|recipe| recipe.template.numerics).find(|class| !self.numerics.contains(class))
    }

    /// Renders a batch; where it fails for any reason but an order to stop, its images one by one.
    fn render_batch(
        &mut self,
        lease: &Arc<Lease>,
        batch: &[usize],
        done: &mut u64,
    ) -> Result<Option<Fault>, Halt> {
        if lease.stop() != Stop::WhenDone {
            return Err(Halt::Asked);
        }
        match self.render_together(lease, batch, *done) {
            Ok(()) => {
                *done += batch.len() as u64;
                Ok(None)
            }
            Err(RenderFault::Stopped) => Err(Halt::Asked),
            Err(RenderFault::Failed(_)) if batch.len() > 1 => self.render_alone(lease, batch, done),
            Err(RenderFault::Failed(fault)) if fault.class == FailureClass::Task => Ok(Some(fault)),
            Err(RenderFault::Failed(fault)) => Err(Halt::Fault(fault)),
        }
    }

    fn render_alone(
        &mut self,
        lease: &Arc<Lease>,
        batch: &[usize],
        done: &mut u64,
    ) -> Result<Option<Fault>, Halt> {
        let mut first_fault = None;
        for &position in batch {
            let fault = self.render_batch(lease, &[position], done)?;
            first_fault = first_fault.or(fault);
        }
        Ok(first_fault)
    }

    fn render_together(&mut self, lease: &Arc<Lease>, batch: &[usize], done: u64) -> Result<(), RenderFault> {
        let images: Vec<&LeasedImage> = batch.iter().map(|&position| &lease.images[position]).collect();
        let recipes: Vec<Recipe> = images.iter().map(|image| image.recipe.clone()).collect();
        let fetching = Instant::now();
        let named = self.pictures.of(&recipes, lease)?;
        if !named.is_empty() {
            let seconds = fetching.elapsed().as_secs_f64();
            lease.diary.note(format_args!("{} pictures fetched in {seconds:.3} s", named.len()));
        }
        let begun = Instant::now();
        let pictures = self.render_caught(lease, &recipes, &named, (images[0].index, done));
        if let Some(loading) = self.renderer.loading_time() {
            lease.diary.note(format_args!("model loaded in {:.3} s", loading.as_secs_f64()));
        }
        let pictures =
            pictures.inspect_err(|fault| note_fault(lease, images[0].index, batch.len(), fault))?;
        let each = begun.elapsed() / u32::try_from(batch.len()).unwrap_or(u32::MAX);
        if pictures.len() != batch.len() {
            let error = format!("{} pictures were made of {} recipes", pictures.len(), batch.len());
            return Err(RenderFault::Failed(Fault::new(FailureClass::Worker, error)));
        }
        let pictures = batch.iter().copied().zip(pictures).collect();
        let made = Made::Pictures { lease: Arc::clone(lease), pictures, each };
        self.made.send(made).map_err(|_| RenderFault::Stopped)
    }

    /// Renders; `index` is the first image's, `done` how many of the lease are rendered.
    fn render_caught(
        &mut self,
        lease: &Lease,
        recipes: &[Recipe],
        pictures: &Pictures,
        (index, done): (u64, u64),
    ) -> Result<Vec<Drawn>, RenderFault> {
        let (events, previews) = (&self.events, self.previews);
        let mut watcher = |step: &Step<'_>| {
            if is_told(step) {
                // Progress may be lost: a full queue has better things to carry.
                let _ = events.try_send(Event::Progress(progress(lease, index, done, step, previews)));
            }
            match lease.stop() {
                Stop::AtNextStep => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        let renderer = &mut self.renderer;
        let run = AssertUnwindSafe(|| renderer.render(&lease.model, recipes, pictures, &mut watcher));
        catch_unwind(run).unwrap_or_else(|panic| {
            self.renderer.forget();
            let error = format!("the engine panicked: {}", words_of(panic.as_ref()));
            Err(RenderFault::Failed(Fault::new(FailureClass::Task, error)))
        })
    }
}

fn note_fault(lease: &Lease, index: u64, images: usize, fault: &RenderFault) {
    match fault {
        RenderFault::Stopped => lease.diary.note(format_args!("image {index} stopped in the making")),
        RenderFault::Failed(fault) => lease.diary.note(format_args!(
            "a batch of {images} images from {index} failed, {}: {}",
            fault.class.as_str(),
            fault.error
        )),
    }
}

fn handed_back(lease: &Lease) -> Fault {
    Fault::new(FailureClass::HandedBack, lease.stop_reason().unwrap_or("the worker was told to stop"))
}

/// About eight times an image, and at its last step.
fn is_told(step: &Step<'_>) -> bool {
    step.step == step.steps || step.step.is_multiple_of(step.steps.div_ceil(8).max(1))
}

fn progress(lease: &Lease, index: u64, done: u64, step: &Step<'_>, previews: bool) -> v1::Progress {
    let preview = if previews { (step.preview)() } else { None };
    v1::Progress {
        fence: Some(lease.fence.into()),
        images_done: done,
        index,
        step: step.step,
        steps: step.steps,
        preview_png: preview.and_then(|picture| encode_plain(&picture).ok()),
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let words = panic.downcast_ref::<&str>().copied();
    words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
