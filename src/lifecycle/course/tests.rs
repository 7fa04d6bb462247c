//! Courses over given and random graphs: the order is kept whatever happens.

use super::super::graph::Node;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn graph(needs: &[&[usize]]) -> Graph {
    let node = |(at, needs): (usize, &&[usize])| Node {
        name: at.to_string(),
        after: needs.iter().map(ToString::to_string).collect(),
    };
    Graph::build(&needs.iter().enumerate().map(node).collect::<Vec<_>>()).unwrap()
}

fn course(needs: &[&[usize]]) -> Course {
    Course::new(graph(needs), vec![Traits::default(); needs.len()], false)
}

fn late() -> Reason {
    Reason::TimedOut { within: Duration::from_secs(1) }
}

/// Three in a row and one beside them: 2 after 1 after 0; 3.
const CHAIN: &[&[usize]] = &[&[], &[0], &[1], &[]];

fn serving(needs: &[&[usize]]) -> Course {
    let mut course = course(needs);
    let mut steps = course.begin();
    while let Some(step) = steps.pop() {
        let Step::Start(at) = step else { panic!("{step:?} on the way up") };
        steps.extend(course.take(Input::Ready(at)));
    }
    assert_eq!(course.phase(), Phase::Serving);
    course
}

#[test]
fn levels_start_together_and_stop_in_reverse() {
    let mut course = course(CHAIN);
    assert_eq!(course.begin(), [Step::Start(0), Step::Start(3)]);
    assert_eq!(course.take(Input::Ready(0)), []);
    assert_eq!(course.take(Input::Ready(3)), [Step::Start(1)]);
    assert_eq!(course.take(Input::Ready(1)), [Step::Start(2)]);
    assert_eq!((course.take(Input::Ready(2)), course.phase()), (vec![], Phase::Serving));
    assert_eq!((course.take(Input::Signal), course.phase()), (vec![Step::Stop(2)], Phase::Stopping));
    assert_eq!(course.take(Input::Ended(2, Ending::Left)), [Step::Stop(1)]);
    assert_eq!(course.take(Input::Ended(1, Ending::Left)), [Step::Stop(0), Step::Stop(3)]);
    assert_eq!(course.take(Input::Ended(3, Ending::Left)), []);
    assert_eq!(course.take(Input::Ended(0, Ending::Left)), []);
    assert!(course.is_over() && course.failed().is_empty() && *course.verdict() == Verdict::Done);
}

#[test]
fn a_failed_start_stops_what_had_started_and_names_who_waited() {
    let mut course = course(CHAIN);
    course.begin();
    course.take(Input::Ready(3));
    course.take(Input::Ready(0));
    assert_eq!(course.take(Input::Ended(1, Ending::Left)), [Step::Stop(0), Step::Stop(3)]);
    assert_eq!(course.phase(), Phase::RollingBack);
    let expected = Failed { service: 1, during: During::Start, reason: Reason::NotReady, waited: vec![2] };
    assert_eq!(course.failed(), [expected]);
    course.take(Input::Ended(0, Ending::Left));
    assert_eq!(course.take(Input::Ended(3, Ending::Left)), []);
    let states: Vec<_> = (0..4).map(|at| course.state(at)).collect();
    use ServiceState as S;
    assert_eq!((states, course.is_over()), (vec![S::Stopped, S::Failed, S::Waiting, S::Stopped], true));
}

#[test]
fn a_start_that_takes_too_long_is_stopped_like_the_others_and_may_come_late() {
    let mut course = course(CHAIN);
    course.begin();
    assert_eq!(course.take(Input::Late(0, late())), [Step::Stop(0), Step::Stop(3)]);
    assert_eq!(course.take(Input::Ready(0)), [], "too late");
    assert_eq!(course.take(Input::Ended(0, Ending::Failed("interrupted".to_owned()))), []);
    assert_eq!(course.take(Input::Late(3, late())), [Step::Drop(3)]);
    let blamed: Vec<_> = course.failed().iter().map(|failed| (failed.service, failed.during)).collect();
    assert_eq!((blamed, course.is_over()), (vec![(0, During::Start), (3, During::Stop)], true));
}

