//! Long work that gives way to the cores that serve.
//!
//! The master has a core of its own where there is one to spare; where not, a config of a hundred thousand routes is made
//! on a core that serves. On a thread like any other it would hold up requests for a time slice again and again: those
//! that wait then are more than one in a hundred of all. Niceness does not help, for it is a share of the core that it
//! lowers, not the wait of who wakes up. So work that takes long goes on where its core has nothing else to do.
//!
//! No thread can come back from there without a privilege. A core that is busy all the time must not put a reload off
//! for ever, so after a while the work is begun once more, on a thread like any other, and whoever is done first counts.
//! A worker that waits for memory that such a thread is about to map leaves its core to it, so none waits for long.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::thread::Pid;

use super::mailbox::mailbox;
use super::{Postbox, timeout};
use crate::clock;
use crate::limits::{BACKGROUND_GIVES_WAY_MS, BACKGROUND_GIVES_WAY_MS_MAX};
use crate::sys::priority;

/// How far a thread is.
#[derive(Default)]
enum Stage {
    #[default]
    Starting,
    /// It starts, and gives way from then on.
    Yielding,
    Working(Pid),
    Done,
}

/// A thread, as whoever waits for its work sees it.
#[derive(Default)]
struct Life {
    /// The thread cannot end, and its id not become another's, as long as this is locked.
    stage: Mutex<Stage>,
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut stage = self.lock();
        let own = priority::this_thread();
        if matches!(*stage, Stage::Yielding) {
            priority::give_way(own);
        }
        *stage = Stage::Working(own);
    }

    fn end(&self) {
        *self.lock() = Stage::Done;
    }

    /// Has the thread give way; false when it cannot, or need not any more.
    fn give_way(&self) -> bool {
        let mut stage = self.lock();
        match *stage {
            Stage::Starting | Stage::Yielding => {
                *stage = Stage::Yielding;
                true
            }
            Stage::Working(thread) => priority::give_way(thread),
            Stage::Done => false,
        }
    }
}

thread_local! {
    /// The thread of this core that was given up last, as long as it works.
    static GIVEN_UP: RefCell<Weak<Life>> = RefCell::default();
}

/// Runs `work` and waits for it, on a thread that gives way to others when that takes long. It may be run twice, the
/// second time while the first one still goes on. A panic in it resumes here.
pub(super) async fn run<T: Send + 'static>(work: impl Fn() -> T + Send + Sync + 'static) -> T {
    let [before, most] = [BACKGROUND_GIVES_WAY_MS, BACKGROUND_GIVES_WAY_MS_MAX].map(Duration::from_millis);
    run_for(before, most, work).await
}

/// Gives way after `before`, for `most`.
async fn run_for<T: Send + 'static>(
    before: Duration,
    most: Duration,
    work: impl Fn() -> T + Send + Sync + 'static,
) -> T {
    let work = Arc::new(work);
    let (post, results) = mailbox(2);
    let Ok(life) = start(work.clone(), post.clone()) else { return super::blocking(move || work()).await };
    let result = 'done: {
        if let Some(result) = timeout(clock::now() + before, results.next()).await {
            break 'done result;
        }
        // One at a time lags behind, so there are never many.
        let has_straggler = GIVEN_UP.with_borrow(|life| life.strong_count() > 0);
        if !has_straggler && life.give_way() {
            if let Some(result) = timeout(clock::now() + most, results.next()).await {
                break 'done result;
            }
            GIVEN_UP.set(Arc::downgrade(&life));
            // Where there is no thread to be had, the first one still comes to its end.
            let _ = start(work, post.clone());
        }
        results.next().await
    };
    match result.expect("a postbox is here") {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}

fn start<T: Send + 'static>(
    work: Arc<impl Fn() -> T + Send + Sync + 'static>,
    post: Postbox<thread::Result<T>>,
) -> io::Result<Arc<Life>> {
    let life = Arc::new(Life::default());
    let own = life.clone();
    let run = move || {
        own.begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| work()));
        // Nobody is there to be told when whoever asked has left, or the other one was first.
        let _ = post.post(outcome);
        own.end();
    };
    thread::Builder::new().name("ringfort-compile".to_owned()).spawn(run)?;
    Ok(life)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{self, Options};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    fn on_a_core<T>(work: impl AsyncFnOnce() -> T) -> T {
        rt::run(&Options::default(), |_| work()).expect("an executor")
    }

    #[test]
    fn work_is_done_and_its_panic_resumes_where_it_was_asked_for() {
        assert_eq!(on_a_core(async || run(|| 42).await), 42);
        let panic = catch_unwind(|| on_a_core(async || run(|| panic!("work panics, as this test wants")).await));
        assert!(panic.is_err());
    }

    #[test]
    fn work_that_takes_long_gives_way_and_after_a_while_is_begun_once_more_and_only_once() {
        let (starts, soon) = (Arc::new(AtomicUsize::new(0)), Duration::from_millis(1));
        let (go_on, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let (seen, shared) = (starts.clone(), Mutex::new((wait, tell)));
        let work = move || {
            let number = seen.fetch_add(1, SeqCst);
            if number == 0 {
                let (wait, tell) = &*shared.lock().unwrap_or_else(PoisonError::into_inner);
                tell.send(priority::this_thread()).unwrap();
                let _ = wait.recv();
            }
            (number, priority::gives_way(priority::this_thread()))
        };
        on_a_core(async || {
            let (number, gives_way) = run_for(soon, soon, work).await;
            assert_eq!(number, 1);
            // On a machine that is very busy the second one may have started before the first.
            assert_ne!(priority::gives_way(told.recv().unwrap()), gives_way, "one of both does");
            // As long as the first one lags behind, none gives way, so there is never another that does.
            let until = clock::now() + Duration::from_millis(50);
            let watched = run_for(soon, soon, move || {
                while clock::now() < until {
                    assert!(gives_way || !priority::gives_way(priority::this_thread()));
                }
            });
            watched.await;
        });
        drop(go_on);
        assert_eq!(starts.load(SeqCst), 2);
    }
}
