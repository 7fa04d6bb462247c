//! Threads that give way to all others.
#![allow(unsafe_code, reason = "sched_setscheduler has no safe wrapper")]

use rustix::thread::Pid;

/// The calling thread, for [`give_way`].
pub fn this_thread() -> Pid {
    rustix::thread::gettid()
}

/// Has a thread of this process run only where its core has nothing else to do, and stop as soon as something wakes
/// (`SCHED_IDLE`, Linux 2.6.23); false when that is refused. It is for good: to take it back needs a privilege.
pub fn give_way(thread: Pid) -> bool {
    let thread = thread.as_raw_nonzero().get();
    // The call itself and not the C library's function, which musl does not have.
    let parameter: libc::c_int = 0;
    // SAFETY: the kernel reads one integer, the priority, which lives until the call returns; nothing is written.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, thread, libc::SCHED_IDLE, &raw const parameter) };
    result == 0
}

/// Whether a thread of this process gives way.
#[cfg(test)]
pub fn gives_way(thread: Pid) -> bool {
    let path = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    // Field 41, the first behind the name in brackets being the third: the policy, and SCHED_IDLE is 5.
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(38) == Some("5")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_gives_way_alone() {
        let gives_way_then = thread::spawn(|| {
            let own = this_thread();
            !gives_way(own) && give_way(own) && gives_way(own)
        });
        assert!(gives_way_then.join().unwrap());
        assert!(!gives_way(this_thread()));
    }
}
