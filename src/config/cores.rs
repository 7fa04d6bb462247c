//! Which cores do what: the config's wishes and what the host allows, made into a plan. Pure.

use super::error::{ConfigError, Step};
use super::model::{Cores, MasterCore, Pin, Steering, Workers};
use crate::sys::cpu::{self, Confinement};

/// What the host allows this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Core ids, ascending, at least one.
    pub allowed: Vec<usize>,
    /// What its cgroup grants.
    pub confinement: Confinement,
}

impl Host {
    /// What this host allows now.
    pub fn read() -> Self {
        Self { allowed: cpu::allowed(), confinement: cpu::confinement() }
    }

    /// Cores' worth of CPU time: the allowed cores or the quota, whichever is less; at least one.
    pub fn budget(&self) -> usize {
        let granted = self.confinement.quota_cores.map_or(usize::MAX, |cores| cores.floor().max(1.0) as usize);
        self.allowed.len().min(granted).max(1)
    }
}

/// Which cores do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The core of each worker. Several workers may share one.
    pub workers: Vec<usize>,
    /// The core of the master; `None`: none of its own.
    pub master: Option<usize>,
    /// Whether threads are bound to these cores. Where not, the cores only count them.
    pub pin: bool,
    /// What an operator may want to know of how this came about.
    pub notes: Vec<String>,
}

/// Makes the plan.
///
/// # Errors
/// Cores that are asked for by id and not allowed.
pub fn resolve(cores: &Cores, host: &Host) -> Result<Plan, Vec<ConfigError>> {
    let errors = find_forbidden(cores, host);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut notes = Vec::new();
    let (workers, master) = match &cores.workers {
        Workers::Auto(_) => share_out(cores, host, None, &mut notes),
        Workers::Count(count) => share_out(cores, host, Some(*count), &mut notes),
        Workers::List(ids) => {
            let free = || host.allowed.iter().copied().find(|core| !ids.contains(core));
            let master = match cores.master {
                MasterCore::Core(id) => Some(id),
                MasterCore::Auto(_) => free().filter(|_| host.budget() > 2),
            };
            (ids.clone(), master)
        }
    };
    let shared = workers.iter().enumerate().any(|(index, core)| workers[..index].contains(core));
    if cores.steering == Steering::Cpu && shared {
        let steps: Vec<Step> = vec!["cores".into(), "steering".into()];
        let found = format!("\"cpu\" with {} workers on fewer cores", workers.len());
        return Err(vec![ConfigError::at(&steps, "\"hash\", or at most one worker a core", found)]);
    }
    if let Some(master) = master.filter(|master| workers.contains(master)) {
        notes.push(format!("the master shares core {master} with a worker"));
    }
    if let Some(quota) = host.confinement.quota_cores
        && workers.len() as f64 > quota.max(1.0)
    {
        let count = workers.len();
        notes.push(format!("{count} workers under a CPU quota of {quota} cores: the quota will stop them in turn"));
    }
    let pin = decide_pin(cores.pin, host, &workers, &mut notes);
    Ok(Plan { workers, master, pin, notes })
}

fn find_forbidden(cores: &Cores, host: &Host) -> Vec<ConfigError> {
    let mut asked: Vec<(Vec<Step>, usize)> = Vec::new();
    if let Workers::List(ids) = &cores.workers {
        let steps = |index: usize| vec!["cores".into(), "workers".into(), index.into()];
        asked.extend(ids.iter().enumerate().map(|(index, id)| (steps(index), *id)));
    }
    if let MasterCore::Core(id) = cores.master {
        asked.push((vec!["cores".into(), "master".into()], id));
    }
    let forbidden = asked.into_iter().filter(|(_, id)| !host.allowed.contains(id));
    let expected = format!("a core that this process may use ({})", list_ids(&host.allowed));
    forbidden.map(|(steps, id)| ConfigError::at(&steps, expected.as_str(), id.to_string())).collect()
}

/// Gives the master its core, and `count` workers (or as many as fit) the others.
fn share_out(cores: &Cores, host: &Host, count: Option<usize>, notes: &mut Vec<String>) -> (Vec<usize>, Option<usize>) {
    let budget = host.budget();
    // The master takes the first core, which on most hosts also has the most interrupts: the workers' are calmer.
    let master = match cores.master {
        MasterCore::Core(id) => Some(id),
        MasterCore::Auto(_) if budget > 2 && count.is_none_or(|count| count < budget) => host.allowed.first().copied(),
        MasterCore::Auto(_) => None,
    };
    let apart = budget > 2;
    let free: Vec<_> = host.allowed.iter().copied().filter(|core| !(apart && master == Some(*core))).collect();
    let count = count.unwrap_or_else(|| if apart && master.is_some() { budget - 1 } else { budget });
    // A count that the free cores cannot hold is spread over all of them.
    let pool = if count > free.len() { &host.allowed } else { &free };
    if count > pool.len() {
        notes.push(format!("{count} workers share {} cores", pool.len()));
    }
    (pool.iter().copied().cycle().take(count).collect(), master)
}

