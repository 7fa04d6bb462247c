//! Cores: which ones this process may use, how much of them a cgroup grants, and pinning a thread to one.

use std::fs;
use std::path::{Path, PathBuf};

/// The ids of the cores that this thread may run on, ascending (`sched_getaffinity`, so cpusets and taskset count).
pub fn allowed() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Pins the calling thread to `core`; false when the kernel refuses (the core is not in [`allowed`]).
pub fn pin(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// What confines the CPU time of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confinement {
    /// Cores' worth of CPU time that the cgroup grants (quota / period), the least along its path; `None` is no quota.
    pub quota_cores: Option<f64>,
    /// Whether the cgroup's cpuset is a partition of its own (`root` or `isolated`): nobody else runs on these cores.
    pub exclusive: bool,
}

/// Reads the cgroup of this process (version 2, and the cpu controller of version 1).
pub fn confinement() -> Confinement {
    confinement_at(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
}

fn confinement_at(root: &Path, proc_cgroup: &str) -> Confinement {
    let mut found = Confinement { quota_cores: None, exclusive: false };
    for line in proc_cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let base = match controllers {
            "" => root.to_path_buf(),
            v1 if v1.split(',').any(|name| name == "cpu") => root.join("cpu"),
            _ => continue,
        };
        // A quota of any ancestor binds; inside a container the path may not exist below the mount, the root does.
        for directory in ancestors(&base, path) {
            let quota = quota_v2(&directory).or_else(|| quota_v1(&directory));
            found.quota_cores = match (found.quota_cores, quota) {
                (Some(least), Some(quota)) => Some(least.min(quota)),
                (least, quota) => least.or(quota),
            };
            let partition = fs::read_to_string(directory.join("cpuset.cpus.partition")).unwrap_or_default();
            found.exclusive |= directory != base && matches!(partition.trim(), "root" | "isolated");
        }
    }
    found
}

fn ancestors(base: &Path, path: &str) -> Vec<PathBuf> {
    let full = base.join(path.trim_start_matches('/'));
    full.ancestors().take_while(|dir| dir.starts_with(base)).map(Path::to_path_buf).collect()
}

fn quota_v2(directory: &Path) -> Option<f64> {
    let text = fs::read_to_string(directory.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn quota_v1(directory: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok()?.trim().parse::<f64>().ok();
    let quota = read("cpu.cfs_quota_us")?;
    (quota > 0.0).then_some(quota / read("cpu.cfs_period_us")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_may_run_somewhere_and_can_be_pinned_there() {
        let cores = allowed();
        let first = cores[0];
        std::thread::spawn(move || {
            assert!(pin(first));
            assert_eq!(allowed(), vec![first]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_least_quota_along_the_path_binds() {
        let root = std::env::temp_dir().join(format!("ringfort-cgroup-{}", std::process::id()));
        let leaf = root.join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(root.join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(leaf.join("cpu.max"), "max 100000\n").unwrap();
        fs::write(leaf.join("cpuset.cpus.partition"), "isolated\n").unwrap();
        let found = confinement_at(&root, "0::/a/b\n");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, Confinement { quota_cores: Some(1.5), exclusive: true });
        assert_eq!(confinement_at(&root, "0::/a/b\n"), Confinement { quota_cores: None, exclusive: false });
    }
}
