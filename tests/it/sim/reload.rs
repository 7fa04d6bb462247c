//! Configs that come into force in the middle of everything. Their routes are the same, so that every answer stays what it
//! was; what is held is that no request and no connection notices, and that a config that is not in force any more is let go.

use super::set_up::{Serving, Shared, pause};
use ringfort::clock;
use ringfort::handler::Routes;
use ringfort::metrics::FreshCells;
use ringfort::plugin::Plugins;
use ringfort::proxy::Upstreams;
use ringfort::rt::sim::{self, Random};
use ringfort::worker::{Order, TakeUp};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long a config may be in use by nobody's request.
const LET_GO: Duration = Duration::from_secs(2);

/// The configs that were published, by their routes; the last one is in force.
pub(super) struct Generations {
    shared: Rc<Shared>,
    serving: Vec<Rc<Serving>>,
    routes: RefCell<Vec<Arc<Routes>>>,
}

impl Generations {
    pub(super) fn new(shared: &Rc<Shared>, serving: &[Rc<Serving>]) -> Rc<Self> {
        Rc::new(Self { shared: shared.clone(), serving: serving.to_vec(), routes: RefCell::default() })
    }

    /// Publishes one now and then, for as long as the world exists.
    pub(super) async fn run(self: Rc<Self>, mut random: Random) {
        loop {
            // Now and then several at once.
            pause(if random.chance(200) { 0 } else { random.below(600) }).await;
            self.publish();
        }
    }

    fn publish(&self) {
        let mut all = self.routes.borrow_mut();
        let generation = 2 + all.len() as u64;
        sim::note(format_args!("config {generation} is published"));
        let routes = super::scenario::routes();
        for worker in &self.serving {
            let next = TakeUp {
                settings: self.shared.settings.clone(),
                routes: routes.clone(),
                upstreams: Arc::new(Upstreams::default()),
                plugins: Arc::new(Plugins::default()),
                cells: FreshCells::new(generation, routes.names().len()),
                opened: Vec::new(),
                closed: Vec::new(),
            };
            // One that is down, or has as many before it as it may, goes on with what it has.
            let _ = worker.orders().post(Order::TakeUp(Box::new(next)));
        }
        all.push(routes);
    }

    /// With no client left, nobody uses a config but the last one that each worker took up.
    pub(super) async fn assert_let_go(&self) {
        let until = clock::now() + LET_GO;
        loop {
            let used = self.routes.borrow().iter().filter(|routes| Arc::strong_count(routes) > 1).count();
            if used <= self.serving.len() {
                return;
            }
            if clock::now() >= until {
                return sim::fail(format!("{used} configs are in use by {} workers", self.serving.len()));
            }
            pause(20).await;
        }
    }
}