fn decide_pin(pin: Pin, host: &Host, workers: &[usize], notes: &mut Vec<String>) -> bool {
    let mut distinct = workers.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let share = distinct.len() < workers.len();
    match pin {
        Pin::Off => false,
        Pin::On if share => {
            notes.push("not pinned, although cores.pin is on: there are more workers than cores".to_owned());
            false
        }
        Pin::On => true,
        Pin::Auto if share => false,
        Pin::Auto if host.confinement.exclusive => true,
        Pin::Auto => match host.confinement.quota_cores {
            None => true,
            Some(quota) => {
                notes.push(format!("not pinned: a CPU quota of {quota} cores is shared by all of them"));
                false
            }
        },
    }
}

/// `0-3, 8`.
pub fn list_ids(ids: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &id in ids {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::model::Auto;
    use super::*;

    const AUTO: Workers = Workers::Auto(Auto::Auto);

    fn host(cores: usize, quota_cores: Option<f64>) -> Host {
        Host { allowed: (0..cores).collect(), confinement: Confinement { quota_cores, exclusive: false } }
    }

    fn plan(workers: Workers, master: MasterCore, host: &Host) -> Plan {
        resolve(&Cores { workers, master, ..Cores::default() }, host).unwrap()
    }

    #[test]
    fn auto_follows_affinity_and_quota_and_spares_a_core_for_the_master_above_two() {
        for (cores, quota, workers, master, pin) in [
            (1, None, vec![0], None, true),
            (2, None, vec![0, 1], None, true),
            (3, None, vec![1, 2], Some(0), true),
            (8, None, vec![1, 2, 3, 4, 5, 6, 7], Some(0), true),
            (8, Some(0.5), vec![0], None, false),
            (8, Some(2.9), vec![0, 1], None, false),
            (8, Some(3.5), vec![1, 2], Some(0), false),
            (2, Some(16.0), vec![0, 1], None, false),
        ] {
            let plan = plan(AUTO, MasterCore::default(), &host(cores, quota));
            assert_eq!((plan.workers, plan.master, plan.pin), (workers, master, pin), "{cores} cores, {quota:?}");
        }
    }

    #[test]
    fn steering_by_cpu_is_refused_where_workers_share_cores() {
        let cores = |count| Cores { workers: Workers::Count(count), steering: Steering::Cpu, ..Cores::default() };
        assert!(resolve(&cores(2), &host(2, None)).is_ok());
        let errors = resolve(&cores(3), &host(2, None)).unwrap_err();
        assert!(errors[0].to_string().starts_with("cores.steering: expected"), "{}", errors[0]);
    }

    #[test]
    fn a_number_is_kept_even_where_cores_must_be_shared() {
        for (cores, count, workers, master, pin) in [
            (4, 2, vec![1, 2], Some(0), true),
            (4, 3, vec![1, 2, 3], Some(0), true),
            (4, 4, vec![0, 1, 2, 3], None, true),
            (2, 1, vec![0], None, true),
            (2, 5, vec![0, 1, 0, 1, 0], None, false),
        ] {
            let plan = plan(Workers::Count(count), MasterCore::default(), &host(cores, None));
            assert_eq!((plan.workers, plan.master, plan.pin), (workers, master, pin), "{count} on {cores}");
            assert_eq!(plan.notes.is_empty(), count <= cores, "{:?}", plan.notes);
        }
    }

    #[test]
    fn ids_are_taken_as_they_are_and_must_be_allowed() {
        let host = host(4, None);
        let listed = plan(Workers::List(vec![3, 1]), MasterCore::default(), &host);
        assert_eq!((listed.workers, listed.master), (vec![3, 1], Some(0)));
        let master = plan(AUTO, MasterCore::Core(2), &host);
        assert_eq!((master.workers, master.master), (vec![0, 1, 3], Some(2)));
        let shared = plan(Workers::List(vec![2]), MasterCore::Core(2), &host);
        assert_eq!(shared.notes, ["the master shares core 2 with a worker"]);
        let cores = Cores { workers: Workers::List(vec![0, 9]), master: MasterCore::Core(4), ..Cores::default() };
        let errors: Vec<_> = resolve(&cores, &host).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "cores.workers[1]: expected a core that this process may use (0-3), found 9",
                "cores.master: expected a core that this process may use (0-3), found 4",
            ]
        );
    }

    #[test]
    fn pinning_by_itself_needs_cores_of_our_own() {
        let pin = |pin, quota_cores, exclusive| {
            let host = Host { allowed: vec![2, 3], confinement: Confinement { quota_cores, exclusive } };
            resolve(&Cores { pin, ..Cores::default() }, &host).unwrap().pin
        };
        assert!(pin(Pin::Auto, None, false));
        assert!(pin(Pin::Auto, Some(2.0), true));
        assert!(!pin(Pin::Auto, Some(2.0), false));
        assert!(pin(Pin::On, Some(2.0), false));
        assert!(!pin(Pin::Off, None, true));
        let cores = Cores { pin: Pin::On, workers: Workers::Count(3), ..Cores::default() };
        let plan = resolve(&cores, &host(2, None)).unwrap();
        assert!(!plan.pin && plan.notes.len() == 2, "{plan:?}");
    }

    #[test]
    fn ids_are_listed_as_ranges() {
        assert_eq!(list_ids(&[0, 1, 2, 3, 8, 10, 11]), "0-3, 8, 10-11");
    }
}