#[test]
fn a_service_that_panics_while_it_stops_holds_nobody_up() {
    let mut course = serving(CHAIN);
    course.take(Input::Signal);
    assert_eq!(course.take(Input::Ended(2, Ending::Panicked("oh".to_owned()))), [Step::Stop(1)]);
    assert_eq!((course.failed()[0].service, course.failed()[0].during), (2, During::Stop));
}

#[test]
fn a_service_that_gives_up_is_stopped_in_its_turn() {
    let mut course = serving(CHAIN);
    assert_eq!(course.take(Input::Gave(0, "worn out".to_owned())), [Step::Stop(2)]);
    assert_eq!(course.take(Input::Signal), [], "the first signal finds it stopping, and cuts nothing");
    assert_eq!(course.take(Input::Ended(2, Ending::Left)), [Step::Stop(1)]);
    assert_eq!(course.take(Input::Ended(1, Ending::Left)), [Step::Stop(0), Step::Stop(3)]);
    assert_eq!(course.failed()[0].during, During::Run);
}

#[test]
fn a_service_that_may_end_counts_as_ready_when_it_has() {
    let mut course = Course::new(graph(CHAIN), vec![Traits { may_end: true, drains: false }; 4], false);
    course.begin();
    course.take(Input::Ready(3));
    course.take(Input::Ready(0));
    assert_eq!(course.take(Input::Ended(0, Ending::Left)), []);
    assert_eq!(course.take(Input::Ready(1)), [Step::Start(2)]);
    course.take(Input::Ready(2));
    assert_eq!((course.state(0), course.phase()), (ServiceState::Stopped, Phase::Serving));
    assert_eq!(course.take(Input::Ended(3, Ending::LetGo)), [], "it was ready");
}

#[test]
fn signals_interrupt_a_start_linger_and_then_cut() {
    let mut early = course(CHAIN);
    early.begin();
    assert_eq!(early.take(Input::Signal), [Step::Stop(0), Step::Stop(3)]);
    assert_eq!((early.verdict(), early.phase()), (&Verdict::Interrupted, Phase::RollingBack));

    let mut course = serving(CHAIN);
    course.lingers = true;
    assert_eq!((course.take(Input::Signal), course.phase()), (vec![Step::Linger], Phase::Draining));
    assert_eq!(course.take(Input::Lingered), [Step::Stop(2)]);
    assert_eq!(course.take(Input::Signal), [2, 1, 0, 3].map(Step::Drop));
    assert_eq!(course.verdict(), &Verdict::Cut(vec![2, 1, 0, 3]));
    assert!(course.is_over());
}

#[test]
fn traffic_drains_until_the_services_that_drain_have_stopped() {
    let mut traits = vec![Traits::default(); 4];
    traits[2].drains = true;
    let mut course = serving(CHAIN);
    course.traits = traits;
    course.take(Input::Signal);
    assert_eq!(course.phase(), Phase::Draining);
    course.take(Input::Ended(2, Ending::Left));
    assert_eq!(course.phase(), Phase::Stopping);
}

#[test]
fn without_services_it_serves_until_it_is_told_to_stop() {
    let mut course = course(&[]);
    assert_eq!((course.begin(), course.phase()), (vec![], Phase::Serving));
    assert_eq!((course.take(Input::Signal), course.phase()), (vec![], Phase::Stopped));
}

/// What somebody who only sees inputs and steps knows of the services.
#[derive(Default)]
struct Onlooker {
    started: BTreeSet<usize>,
    ready: BTreeSet<usize>,
    alive: BTreeSet<usize>,
    told: BTreeSet<usize>,
    is_turned: bool,
}

impl Onlooker {
    fn see(&mut self, needs: &[Vec<usize>], steps: &[Step]) -> Result<(), TestCaseError> {
        for step in steps {
            match *step {
                Step::Start(at) => {
                    prop_assert!(!self.is_turned, "{at} started on the way down");
                    prop_assert!(needs[at].iter().all(|needed| self.ready.contains(needed)), "{at} started too early");
                    prop_assert!(self.started.insert(at), "{at} started twice");
                    self.alive.insert(at);
                }
                Step::Stop(at) => {
                    self.is_turned = true;
                    prop_assert!(self.alive.contains(&at), "{at} does not run");
                    prop_assert!(self.told.insert(at), "{at} was told twice");
                    let dependent = self.alive.iter().find(|&&other| needs[other].contains(&at));
                    prop_assert!(dependent.is_none(), "{dependent:?} still needs {at}");
                }
                Step::Drop(at) => {
                    prop_assert!(self.alive.remove(&at), "{at} was dropped, and does not run");
                }
                Step::Linger => {}
            }
        }
        Ok(())
    }
}

