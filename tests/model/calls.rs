//! What AWS makes of our calls.

use proxymanager::domain::fault::{Fault, FaultKind};
use proxymanager::domain::plan::Action;
use proxymanager::domain::rule::{Side, final_action, pointed_at_waker};
use proxymanager::domain::seen::Power;

use super::{PENDING_TAKES, STOPPING_TAKES, Time, World, envoy, waker};

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Well,
    /// Refused, without any effect.
    Refused(FaultKind),
    /// Refused for the last machine, done for the others.
    Halfway(FaultKind),
    /// Done, and the answer got lost.
    AnswerLost,
    /// Not done, and no answer either.
    QuestionLost,
    /// Done as late as a call may take, and answered.
    Late,
    /// Done as late as a call may take, and the answer got lost.
    LateAndLost,
}

/// A call under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    pub of: usize,
    pub action: Action,
    pub ends: Time,
    /// When it still has its effect to come.
    pub lands: Option<Time>,
}

pub fn fault(kind: FaultKind, operation: &str) -> Fault {
    Fault::new(kind, operation, format!("{kind:?}"))
}

pub fn name(action: &Action) -> &'static str {
    match action {
        Action::Park { .. } => "park",
        Action::FlipToWaker { .. } => "flip to waker",
        Action::FlipToBackend { .. } => "flip to backend",
        Action::Start { .. } => "start",
        Action::Stop { .. } => "stop",
    }
}

impl World {
    /// What the caller is told of a call with this fate, its effect taken at once unless it is late.
    pub fn call(&mut self, of: usize, action: &Action, fate: Fate, takes: Time) -> Result<(), Fault> {
        *self.counts.entry(name(action)).or_default() += 1;
        let fate = self.denials.get(name(action)).copied().unwrap_or(fate);
        self.judge_lease(of, action);
        if let (Some(_), Some(side)) = (&self.envoy, envoy::side_of(action)) {
            let call = envoy::under_way(of, action, self.now + takes);
            self.in_flight.push(call);
            self.judge_overlap();
            return self.flip_in_envoy(side, fate, takes);
        }
        let lost = || Err(fault(FaultKind::Other, name(action)));
        let ends = self.now + takes;
        let mut lands = None;
        let outcome = match fate {
            Fate::Well => self.effect(of, action),
            Fate::Refused(kind) => Err(fault(kind, name(action))),
            Fate::Halfway(kind) => {
                let done = self.effect(of, &without_last(action));
                done.and(Err(fault(kind, name(action))))
            }
            Fate::AnswerLost => self.effect(of, action).and(lost()),
            Fate::QuestionLost => lost(),
            Fate::Late if takes == 0 => self.effect(of, action),
            Fate::LateAndLost if takes == 0 => self.effect(of, action).and(lost()),
            Fate::Late => {
                lands = Some(ends);
                Ok(())
            }
            Fate::LateAndLost => {
                lands = Some(ends);
                lost()
            }
        };
        self.in_flight.push(Call {
            of,
            action: action.clone(),
            ends,
            lands,
        });
        self.judge_overlap();
        outcome
    }

    pub(super) fn land_late_calls(&mut self) {
        let now = self.now;
        let due: Vec<_> = self
            .in_flight
            .iter()
            .filter(|call| call.lands.is_some_and(|at| at <= now))
            .cloned()
            .collect();
        for call in due {
            self.judge_lease(call.of, &call.action);
            // Whether it was right is judged when it lands; that AWS may refuse it by then is no news to anybody.
            let _refused = self.effect(call.of, &call.action);
        }
        self.in_flight.retain(|call| call.ends > now);
    }

    /// The effect of an action, as AWS has it.
    pub fn effect(&mut self, _of: usize, action: &Action) -> Result<(), Fault> {
        self.judge(action);
        let done = self.change(action);
        self.changed();
        done
    }

    fn change(&mut self, action: &Action) -> Result<(), Fault> {
        let now = self.now;
        let conflict = || Err(fault(FaultKind::Conflict, name(action)));
        match action {
            Action::Park { route, actions } => {
                let route = self.routes.iter_mut().find(|r| r.id == *route).unwrap();
                route.parked = vec![vec![final_action(actions).unwrap().clone()]];
                Ok(())
            }
            Action::FlipToWaker { route, actions } => {
                let index = self.routes.iter().position(|r| r.id == *route).unwrap();
                if self.is_on(index) == Side::Backend {
                    if self.routes[index].actions != *actions {
                        return conflict();
                    }
                    self.routes[index].actions = pointed_at_waker(actions, &waker());
                }
                Ok(())
            }
            Action::FlipToBackend { route, actions } => {
                let index = self.routes.iter().position(|r| r.id == *route).unwrap();
                if self.is_on(index) == Side::Backend && self.routes[index].actions != *actions {
                    return conflict();
                }
                self.routes[index].actions = actions.clone();
                Ok(())
            }
            Action::Start { resources } => {
                let mut outcome = Ok(());
                for machine in self.machines.iter_mut().filter(|m| resources.contains(&m.id)) {
                    match machine.power {
                        Power::Stopped => machine.start(now),
                        Power::Pending | Power::Running => {}
                        Power::Stopping | Power::Terminated => outcome = conflict(),
                    }
                }
                outcome
            }
            Action::Stop { resources, .. } => {
                let mut outcome = Ok(());
                for machine in self.machines.iter_mut().filter(|m| resources.contains(&m.id)) {
                    match machine.power {
                        Power::Running => {
                            machine.stop(now);
                            machine.we_stop = true;
                        }
                        Power::Stopped | Power::Stopping => {}
                        Power::Pending | Power::Terminated => outcome = conflict(),
                    }
                }
                outcome
            }
        }
    }
}

impl super::Machine {
    /// The state under way is over.
    pub fn come_to_rest(&mut self, now: Time) {
        match (self.power, self.falls_back) {
            (Power::Pending, Some(tells)) => {
                self.power = Power::Stopped;
                self.fell_back = tells.then(|| "Client.InvalidKMSKey.InvalidState".to_owned());
            }
            (Power::Pending, None) => {
                self.power = Power::Running;
                self.running_since = Some(now);
            }
            (Power::Stopping, _) => self.power = Power::Stopped,
            (Power::Running | Power::Stopped | Power::Terminated, _) => {}
        }
    }

    pub fn start(&mut self, now: Time) {
        self.power = Power::Pending;
        self.until = Some(now + PENDING_TAKES);
        self.launched = Some(now);
        self.changed_by_user = None;
        self.fell_back = None;
        self.running_since = None;
        self.healthy_at = None;
        self.we_stop = false;
    }

    pub fn stop(&mut self, now: Time) {
        self.power = Power::Stopping;
        self.until = Some(now + STOPPING_TAKES);
        self.changed_by_user = Some(now);
        self.fell_back = None;
        self.running_since = None;
    }
}

fn without_last(action: &Action) -> Action {
    let all_but_last = |resources: &Vec<_>| resources[..resources.len().saturating_sub(1)].to_vec();
    match action {
        Action::Start { resources } => Action::Start {
            resources: all_but_last(resources),
        },
        Action::Stop { resources, kind } => Action::Stop {
            resources: all_but_last(resources),
            kind: *kind,
        },
        Action::Park { .. } | Action::FlipToWaker { .. } | Action::FlipToBackend { .. } => {
            Action::Start { resources: Vec::new() }
        }
    }
}
