//! Resource limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A soft and a hard limit; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is in force.
    pub soft: Option<u64>,
    /// What the soft limit can be raised to.
    pub hard: Option<u64>,
}

/// Open descriptors (`RLIMIT_NOFILE`).
pub fn open_files() -> Limit {
    read(Resource::Nofile)
}

/// Locked memory in bytes (`RLIMIT_MEMLOCK`); rings count against it before Linux 5.12.
pub fn locked_memory() -> Limit {
    read(Resource::Memlock)
}

/// Raises the soft limit of open descriptors to the hard one and returns what is then in force.
pub fn raise_open_files() -> Limit {
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it was, which is what is returned and what `doctor` shows.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    open_files()
}

fn read(resource: Resource) -> Limit {
    let limit = getrlimit(resource);
    Limit { soft: limit.current, hard: limit.maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
        let raised = raise_open_files();
        assert_eq!(raised.soft, raised.hard);
    }
}
