//! Probes of what this kernel, and whatever confines this process, allows.
#![allow(unsafe_code, reason = "io_uring_setup is called raw to learn exactly which error it gives")]

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN | TASKRUN_FLAG (linux/io_uring.h); all of them since Linux 6.1.
const RING_FLAGS: u32 = (1 << 12) | (1 << 13) | (1 << 8) | (1 << 9);

/// Why io_uring cannot be used here, with the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IoUringRefusal {
    /// EPERM with `kernel.io_uring_disabled` set: 1 (only for a group or CAP_SYS_ADMIN) or 2 (for nobody).
    DisabledBySysctl(u8),
    /// EPERM or EACCES without the sysctl: a seccomp filter or a security module refuses the call.
    BlockedBySeccomp,
    /// ENOSYS: the kernel has none, or a seccomp filter pretends so (gVisor and some container engines do).
    Missing {
        /// Whether a seccomp filter is in force on this process.
        filtered: bool,
    },
    /// EINVAL: the kernel is older than 6.1 and lacks the ring flags.
    TooOld,
    /// ENOMEM: the ring's memory does not fit into RLIMIT_MEMLOCK (kernels before 5.12) or a cgroup's limit.
    NoMemory,
    /// The rings can be made, but the kernel could not be asked which operations it has: that takes one more ring.
    Unprobed,
    /// Another error, by its number.
    Other(i32),
}

impl IoUringRefusal {
    /// What an operator can do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::DisabledBySysctl(_) => "set sysctl kernel.io_uring_disabled=0",
            Self::BlockedBySeccomp => {
                "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile \
                 (Docker: --security-opt seccomp=profile.json)"
            }
            Self::Missing { filtered: true } => {
                "allow the io_uring system calls in the seccomp profile that is in force, or run on Linux 6.1 or newer"
            }
            Self::Missing { filtered: false } | Self::TooOld => "run on Linux 6.1 or newer",
            Self::NoMemory | Self::Unprobed => {
                "raise the memlock limit (ulimit -l unlimited) or the cgroup's memory limit"
            }
            Self::Other(_) => "choose the driver by hand: --driver epoll",
        }
    }
}

impl fmt::Display for IoUringRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DisabledBySysctl(value) => write!(f, "disabled by sysctl kernel.io_uring_disabled={value}"),
            Self::BlockedBySeccomp => write!(f, "io_uring_setup is refused with EPERM: a seccomp filter blocks it"),
            Self::Missing { filtered: true } => {
                write!(f, "io_uring_setup gives ENOSYS under a seccomp filter, which most likely blocks it")
            }
            Self::Missing { filtered: false } => write!(f, "this kernel has no io_uring"),
            Self::TooOld => write!(f, "this kernel lacks the ring flags of Linux 6.1"),
            Self::NoMemory => write!(f, "no memory for a ring"),
            Self::Unprobed => write!(f, "the ring that asks the kernel for its operations cannot be made"),
            Self::Other(errno) => write!(f, "io_uring_setup fails: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

/// Makes a small ring with the flags that a worker uses and drops it again.
///
/// # Errors
/// The cause, as far as the kernel and /proc tell it.
pub fn io_uring() -> Result<(), IoUringRefusal> {
    // struct io_uring_params is 120 bytes; only its `flags`, the third u32, is set here.
    let mut params = [0_u32; 30];
    params[2] = RING_FLAGS;
    // SAFETY: `params` is as large as struct io_uring_params, zeroed but for the flags, and lives past the call.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4_u32, params.as_mut_ptr()) };
    if result >= 0 {
        // SAFETY: the kernel just returned this descriptor to us and nobody else holds it.
        drop(unsafe { OwnedFd::from_raw_fd(result as i32) });
        return Ok(());
    }
    Err(explain_refusal(io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

/// The cause behind `errno` of io_uring_setup, looked up in /proc.
pub fn explain_refusal(errno: i32) -> IoUringRefusal {
    match errno {
        libc::EPERM | libc::EACCES => match io_uring_disabled() {
            Some(value) if value > 0 => IoUringRefusal::DisabledBySysctl(value),
            _ => IoUringRefusal::BlockedBySeccomp,
        },
        libc::ENOSYS => IoUringRefusal::Missing { filtered: seccomp_filters() },
        libc::EINVAL => IoUringRefusal::TooOld,
        libc::ENOMEM => IoUringRefusal::NoMemory,
        other => IoUringRefusal::Other(other),
    }
}

fn io_uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

/// Whether a seccomp filter is in force on this process (`Seccomp: 2` in /proc/self/status).
pub fn seccomp_filters() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// The running kernel's release, such as `6.1.0-18-amd64`, and its first two numbers.
pub fn kernel() -> (String, (u32, u32)) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_cause_and_a_fix() {
        for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL, libc::ENOMEM, libc::EIO] {
            let refusal = explain_refusal(errno);
            assert!(!refusal.to_string().is_empty() && !refusal.fix().is_empty(), "{refusal:?}");
        }
    }

    #[test]
    fn the_kernel_names_itself() {
        let (release, (major, _)) = kernel();
        assert!(major >= 4, "{release}");
    }
}
