//! Which executor and which driver: what can be asked for, what this build has, and which go together.

use std::fmt;
use std::str::FromStr;

/// Which executor is asked for, whether this build has it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExecutorChoice {
    /// The one that every build has.
    #[default]
    Auto,
    /// compio.
    Compio,
    /// monoio.
    Monoio,
    /// glommio.
    Glommio,
}

impl ExecutorChoice {
    /// What can be asked for, by name.
    pub const NAMES: [&'static str; 4] = ["auto", "compio", "monoio", "glommio"];

    /// Its name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The executor.
    ///
    /// # Errors
    /// When it was not compiled in.
    pub const fn resolve(self) -> Result<Executor, NotBuilt> {
        match self {
            Self::Auto | Self::Compio => Ok(Executor::Compio),
            #[cfg(feature = "monoio")]
            Self::Monoio => Ok(Executor::Monoio),
            #[cfg(feature = "glommio")]
            Self::Glommio => Ok(Executor::Glommio),
            #[allow(unreachable_patterns, reason = "a build with every executor can give any of them")]
            Self::Monoio | Self::Glommio => Err(NotBuilt(self)),
        }
    }
}

impl FromStr for ExecutorChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Auto, Self::Compio, Self::Monoio, Self::Glommio];
        let found = all.into_iter().find(|choice| choice.name() == name);
        found.ok_or_else(|| format!("expected auto, compio, monoio or glommio, found {name:?}"))
    }
}

/// An executor that was not compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBuilt(ExecutorChoice);

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this build has: {}; build with --features {}", list_built(), self.0.name())
    }
}

impl std::error::Error for NotBuilt {}

/// Which executor runs a core: those that are compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Executor {
    /// compio: io_uring with multishot receive, or epoll.
    #[default]
    Compio,
    /// monoio: io_uring or epoll, by readiness.
    #[cfg(feature = "monoio")]
    Monoio,
    /// glommio: io_uring, by readiness.
    #[cfg(feature = "glommio")]
    Glommio,
}

impl Executor {
    /// Those that are compiled in.
    pub const BUILT: &'static [Self] = &[
        Self::Compio,
        #[cfg(feature = "monoio")]
        Self::Monoio,
        #[cfg(feature = "glommio")]
        Self::Glommio,
    ];

    /// The name that configs, logs and metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compio => ExecutorChoice::Compio.name(),
            #[cfg(feature = "monoio")]
            Self::Monoio => ExecutorChoice::Monoio.name(),
            #[cfg(feature = "glommio")]
            Self::Glommio => ExecutorChoice::Glommio.name(),
        }
    }

    /// Why it cannot run on a driver that is asked for; `None` when it can, as far as can be told without trying.
    pub const fn refusal(self, driver: DriverChoice) -> Option<&'static str> {
        match (self, driver) {
            (Self::Compio, DriverChoice::Auto | DriverChoice::IoUring | DriverChoice::Epoll) => None,
            #[cfg(feature = "monoio")]
            (Self::Monoio, DriverChoice::Auto | DriverChoice::IoUring | DriverChoice::Epoll) => None,
            #[cfg(feature = "glommio")]
            (Self::Glommio, DriverChoice::Auto | DriverChoice::IoUring) => None,
            #[cfg(feature = "glommio")]
            (Self::Glommio, DriverChoice::Epoll) => Some("it is built on io_uring alone and has no epoll driver"),
        }
    }
}

/// The names of the executors that this build has.
pub fn list_built() -> String {
    Executor::BUILT.iter().map(|executor| executor.name()).collect::<Vec<_>>().join(", ")
}

/// Which driver is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring where it works, epoll with a warning where not.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

impl DriverChoice {
    /// The name that configs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => Driver::IoUring.name(),
            Self::Epoll => Driver::Epoll.name(),
        }
    }
}

impl FromStr for DriverChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Auto, Self::IoUring, Self::Epoll];
        let found = all.into_iter().find(|choice| choice.name() == name);
        found.ok_or_else(|| format!("expected auto, io_uring or epoll, found {name:?}"))
    }
}

/// Which driver is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// The name that configs, logs and metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_choice_and_resolves_to_what_is_built() {
        for name in ExecutorChoice::NAMES {
            let choice: ExecutorChoice = name.parse().unwrap();
            assert_eq!(choice.name(), name);
            match choice.resolve() {
                Ok(executor) => assert!(name == "auto" || executor.name() == name),
                Err(missing) => {
                    let text = missing.to_string();
                    assert!(text.starts_with("this build has: compio"), "{text}");
                    assert!(text.ends_with(&format!("build with --features {name}")), "{text}");
                }
            }
        }
        assert!("tokio".parse::<ExecutorChoice>().is_err());
    }

    #[test]
    fn every_executor_takes_auto_and_io_uring() {
        for executor in Executor::BUILT {
            assert_eq!(executor.refusal(DriverChoice::Auto), None);
            assert_eq!(executor.refusal(DriverChoice::IoUring), None);
        }
    }
}
