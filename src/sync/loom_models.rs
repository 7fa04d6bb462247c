//! Models of the mailbox, the main future's waking, a worker's end, and a queue's flow; and that each finds the mistakes it is there for.
//!
//! The larger ones are bounded to two or three preemptions (`check`'s argument): without, they would take hours.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::*;

/// What compio's io_uring driver ends its wait by (compio-driver 0.12, `AwakeFlag` and `Notify`): a flag that saves the
/// write to an eventfd while the driver is awake, and the eventfd. This one copy of foreign code is what the models assume
/// of a driver; the order of its steps is compio's.
struct Driver {
    awake: AtomicU8,
    /// The eventfd's counter.
    event: Mutex<u64>,
    readable: Condvar,
}

const IDLE: u8 = 0;
const AWAKE: u8 = 1;
const NOTIFIED: u8 = 2;

impl Driver {
    fn new() -> Arc<Self> {
        Arc::new(Self { awake: AtomicU8::new(IDLE), event: Mutex::new(0), readable: Condvar::new() })
    }

    /// One turn: waits for the eventfd if it may.
    fn poll(&self, may_wait: bool) {
        let was_notified = self.awake.swap(IDLE, Ordering::AcqRel) & NOTIFIED != 0;
        let mut event = self.event.lock().unwrap();
        if may_wait && !was_notified {
            while *event == 0 {
                event = self.readable.wait(event).unwrap();
            }
        }
        drop(event);
        self.set_awake();
        *self.event.lock().unwrap() = 0;
        self.set_awake();
    }

    /// A store in compio. loom 0.7 lets a store come between the two halves of another thread's read-modify-write
    /// (tokio-rs/loom#254), which no machine does; it keeps two read-modify-writes apart.
    fn set_awake(&self) {
        self.awake.swap(AWAKE, Ordering::Release);
    }
}

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if std::thread::panicking() {
            return;
        }
        if self.awake.fetch_or(NOTIFIED, Ordering::AcqRel) == IDLE {
            *self.event.lock().unwrap() += 1;
            self.readable.notify_one();
        }
    }
}

/// Runs a main future as a core does.
fn run<T>(main: impl Future<Output = T>) -> T {
    let driver = Driver::new();
    drive(Waker::from(driver.clone()), main, |main| driver.poll(!main.is_woken()))
}

/// A core that sleeps is woken by a message and by the end of the postboxes; messages come in order, none is lost.
fn messages_and_their_end() {
    let (post, mailbox) = mailbox::<u8>(2);
    let poster = thread::spawn(move || {
        post.post(1).unwrap();
        post.post(2).unwrap();
    });
    run(async {
        assert_eq!(mailbox.next().await, Some(1));
        assert_eq!(mailbox.next().await, Some(2));
        assert_eq!(mailbox.next().await, None);
    });
    poster.join().unwrap();
}

/// One message wakes a core that sleeps although no more comes after it, not even the end.
fn one_message() {
    let (post, mailbox) = mailbox::<u8>(1);
    let kept = post.clone();
    let poster = thread::spawn(move || {
        post.post(1).unwrap();
        post
    });
    assert_eq!(run(mailbox.next()), Some(1));
    drop((kept, poster.join().unwrap()));
}

#[test]
fn loom_one_message_wakes_a_core_that_sleeps() {
    check(None, one_message);
}

#[test]
fn loom_a_message_and_the_end_always_wake_a_core_that_sleeps() {
    check(Some(3), messages_and_their_end);
}

#[test]
fn loom_finds_a_mailbox_that_looks_only_once() {
    check_fails(Some(Bug::LooksOnce), None, one_message);
}

#[test]
fn loom_finds_a_bell_that_rings_before_the_message_is_there() {
    check_fails(Some(Bug::RingsEarly), None, one_message);
}

#[test]
fn loom_finds_an_end_that_the_bell_announces_too_early() {
    check_fails(Some(Bug::EndsAfterTheBell), Some(3), messages_and_their_end);
}

#[test]
fn loom_finds_a_wake_that_ends_the_wait_before_it_is_noted() {
    check_fails(Some(Bug::WakesBeforeNoting), None, one_message);
}

#[test]
fn loom_finds_a_main_future_whose_waking_is_forgotten_after_the_poll() {
    check_fails(Some(Bug::ForgetsAfterPoll), Some(3), messages_and_their_end);
}

