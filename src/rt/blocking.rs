//! A core's blocking pool where the executor has none that fits: monoio's makes all of its threads at once, glommio's has
//! one. Threads are made when work waits and none is idle, and leave when there was none for a while.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::mailbox::mailbox;
use crate::limits::BLOCKING_THREADS_MAX;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(30);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// The core has ended: threads leave when the jobs are done.
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock, and catch their panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
                continue;
            }
            if state.is_closed {
                break;
            }
            state.idle += 1;
            let (woken, waited) = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

/// One core's pool; its threads are told to leave when the core's thread ends.
#[derive(Default)]
struct Pool(Arc<Shared>);

impl Pool {
    fn submit(&self, job: Job) {
        let mut state = self.0.lock();
        state.jobs.push_back(job);
        if state.jobs.len() > state.idle && state.threads < BLOCKING_THREADS_MAX {
            state.threads += 1;
            let shared = self.0.clone();
            let started = thread::Builder::new().name("ringfort-blocking".to_owned()).spawn(move || shared.work());
            if started.is_err() {
                state.threads -= 1;
                if state.threads == 0 {
                    // Nobody else would ever do it. It holds the core up, which is better than never.
                    let jobs = std::mem::take(&mut state.jobs);
                    drop(state);
                    return jobs.into_iter().for_each(|job| job());
                }
            }
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

thread_local! {
    static POOL: Pool = Pool::default();
}

/// Runs `work` on the core's blocking pool and waits for it. A panic in it resumes here.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (post, results) = mailbox(1);
    POOL.with(|pool| {
        pool.submit(Box::new(move || {
            // Nobody is there to be told when whoever asked has left.
            let _ = post.post(catch_unwind(AssertUnwindSafe(work)));
        }));
    });
    match results.next().await.expect("a job posts its result before it drops its postbox") {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn work_that_blocks_does_not_hold_up_other_work() {
        let pool = Pool::default();
        let (first_post, first) = mpsc::channel::<u32>();
        let (second_post, second) = mpsc::channel();
        let (done_post, done) = mpsc::channel();
        pool.submit(Box::new(move || done_post.send(first.recv()).unwrap()));
        pool.submit(Box::new(move || second_post.send(2).unwrap()));
        assert_eq!(second.recv_timeout(Duration::from_secs(10)), Ok(2));
        first_post.send(1).unwrap();
        assert_eq!(done.recv_timeout(Duration::from_secs(10)), Ok(Ok(1)));
    }

    #[test]
    fn there_are_never_more_threads_than_may_be_and_all_work_is_done() {
        let pool = Pool::default();
        let (post, results) = mpsc::channel();
        for number in 0..BLOCKING_THREADS_MAX * 4 {
            let post = post.clone();
            pool.submit(Box::new(move || post.send(number).unwrap()));
        }
        drop(post);
        assert!(pool.0.lock().threads <= BLOCKING_THREADS_MAX);
        let mut numbers: Vec<usize> = results.iter().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..BLOCKING_THREADS_MAX * 4));
    }
}
