//! A renderer that paints what a recipe's digest says, and fails where its prompt says so.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex};

use seedfarm_core::completion::FailureClass;
use seedfarm_core::{ModelDigest, Recipe};
use seedfarm_picture::Picture;
use seedfarm_worker::{Drawn, Fault, Pictures, RenderFault, Renderer, Step, Watcher};
use tokio::sync::watch;

use crate::coordinator::soon;

/// Holds a painter up before each step until it is let on.
#[derive(Default)]
pub struct Gate {
    steps: Mutex<u64>,
    changed: Condvar,
    /// How often the painter dropped what it had loaded.
    forgets: watch::Sender<u64>,
}

impl Gate {
    pub fn shut() -> Arc<Self> {
        Arc::default()
    }

    pub fn wide_open() -> Arc<Self> {
        let gate = Self::shut();
        gate.open();
        gate
    }

    /// Lets on for so many more steps.
    pub fn allow(&self, steps: u64) {
        *self.steps.lock().unwrap() += steps;
        self.changed.notify_all();
    }

    pub fn open(&self) {
        self.allow(1 << 40);
    }

    /// Waits until the painter has dropped what it had loaded.
    pub async fn forgotten(&self) {
        let mut forgets = self.forgets.subscribe();
        soon("forgetting", forgets.wait_for(|count| *count > 0)).await.unwrap();
    }

    fn pass(&self) {
        let mut steps = self.steps.lock().unwrap();
        while *steps == 0 {
            steps = self.changed.wait(steps).unwrap();
        }
        *steps -= 1;
    }
}

pub struct Painter {
    pub gate: Arc<Gate>,
}

impl Renderer for Painter {
    fn render(
        &mut self,
        model: &ModelDigest,
        recipes: &[Recipe],
        pictures: &Pictures,
        watcher: &mut Watcher<'_>,
    ) -> Result<Vec<Drawn>, RenderFault> {
        assert_eq!(*model, recipes[0].template.model_digest());
        for step in 1..=recipes[0].template.steps() {
            self.gate.pass();
            let preview = || Some(paint(&recipes[0]));
            let step = Step { step, steps: recipes[0].template.steps(), preview: &preview };
            if watcher(&step) == ControlFlow::Break(()) {
                return Err(RenderFault::Stopped);
            }
        }
        recipes
            .iter()
            .map(|recipe| Ok(Drawn { picture: attempt(recipe)?, warnings: told(recipe, pictures) }))
            .collect()
    }

    fn forget(&mut self) {
        self.gate.forgets.send_modify(|count| *count += 1);
    }
}

/// What the painter says of a recipe with pictures: how large each is.
fn told(recipe: &Recipe, pictures: &Pictures) -> Vec<String> {
    let named = recipe.template.pictures();
    let size = |digest| pictures.get(digest).map(|picture| (picture.width(), picture.height()));
    named.iter().map(|digest| format!("{:?}", size(digest).expect("it was fetched"))).collect()
}

fn attempt(recipe: &Recipe) -> Result<Picture, RenderFault> {
    let failed = |class| Err(RenderFault::Failed(Fault::new(class, recipe.template.prompt.clone())));
    match recipe.template.prompt.as_str() {
        "poison" => failed(FailureClass::Task),
        "out of memory" => failed(FailureClass::Worker),
        "no such weights" => failed(FailureClass::Environment),
        "panic" => panic!("index out of bounds"),
        _ => Ok(paint(recipe)),
    }
}

/// The picture that a recipe gives: its digest, six times over.
pub fn paint(recipe: &Recipe) -> Picture {
    let (width, height) = (recipe.template.width, recipe.template.height);
    let digest = *recipe.digest().as_bytes();
    let rgb = digest.into_iter().cycle().take((width * height * 3) as usize).collect();
    Picture::new(width, height, rgb).unwrap()
}