/// What a thread wrote before it woke the core is seen by the poll that follows, whoever's wake it is that led to it.
fn data_before_a_wake() {
    let ready: Arc<[AtomicBool; 2]> = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
    let to_wake = Arc::new(Mutex::new(None::<Waker>));
    let threads: Vec<_> = (0..2)
        .map(|index| {
            let (ready, to_wake) = (ready.clone(), to_wake.clone());
            thread::spawn(move || {
                ready[index].store(true, Ordering::Relaxed);
                let waker = to_wake.lock().unwrap().clone();
                if let Some(waker) = waker {
                    waker.wake();
                }
            })
        })
        .collect();
    let mut watching = false;
    run(poll_fn(|cx| {
        if !std::mem::replace(&mut watching, true) {
            *to_wake.lock().unwrap() = Some(cx.waker().clone());
        }
        let all = ready.iter().all(|ready| ready.load(Ordering::Relaxed));
        if all { Poll::Ready(()) } else { Poll::Pending }
    }));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn loom_a_poll_sees_what_was_done_before_the_wake_that_led_to_it() {
    check(Some(2), data_before_a_wake);
}

#[test]
fn loom_finds_a_wake_that_carries_no_memory() {
    check_fails(Some(Bug::WakesRelaxed), Some(2), data_before_a_wake);
}

/// A master that waits at two mailboxes at once loses no message of either, and is never left asleep.
#[test]
fn loom_who_waits_at_two_mailboxes_gets_the_messages_of_both() {
    check(Some(2), || {
        let (news_post, news) = mailbox::<u8>(1);
        let (signal_post, signals) = mailbox::<u8>(1);
        let worker = thread::spawn(move || news_post.post(1).unwrap());
        let signaller = thread::spawn(move || signal_post.post(2).unwrap());
        let mut sum = 0;
        run(poll_fn(|cx| {
            loop {
                // As `rt::select` does: the first that is ready, the other future is dropped.
                let (first, second) = (pin!(news.next()), pin!(signals.next()));
                let came = match first.poll(cx) {
                    Poll::Ready(Some(message)) => Poll::Ready(message),
                    Poll::Ready(None) | Poll::Pending => second.poll(cx).map(Option::unwrap_or_default),
                };
                let Poll::Ready(message) = came else { return Poll::Pending };
                sum += message;
                if sum == 3 {
                    return Poll::Ready(());
                }
                if message == 0 {
                    return Poll::Pending;
                }
            }
        }));
        worker.join().unwrap();
        signaller.join().unwrap();
    });
}

/// What the master and a worker tell each other at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Drain,
    Stop,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Left,
    Panicked,
}

/// How the model's worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Leaves,
    Panics,
    /// A mistake: the farewell is not what it does last.
    SaysFarewellEarly,
}

/// A worker as `worker::Worker` is one: it counts, obeys the first order and then only another, and says farewell.
fn work(orders: Mailbox<Order>, news: Postbox<End>, counted: Arc<AtomicU8>, ending: Ending) {
    let mut farewell = Farewell::new(news, End::Panicked);
    run(async {
        if orders.next().await == Some(Order::Drain) {
            counted.store(1, Ordering::Relaxed);
            while orders.next().await == Some(Order::Drain) {}
        }
    });
    match ending {
        Ending::Leaves => farewell.say(End::Left),
        Ending::Panics => {}
        Ending::SaysFarewellEarly => {
            farewell.say(End::Left);
            drop(farewell);
        }
    }
    counted.store(2, Ordering::Relaxed);
}

/// However orders, the worker's end and the master's sleep interleave: one farewell comes, it finds the master, and
/// everything that the worker had counted is seen with it.
fn hand_off(orders: &'static [Order], ending: Ending) {
    let (orders_post, inbox) = mailbox(2);
    let (news_post, news) = mailbox(2);
    let counted = Arc::new(AtomicU8::new(0));
    let worker = thread::spawn({
        let counted = counted.clone();
        move || work(inbox, news_post, counted, ending)
    });
    for order in orders {
        // Refused where the worker has left already.
        let _ = orders_post.post(*order);
    }
    // Without a Stop it is the end of the master's postbox that ends the worker.
    drop(orders_post);
    run(async {
        let expected = if ending == Ending::Panics { End::Panicked } else { End::Left };
        assert_eq!(news.next().await, Some(expected));
        assert_eq!(counted.load(Ordering::Relaxed), 2, "what was counted before the farewell");
        assert_eq!(news.next().await, None);
    });
    worker.join().unwrap();
}

#[test]
fn loom_a_worker_that_is_told_to_drain_and_to_stop_ends_and_says_so_once() {
    check(Some(3), || hand_off(&[Order::Drain, Order::Stop], Ending::Leaves));
}

#[test]
fn loom_a_worker_whose_master_is_gone_ends() {
    check(Some(3), || hand_off(&[Order::Drain], Ending::Leaves));
    check(Some(3), || hand_off(&[], Ending::Leaves));
}

#[test]
fn loom_a_worker_that_panics_says_so() {
    check(Some(3), || hand_off(&[Order::Stop], Ending::Panics));
}

#[test]
fn loom_finds_a_hand_off_with_a_broken_mailbox() {
    check_fails(Some(Bug::EndsAfterTheBell), Some(3), || hand_off(&[], Ending::Leaves));
    check_fails(Some(Bug::LooksOnce), Some(3), || hand_off(&[Order::Drain, Order::Stop], Ending::Leaves));
}

#[test]
fn loom_finds_a_farewell_that_is_not_the_last_thing_that_is_done() {
    check_fails(None, Some(3), || hand_off(&[Order::Stop], Ending::SaysFarewellEarly));
}

/// Two lines were handed to a writer, which writes them; whoever finds that all is done finds both.
fn a_queue_is_worked_off() {
    let (flow, written) = (Arc::new(Flow::default()), Arc::new(AtomicU8::new(0)));
    flow.note_queued();
    flow.note_queued();
    let stopping = thread::spawn({
        let (flow, written) = (flow.clone(), written.clone());
        move || assert!(!flow.is_over(|| 0) || written.load(Ordering::Relaxed) == 2)
    });
    for line in 1..=2 {
        written.store(line, Ordering::Relaxed);
        flow.note_done();
    }
    stopping.join().unwrap();
    assert!(flow.is_over(|| 0));
}

#[test]
fn loom_a_queue_that_is_found_worked_off_is() {
    check(None, a_queue_is_worked_off);
}

#[test]
fn loom_finds_a_count_that_what_was_done_does_not_come_with() {
    check_fails(Some(Bug::CountsRelaxed), None, a_queue_is_worked_off);
}
