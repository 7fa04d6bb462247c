//! What the kernel says of this process: memory, CPU time, descriptors, threads; read from `/proc/self` when asked.
//!
//! Parsing is pure and separate from reading. A field that is missing (a hardened `/proc`) is `None` and not exposed,
//! rather than a zero that looks like a measurement. For the master only: a read takes some tens of microseconds.

use std::fs;
use std::path::Path;

/// Ticks per second of the CPU times in `/proc`: USER_HZ, which is 100 in the ABI of x86-64, aarch64 and riscv64.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading. Fields that could not be read are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// Resident set, in bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// User and system CPU time of all threads, in seconds, by steps of 10 ms.
    pub cpu_seconds: Option<f64>,
    /// Start of the process, in seconds since the Unix epoch.
    pub start_time_seconds: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Soft limit of file descriptors; `u64::MAX` if unlimited.
    pub max_fds: Option<u64>,
}

/// Reads `/proc/self` and the boot time in `/proc/stat`. Blocks for as long as the kernel takes; not for a worker core.
pub fn read() -> ProcessSample {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = text("/proc/self/status");
    let stat = parse_stat(&text("/proc/self/stat"));
    let boot = parse_boot_time(&text("/proc/stat"));
    ProcessSample {
        resident_bytes: parse_status_kib(&status, "VmRSS").map(|kib| kib * 1024),
        virtual_bytes: parse_status_kib(&status, "VmSize").map(|kib| kib * 1024),
        threads: parse_status_kib(&status, "Threads"),
        cpu_seconds: stat.map(|stat| stat.cpu_ticks as f64 / TICKS_PER_SECOND),
        start_time_seconds: stat.zip(boot).map(|(stat, boot)| boot as f64 + stat.start_ticks as f64 / TICKS_PER_SECOND),
        open_fds: count_fds(Path::new("/proc/self/fd")),
        max_fds: parse_max_fds(&text("/proc/self/limits")),
    }
}

/// Since Linux 6.2 the size of the directory is the number of descriptors. Before, it is 0 and they are listed, which
/// with a hundred thousand connections takes tens of milliseconds; the listing's own descriptor is not counted.
fn count_fds(directory: &Path) -> Option<u64> {
    match fs::metadata(directory).ok()?.len() {
        0 => Some((fs::read_dir(directory).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// The number after `name:` in the text of `/proc/self/status`; sizes there are in KiB.
fn parse_status_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatTicks {
    cpu_ticks: u64,
    /// Since boot.
    start_ticks: u64,
}

/// User and system time and start time from the text of `/proc/self/stat` (fields 14, 15 and 22 of proc(5)).
fn parse_stat(stat: &str) -> Option<StatTicks> {
    // The command name may hold spaces and parentheses, so the fields are counted from its last `)`: field 3 is next.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(6)?.parse().ok()?;
    Some(StatTicks { cpu_ticks: user.checked_add(system)?, start_ticks })
}

/// The boot time, in seconds since the Unix epoch, from the text of `/proc/stat`.
fn parse_boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit of open files from the text of `/proc/self/limits`.
fn parse_max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_gives_memory_and_threads() {
        let status = "Name:\tringfort\nVmPeak:\t    9000 kB\nVmSize:\t    8000 kB\nVmRSS:\t    1652 kB\nThreads:\t3\n";
        assert_eq!(parse_status_kib(status, "VmRSS"), Some(1652));
        assert_eq!(parse_status_kib(status, "VmSize"), Some(8000));
        assert_eq!(parse_status_kib(status, "Threads"), Some(3));
        assert_eq!(parse_status_kib(status, "Vm"), None);
        assert_eq!(parse_status_kib("", "VmRSS"), None);
    }

    #[test]
    fn command_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat =
            "7 (a) b) R 1 7 7 0 -1 4194560 104 0 0 0 250 31 0 0 20 0 1 0 123456 3100672 413 18446744073709551615";
        assert_eq!(parse_stat(stat), Some(StatTicks { cpu_ticks: 281, start_ticks: 123_456 }));
        assert_eq!(parse_stat("7 (ringfort) R 1 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn limits_and_boot_time_are_found_in_their_lines() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             96343                96343                processes \n\
                      Max open files            20000                524288               files     \n";
        assert_eq!(parse_max_fds(limits), Some(20_000));
        assert_eq!(
            parse_max_fds("Max open files            unlimited            unlimited            files"),
            Some(u64::MAX)
        );
        assert_eq!(parse_max_fds("Max open files"), None);
        assert_eq!(parse_boot_time("cpu  1 2 3\nbtime 1700000000\nprocesses 5\n"), Some(1_700_000_000));
    }

    #[test]
    fn reading_this_process_finds_every_field() {
        let sample = read();
        assert!(sample.resident_bytes.unwrap() > 100_000 && sample.virtual_bytes >= sample.resident_bytes);
        assert!(sample.threads.unwrap() >= 1 && sample.open_fds.unwrap() >= 3 && sample.max_fds > sample.open_fds);
        assert!(sample.cpu_seconds.unwrap() >= 0.0 && sample.start_time_seconds.unwrap() > 1.0e9);
    }
}
