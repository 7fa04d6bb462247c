//! A timer as a descriptor, for executors whose loop is not ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// Makes a timer that is not set. It is readable once it has come due, until it is set again.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM: the process or the host ran out.
pub fn make() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    Ok(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?)
}

/// Sets it to come due once after so long, zero being at once. What it was set to before is forgotten.
///
/// # Errors
/// EINVAL for a descriptor that is no timer: a bug in the caller.
pub fn set(timer: impl AsFd, after: Duration) -> io::Result<()> {
    // All zero would stop it.
    let after = after.max(Duration::from_nanos(1));
    let it_value =
        Timespec { tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), tv_nsec: after.subsec_nanos().into() };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn is_due(timer: &OwnedFd, wait_ms: i64) -> bool {
        let mut wanted = [PollFd::new(timer, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: wait_ms * 1_000_000 };
        poll(&mut wanted, Some(&wait)).unwrap() == 1
    }

    #[test]
    fn it_comes_due_once_and_is_forgotten_when_set_again() {
        let timer = make().unwrap();
        assert!(!is_due(&timer, 0), "not set");
        set(&timer, Duration::ZERO).unwrap();
        assert!(is_due(&timer, 900));
        set(&timer, Duration::from_secs(100)).unwrap();
        assert!(!is_due(&timer, 0), "set anew");
    }
}
