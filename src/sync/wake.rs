//! A core's main future: polled when it was woken, by whichever thread, and never slept over.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::atomic::{AtomicBool, Ordering};

/// Wakes the main future: notes it, and ends the driver's wait. In this order: a driver that is woken first may look for
/// the note too early, and wait again.
#[derive(Debug)]
pub struct MainWaker {
    woken: AtomicBool,
    driver: Waker,
}

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        #[cfg(loom)]
        if super::planted(super::Bug::WakesBeforeNoting) {
            self.driver.wake_by_ref();
            self.woken.swap(true, Ordering::AcqRel);
            return;
        }
        // Whoever finds it noted already leaves the driver to whoever noted it. AcqRel: what was done before this wake is
        // seen by the poll that follows, also where another's wake stands in for it.
        if !self.woken.swap(true, order()) {
            self.driver.wake_by_ref();
        }
    }
}

impl MainWaker {
    /// Whether the future was woken since it was last polled: the driver must not wait then.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    fn take(&self) -> bool {
        self.woken.swap(false, order())
    }
}

fn order() -> Ordering {
    #[cfg(loom)]
    if super::planted(super::Bug::WakesRelaxed) {
        return Ordering::Relaxed;
    }
    Ordering::AcqRel
}

/// Runs `main` to its end. Each turn polls it if it was woken and then calls `turn`, which runs whatever else there is and
/// waits for more unless [`MainWaker::is_woken`]. `driver` ends that wait, from any thread, or prevents the next one.
pub fn drive<T>(driver: Waker, main: impl Future<Output = T>, mut turn: impl FnMut(&MainWaker)) -> T {
    let main_waker = Arc::new(MainWaker { woken: AtomicBool::new(true), driver });
    let waker = Waker::from(main_waker.clone());
    let mut context = Context::from_waker(&waker);
    let mut main = pin!(main);
    loop {
        #[cfg(loom)]
        if super::planted(super::Bug::ForgetsAfterPoll) && main_waker.is_woken() {
            if let Poll::Ready(result) = main.as_mut().poll(&mut context) {
                return result;
            }
            main_waker.take();
        }
        // Taken before the poll: a wake during it counts for the next.
        if main_waker.take()
            && let Poll::Ready(result) = main.as_mut().poll(&mut context)
        {
            return result;
        }
        turn(&main_waker);
    }
}
