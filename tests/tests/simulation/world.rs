//! Virtual time, the network, and everything that goes wrong in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};

use seedfarm_tests::Random;

use super::coordinator::{Coordinator, Sent};
use super::message::{Answer, Asked, Request, Told};
use super::store::{Guards, Store};
use super::worker::Worker;

/// Coordinators: who reigns, and who waits for its turn.
const COORDINATORS: usize = 2;
const WORKERS: usize = 3;
/// Until then things go wrong, in milliseconds.
const TROUBLE_MS: u64 = 12_000;
/// Then everything must be finished by this time.
const END_MS: u64 = 200_000;
/// Between two looks of a process.
const TICK_MS: u64 = 200;
/// Lines of a history that are told.
const TOLD: usize = 60;

/// One end of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Coordinator(usize),
    Worker(usize),
    Store,
}

#[derive(Debug)]
enum Event {
    Tick(Place),
    Asked { from: usize, to: usize, asked: Asked },
    Told { from: usize, to: usize, told: Told },
    Request { from: (usize, u64), request: Request },
    Answer { to: (usize, u64), answer: Answer },
    Unlock(usize, u64),
    Trouble,
}

/// See the module's documentation.
pub struct World {
    random: Random,
    now_ms: u64,
    /// Time and number; numbers tell events of one moment apart.
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    number: u64,
    store: Store,
    coordinators: Vec<Coordinator>,
    /// How often each was started: what is meant for an earlier life does not arrive.
    lives: Vec<u64>,
    workers: Vec<Worker>,
    /// Processes that stand still, until when.
    still: BTreeMap<Place, u64>,
    /// Ways that are cut, from and to, until when.
    cut: BTreeMap<(Place, Place), u64>,
    history: DefaultHasher,
    trace: Option<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, guards: Guards, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let jobs: Vec<u64> = (0..random.between(1, 3)).map(|_| random.between(10, 50)).collect();
        let mut world = Self {
            random,
            now_ms: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            number: 0,
            store: Store::new(guards, &jobs),
            coordinators: (0..COORDINATORS).map(|_| Coordinator::new(guards)).collect(),
            lives: vec![0; COORDINATORS],
            workers: (0..WORKERS).map(|number| Worker::new(number, number % COORDINATORS)).collect(),
            still: BTreeMap::new(),
            cut: BTreeMap::new(),
            history: DefaultHasher::new(),
            trace: trace.then(Vec::new),
        };
        let places = (0..COORDINATORS).map(Place::Coordinator).chain((0..WORKERS).map(Place::Worker));
        places.for_each(|place| world.after(1, 300, Event::Tick(place)));
        world.after(200, 1500, Event::Trouble);
        world
    }

    /// Plays the history; gives what tells it from others, or what went wrong.
    pub fn play(&mut self) -> Result<u64, String> {
        while !self.store.is_finished() || self.now_ms < TROUBLE_MS {
            let Some(Reverse((at_ms, number))) = self.queue.pop() else {
                return Err("nothing happens any more".to_owned());
            };
            if at_ms > END_MS {
                return Err(format!("it does not end: {}", self.store.left()));
            }
            self.now_ms = at_ms;
            let event = self.events.remove(&number).expect("what is in the queue is there");
            self.happen(event)?;
        }
        self.store.check_end()?;
        Ok(self.history.finish())
    }

    /// Plays it and tells how it ends.
    pub fn told(mut self) -> String {
        // What goes wrong is known.
        let _ = self.play();
        let lines = self.trace.unwrap_or_default();
        lines[lines.len().saturating_sub(TOLD)..].join("\n")
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        if let Some(until_ms) = self.stands_still(&event) {
            self.at(until_ms + 1, event);
            return Ok(());
        }
        self.note(&event);
        match event {
            Event::Tick(place) => self.tick(place),
            Event::Asked { from, to, asked } => {
                let mut sent = Vec::new();
                self.coordinators[to].hear(from, asked, self.now_ms, &mut sent);
                self.send_all(to, sent);
            }
            Event::Told { from, to, told } => {
                let mut sent = Vec::new();
                self.workers[to].hear(from, told, self.now_ms, &mut self.random, &mut sent);
                self.ask_all(to, sent);
                return self.acknowledged(to);
            }
            Event::Request { from, request } => {
                let answer = self.store.run(from, request)?;
                if self.lives[from.0] != from.1 {
                    // Who asked is gone, and with it the lock that it may have got.
                    self.after(1, 1000, Event::Unlock(from.0, from.1));
                }
                // Whoever asked finds out what became of it as soon as the way is open again.
                let open_ms = self.cut.get(&(Place::Store, Place::Coordinator(from.0))).copied().unwrap_or(0);
                let at_ms = open_ms.max(self.now_ms) + self.delay();
                self.at(at_ms, Event::Answer { to: from, answer });
            }
            Event::Answer { to, answer } if self.lives[to.0] == to.1 => {
                let mut sent = Vec::new();
                let goes_on = self.coordinators[to.0].answered(answer, self.now_ms, &mut sent);
                self.send_all(to.0, sent);
                if !goes_on {
                    self.crash_coordinator(to.0);
                }
            }
            Event::Answer { .. } => {}
            Event::Unlock(coordinator, life) => self.store.unlock(coordinator, life),
            Event::Trouble => self.trouble(),
        }
        Ok(())
    }

    /// What a worker was told is stored must be.
    fn acknowledged(&mut self, worker: usize) -> Result<(), String> {
        for (job, index) in std::mem::take(&mut self.workers[worker].acknowledged) {
            if !self.store.has(job, index) {
                return Err(format!("{job}/{index} was acknowledged and is not stored"));
            }
        }
        Ok(())
    }

    fn tick(&mut self, place: Place) {
        match place {
            Place::Coordinator(number) => {
                let mut sent = Vec::new();
                self.coordinators[number].tick(self.now_ms, &mut sent);
                self.send_all(number, sent);
            }
            Place::Worker(number) => {
                let mut sent = Vec::new();
                self.workers[number].tick(self.now_ms, &mut self.random, &mut sent);
                self.ask_all(number, sent);
            }
            Place::Store => {}
        }
        self.after(TICK_MS, TICK_MS + 50, Event::Tick(place));
    }

    fn send_all(&mut self, from: usize, sent: Vec<Sent>) {
        for sent in sent {
            match sent {
                Sent::ToWorker(to, told) => {
                    let copies = self.copies(Place::Coordinator(from), Place::Worker(to));
                    for _ in 0..copies {
                        let at_ms = self.now_ms + self.delay();
                        self.at(at_ms, Event::Told { from, to, told: told.clone() });
                    }
                }
                Sent::ToStore(request) => self.request(from, request),
            }
        }
    }

    /// A transaction arrives whole and once, or its connection breaks and it does not.
    fn request(&mut self, from: usize, request: Request) {
        let life = (from, self.lives[from]);
        let way = (Place::Coordinator(from), Place::Store);
        let broken = self.is_troubled() && self.random.one_in(30);
        let at_ms = self.now_ms + self.delay();
        match self.cut.get(&way).copied().filter(|&until_ms| until_ms > self.now_ms) {
            Some(until_ms) => {
                self.at(until_ms + 1, Event::Answer { to: life, answer: Answer::Failed(request) })
            }
            None if broken => self.at(at_ms, Event::Answer { to: life, answer: Answer::Failed(request) }),
            None => self.at(at_ms, Event::Request { from: life, request }),
        }
    }

    fn ask_all(&mut self, from: usize, sent: Vec<Asked>) {
        let to = self.workers[from].coordinator;
        for asked in sent {
            for _ in 0..self.copies(Place::Worker(from), Place::Coordinator(to)) {
                let at_ms = self.now_ms + self.delay();
                self.at(at_ms, Event::Asked { from, to, asked: asked.clone() });
            }
        }
    }

    /// How often a message arrives: once, not at all, or twice.
    fn copies(&mut self, from: Place, to: Place) -> u64 {
        if self.cut.get(&(from, to)).is_some_and(|&until_ms| until_ms > self.now_ms) {
            return 0;
        }
        match self.is_troubled() {
            true if self.random.one_in(40) => 0,
            true if self.random.one_in(25) => 2,
            _ => 1,
        }
    }

    /// Mostly little; sometimes so long that leases run out meanwhile.
    fn delay(&mut self) -> u64 {
        match self.is_troubled() && self.random.one_in(50) {
            true => self.random.between(500, 5000),
            false => self.random.between(1, 40),
        }
    }

    fn is_troubled(&self) -> bool {
        self.now_ms < TROUBLE_MS
    }

    /// One thing goes wrong, and the next one soon.
    fn trouble(&mut self) {
        if !self.is_troubled() {
            self.still.clear();
            self.cut.clear();
            return;
        }
        let coordinator = self.random.below(COORDINATORS as u64) as usize;
        let worker = self.random.below(WORKERS as u64) as usize;
        let until_ms = self.now_ms + self.random.between(300, 5000);
        match self.random.below(8) {
            0 | 1 => self.crash_coordinator(coordinator),
            2 => {
                let keeps = self.random.one_in(2);
                self.workers[worker].crash(keeps);
            }
            3 => drop(self.still.insert(Place::Coordinator(coordinator), until_ms)),
            4 => drop(self.still.insert(Place::Worker(worker), until_ms)),
            5 => self.cut_ways(Place::Coordinator(coordinator), Place::Worker(worker), until_ms),
            _ => self.cut_from_store(coordinator, until_ms),
        }
        self.after(200, 2500, Event::Trouble);
    }

    /// The process is gone with all it knew; the store notices soon, and lets its lock go.
    fn crash_coordinator(&mut self, number: usize) {
        let life = self.lives[number];
        self.after(1, 1000, Event::Unlock(number, life));
        self.lives[number] += 1;
        self.coordinators[number] = Coordinator::new(self.coordinators[number].guards());
        self.still.remove(&Place::Coordinator(number));
    }

    /// The connection that holds the lock breaks, too: another may take over, and the first does not know.
    fn cut_from_store(&mut self, number: usize, until_ms: u64) {
        self.cut_ways(Place::Coordinator(number), Place::Store, until_ms);
        let life = self.lives[number];
        self.after(1, 2000, Event::Unlock(number, life));
    }

    /// Both ways, or one.
    fn cut_ways(&mut self, a: Place, b: Place, until_ms: u64) {
        let which = self.random.below(3);
        if which != 1 {
            self.cut.insert((a, b), until_ms);
        }
        if which != 2 {
            self.cut.insert((b, a), until_ms);
        }
    }

    fn stands_still(&self, event: &Event) -> Option<u64> {
        let place = match event {
            Event::Tick(place) => *place,
            Event::Asked { to, .. } => Place::Coordinator(*to),
            Event::Told { to, .. } => Place::Worker(*to),
            Event::Answer { to, .. } => Place::Coordinator(to.0),
            Event::Request { .. } | Event::Unlock(..) | Event::Trouble => return None,
        };
        self.still.get(&place).copied().filter(|&until_ms| until_ms > self.now_ms)
    }

    fn after(&mut self, least_ms: u64, most_ms: u64, event: Event) {
        let at_ms = self.now_ms + self.random.between(least_ms, most_ms);
        self.at(at_ms, event);
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at_ms, self.number)));
        self.events.insert(self.number, event);
    }

    fn note(&mut self, event: &Event) {
        (self.now_ms, std::mem::discriminant(event)).hash(&mut self.history);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} ms {event:?}", self.now_ms));
        }
    }
}
