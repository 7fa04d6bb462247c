//! A multishot receive that hands what it receives to its connection by a queue of their own, so that it can be told to
//! end and still delivers what the kernel has received.
//!
//! compio's own stream forgets what it has not delivered when it is dropped, which is what ends it. Ending it by its
//! descriptor instead (`IORING_ASYNC_CANCEL_FD`) has the kernel look through every operation that waits, of all
//! connections; by its operation it is one look in a hash table.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use compio::buf::{BufResult, SetLen};
use compio::driver::op::{RecvFlags, RecvMulti};
use compio::driver::{BufferPool, Decision, Extra, IourOpCode, OpEntry, PollOpCode};
use compio::runtime::{Runtime, SubmitMulti};
use futures_core::Stream;

use super::Provided;

/// What one completion brought: a buffer, or none at the peer's end.
type Arrival = io::Result<Option<Provided>>;

/// A multishot receive. Dropping it drops what it has not delivered.
pub(super) struct Multishot {
    arrivals: Rc<Arrivals>,
    /// `None` once it was told to end.
    submitted: Option<SubmitMulti<Receive>>,
}

struct Arrivals {
    pool: BufferPool,
    queue: RefCell<VecDeque<Arrival>>,
    /// The kernel has posted its last completion.
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Multishot {
    /// Asks for it.
    ///
    /// # Errors
    /// What the submission reports.
    pub(super) fn start(runtime: &Runtime, fd: &Rc<OwnedFd>) -> io::Result<Self> {
        let pool = runtime.buffer_pool()?;
        let op = RecvMulti::new(fd.clone(), &pool, 0, RecvFlags::empty())?;
        let (queue, ended, waker) = (RefCell::default(), Cell::new(false), RefCell::default());
        let arrivals = Rc::new(Arrivals { pool, queue, ended, waker });
        let mut submitted = runtime.submit_multi(Receive { op, arrivals: arrivals.clone() });
        // Submits it. It never has anything to say: what comes goes to the queue, which wakes.
        match Pin::new(&mut submitted).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(BufResult(Err(error), _))) => Err(error),
            Poll::Ready(_) | Poll::Pending => Ok(Self { arrivals, submitted: Some(submitted) }),
        }
    }

    /// Tells it to end. What was received until then is still delivered.
    pub(super) fn end(&mut self) {
        if let Some(submitted) = self.submitted.take() {
            Runtime::with_current(super::make_room);
            drop(submitted);
        }
    }

    /// The next arrival; `None` when it has ended and all was delivered.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        if let Some(arrival) = self.arrivals.queue.borrow_mut().pop_front() {
            return Poll::Ready(Some(arrival));
        }
        if self.arrivals.ended.get() {
            return Poll::Ready(None);
        }
        match &mut *self.arrivals.waker.borrow_mut() {
            Some(kept) => kept.clone_from(cx.waker()),
            kept => *kept = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// The operation, as the driver keeps it until its last completion.
struct Receive {
    op: RecvMulti<Rc<OwnedFd>>,
    arrivals: Rc<Arrivals>,
}

impl Receive {
    /// # Safety
    /// The result and the buffer's number are those of one completion of this operation.
    unsafe fn arrived(&self, result: io::Result<usize>, extra: &Extra) {
        let arrivals = &self.arrivals;
        let arrival = result.and_then(|length| {
            // A completion without a buffer is the end of the peer's side.
            let Ok(id) = extra.buffer_id() else { return Ok(None) };
            let mut buffer = arrivals.pool.take(id)?;
            if let Some(buffer) = &mut buffer {
                // SAFETY: the kernel has written so many bytes to the start of this buffer: it is the operation's result.
                unsafe { buffer.set_len(length) };
            }
            Ok(buffer)
        });
        // Nobody is there to take it where this is the only reference left: its buffer goes back at once.
        if Rc::strong_count(arrivals) > 1 {
            arrivals.queue.borrow_mut().push_back(arrival);
            if let Some(waker) = &*arrivals.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }
}

// SAFETY: the entry is that of the operation within, which lives as long as this one.
unsafe impl IourOpCode for Receive {
    type Control = ();

    fn create_entry(&mut self, control: &mut ()) -> OpEntry {
        IourOpCode::create_entry(&mut self.op, control)
    }

    unsafe fn push_multishot(&mut self, (): &mut (), result: io::Result<usize>, extra: Extra) {
        // SAFETY: as for this function.
        unsafe { self.arrived(result, &extra) };
    }

    fn pop_multishot(&mut self, (): &mut ()) -> Option<BufResult<usize, Extra>> {
        None
    }

    unsafe fn set_result(&mut self, (): &mut (), result: &io::Result<usize>, extra: &Extra) {
        self.arrivals.ended.set(true);
        let result = result.as_ref().copied().map_err(|error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        });
        // SAFETY: as for this function.
        unsafe { self.arrived(result, extra) };
    }
}

// SAFETY: it is refused before it is submitted, so `op_type` is not needed.
unsafe impl PollOpCode for Receive {
    type Control = ();

    fn pre_submit(&mut self, (): &mut ()) -> io::Result<Decision> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn operate(&mut self, (): &mut ()) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