/// The event that `dice` chooses for a service in this state, if it has one.
fn event(state: ServiceState, at: usize, dice: u8) -> Option<Input> {
    let ending = match dice % 8 {
        0 => Ending::Panicked("a".to_owned()),
        1 => Ending::Failed("b".to_owned()),
        _ => Ending::Left,
    };
    match (state, dice % 32) {
        (ServiceState::Starting, 0..=2) => Some(Input::Ended(at, ending)),
        (ServiceState::Starting, 3) => Some(Input::Ended(at, Ending::LetGo)),
        (ServiceState::Starting, 4) => Some(Input::Late(at, late())),
        (ServiceState::Starting | ServiceState::Ready, 5) => Some(Input::Gave(at, "c".to_owned())),
        (ServiceState::Starting, _) => Some(Input::Ready(at)),
        (ServiceState::Ready, 0 | 10) => Some(Input::Ended(at, ending)),
        (ServiceState::Stopping, 4..=8) => Some(Input::Late(at, late())),
        (ServiceState::Stopping, _) => Some(Input::Ended(at, ending)),
        _ => None,
    }
}

proptest! {
    /// Nothing starts before what it needs is ready; nothing stops before what needs it has ended; nobody is told who did
    /// not start; in the end nothing runs, and whoever started was told to stop, ended by itself or was dropped.
    #[test]
    fn order_is_kept_and_a_rollback_is_exact(
        edges in prop::collection::vec((0_usize..9, 0_usize..9), 0..14),
        kinds in prop::collection::vec(any::<bool>(), 9),
        lingers in any::<bool>(),
        dice in prop::collection::vec((any::<u8>(), 0_usize..9), 0..120),
    ) {
        let needs: Vec<Vec<usize>> =
            (0..9).map(|at| edges.iter().filter(|(from, to)| *from == at && to < from).map(|(_, to)| *to).collect()).collect();
        let slices: Vec<&[usize]> = needs.iter().map(Vec::as_slice).collect();
        let traits = kinds.iter().map(|&may_end| Traits { may_end, drains: false }).collect();
        let mut course = Course::new(graph(&slices), traits, lingers);
        let mut onlooker = Onlooker::default();
        let mut signals = 0;
        onlooker.see(&needs, &course.begin())?;
        // The dice, then whatever ends it: everyone becomes ready or stops as told, and a signal comes.
        let ends = std::iter::repeat_n((0..9).map(|at| (20, at)).chain([(255, 9), (254, 9)]), 25).flatten();
        for (dice, at) in dice.into_iter().chain(ends) {
            let input = match (at, dice) {
                (9, 254) => Input::Lingered,
                // Two signals cut; the dice throw one at most, and so do the ends.
                (9, _) | (_, 255) if signals == 0 => { signals += 1; Input::Signal }
                (9, _) => continue,
                _ => match event(course.state(at), at, dice) { Some(input) => input, None => continue },
            };
            match &input {
                Input::Ready(at) => _ = onlooker.ready.insert(*at),
                Input::Ended(at, _) => _ = onlooker.alive.remove(at),
                _ => {}
            }
            let steps = course.take(input);
            onlooker.see(&needs, &steps)?;
            for at in 0..9 {
                prop_assert_eq!(onlooker.alive.contains(&at), course.state(at).is_alive());
            }
        }
        prop_assert!(course.is_over(), "{:?}", course);
        prop_assert!(onlooker.alive.is_empty());
        let never = (0..9).filter(|at| !onlooker.started.contains(at));
        prop_assert!(never.clone().all(|at| course.state(at) == ServiceState::Waiting));
        let is_interrupted = *course.verdict() == Verdict::Interrupted;
        prop_assert!(never.count() == 0 || is_interrupted || !course.failed().is_empty());
        for failed in course.failed() {
            prop_assert!(failed.waited.iter().all(|at| !onlooker.started.contains(at)));
        }
    }
}
