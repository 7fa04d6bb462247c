//! The end of a core's tasks where the executor does not see to it: monoio and glommio leave tasks that wait to
//! whatever would have woken them, and their connections open with them.
//!
//! Each task of such a core is registered here. When the core's main future has ended, all of them are woken, find that
//! they are to end, and are dropped on their own executor, which their sockets need to close.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::{Driver, Either, RunError, select};
use super::{Postbox, mailbox};

/// A core that did not come to its end.
pub(super) enum Broken {
    /// Its main future panicked.
    Panicked(Box<dyn Any + Send>),
    /// It cannot be paced.
    Unpaced(io::Error),
}

impl Broken {
    /// Panics on, or says what failed.
    pub(super) fn resume(self, driver: Driver) -> RunError {
        match self {
            Self::Panicked(panic) => resume_unwind(panic),
            Self::Unpaced(error) => RunError::Driver(driver, error),
        }
    }
}

#[derive(Default)]
struct Tasks {
    /// A waker for each task that was polled once; the places of tasks that are gone are empty and used again.
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
    is_ending: bool,
    /// Who waits for the last one to end.
    last: Option<Waker>,
}

thread_local! {
    static TASKS: RefCell<Tasks> = RefCell::default();
}

/// The place of one task.
struct Place(usize);

impl Place {
    fn take() -> Self {
        TASKS.with_borrow_mut(|tasks| {
            Self(tasks.free.pop().unwrap_or_else(|| {
                tasks.places.push(None);
                tasks.places.len() - 1
            }))
        })
    }

    /// Whether the task is to end; it is woken when it is.
    fn is_ending(&self, cx: &Context<'_>) -> bool {
        TASKS.with_borrow_mut(|tasks| {
            let place = &mut tasks.places[self.0];
            if place.is_none() {
                *place = Some(cx.waker().clone());
            }
            tasks.is_ending
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // `None` at thread exit: nobody is left to be told.
        let told = TASKS.try_with(|tasks| {
            let mut tasks = tasks.borrow_mut();
            let waker = tasks.places[self.0].take();
            tasks.free.push(self.0);
            let last = if tasks.places.len() == tasks.free.len() { tasks.last.take() } else { None };
            (waker, last)
        });
        if let Ok((_, Some(last))) = told {
            last.wake();
        }
    }
}

/// A task that ends when its core does, and that alone is lost when it panics.
pub(super) fn register(task: impl Future<Output = ()>) -> impl Future<Output = ()> {
    // Taken here and now: a task that was never polled is waited for too.
    let place = Place::take();
    async move {
        let mut task = pin!(catch(task));
        poll_fn(|cx| {
            if place.is_ending(cx) {
                return Poll::Ready(());
            }
            // The panic was told by the panic hook; nobody waits for this task.
            task.as_mut().poll(cx).map(drop)
        })
        .await;
    }
}

/// Runs `main` to its end, then has every other task of this core end. `start_pacer` starts the core's pacer, which posts
/// what keeps it from going on.
pub(super) async fn run_main<T>(
    main: impl Future<Output = T>,
    start_pacer: impl FnOnce(Postbox<io::Error>) -> io::Result<()>,
) -> Result<T, Broken> {
    let (post, failures) = mailbox(1);
    start_pacer(post).map_err(Broken::Unpaced)?;
    let failure = async {
        match failures.next().await {
            Some(error) => Broken::Unpaced(error),
            // It ends by itself only when it fails, so what it called has panicked: so does the core, which would hang.
            None => Broken::Panicked(Box::new("the core's pacer panicked")),
        }
    };
    let result = match select(catch(main), failure).await {
        Either::First(result) => result.map_err(Broken::Panicked),
        Either::Second(broken) => Err(broken),
    };
    end_all().await;
    result
}

async fn end_all() {
    let wakers: Vec<Waker> = TASKS.with_borrow_mut(|tasks| {
        tasks.is_ending = true;
        tasks.places.iter().flatten().cloned().collect()
    });
    wakers.into_iter().for_each(Waker::wake);
    poll_fn(|cx| {
        TASKS.with_borrow_mut(|tasks| {
            if tasks.places.len() > tasks.free.len() {
                tasks.last = Some(cx.waker().clone());
                return Poll::Pending;
            }
            // The next core of this thread begins anew.
            *tasks = Tasks::default();
            Poll::Ready(())
        })
    })
    .await;
}

/// The result of a future, or what it panicked with.
async fn catch<T>(work: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut work = pin!(work);
    poll_fn(|cx| poll_caught(work.as_mut(), cx)).await
}

fn poll_caught<T>(
    work: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Box<dyn Any + Send>>> {
    // What is left of a future that panicked is only dropped, never polled again.
    match catch_unwind(AssertUnwindSafe(|| work.poll(cx))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    }
}
