//! Envoy in the place of the load balancer. A flip is stored by the daemon, told and acknowledged, one after the other; until then,
//! and after a start until Envoy is known to have all of it, the daemon takes the route for one to the backend.

use proxymanager::domain::fault::{Fault, FaultKind};
use proxymanager::domain::plan::Action;
use proxymanager::domain::rule::{Side, pointed_at_waker};

use super::{Fate, Time, World, calls, waker};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Envoy {
    /// What lies on the daemon's disk.
    pub stored: Side,
    /// Whether the daemon knows that Envoy does that.
    pub sure: bool,
    /// What is on its way to Envoy, and when it arrives.
    pub told: Option<(Side, Time)>,
    /// Somebody's connection waits for the rule.
    pub waits: bool,
}

impl World {
    /// The same world with Envoy for a load balancer.
    pub fn behind_envoy(mut self) -> World {
        // The route table has a parked copy of every route.
        self.routes[0].parked = vec![vec![self.routes[0].owners.clone()]];
        self.envoy = Some(Envoy {
            stored: self.is_on(0),
            sure: true,
            told: None,
            waits: false,
        });
        self.changed();
        self
    }

    /// Where the route is taken to lead.
    pub(super) fn shown(&self, route: usize) -> Side {
        match &self.envoy {
            None => self.is_on(route),
            Some(envoy) if envoy.sure => envoy.stored,
            Some(_) => Side::Backend,
        }
    }

    /// What the daemon is told of a flip. A refusal of the way to sleep is taken back whole.
    pub(super) fn flip_in_envoy(&mut self, side: Side, fate: Fate, takes: Time) -> Result<(), Fault> {
        let (now, leads) = (self.now, self.is_on(0) == Side::Backend);
        let Some(envoy) = &mut self.envoy else { return Ok(()) };
        let lost = |words: &str| Err(Fault::new(FaultKind::Other, "envoy:flip", words));
        if envoy.stored == side && envoy.sure {
            return Ok(());
        }
        let before = envoy.stored;
        (envoy.stored, envoy.sure) = (side, false);
        let outcome = match fate {
            Fate::Late | Fate::LateAndLost => {
                envoy.told = Some((side, now + takes + 10));
                lost("Envoy does not acknowledge it in time")
            }
            Fate::Refused(_) => {
                // Where Envoy leads to no machine there is nothing to refuse on the way to sleep. A flip that is refused is
                // taken back.
                if side == Side::Waker && !leads {
                    envoy.sure = true;
                    return Ok(());
                }
                // What was refused is told again after a while.
                envoy.told = Some((before, now + if before == side { 35 } else { takes }));
                envoy.stored = before;
                lost("Envoy refuses it")
            }
            Fate::Well | Fate::Halfway(_) | Fate::AnswerLost | Fate::QuestionLost => {
                envoy.told = Some((side, now + takes / 2));
                Ok(())
            }
        };
        self.envoy_is_told();
        outcome
    }

    /// What has arrived is so from now on, and acknowledged.
    pub(super) fn envoy_is_told(&mut self) {
        let now = self.now;
        let Some(envoy) = &mut self.envoy else { return };
        let Some((side, _)) = envoy.told.take_if(|(_, at)| *at <= now) else {
            return;
        };
        envoy.sure = envoy.stored == side;
        let served = side == Side::Backend && std::mem::take(&mut envoy.waits);
        let original = self.shape.actions(0, 0);
        let route = self.routes[0].id.clone();
        match side {
            Side::Backend => {
                let actions = original.clone();
                self.judge(&Action::FlipToBackend { route, actions });
                self.routes[0].actions = original;
            }
            Side::Waker => self.routes[0].actions = pointed_at_waker(&original, &waker()),
        }
        self.changed();
        if served {
            self.visit(0);
        }
    }

    /// Somebody connects: he reaches the machine, by an old way too, or waits.
    pub fn connect(&mut self) {
        if !self.visit(0)
            && let Some(envoy) = &mut self.envoy
        {
            envoy.waits = true;
        }
    }

    /// The daemon is there again, and tells Envoy what it finds on its disk. What was reported to the one before is lost.
    pub fn daemon_returns(&mut self, connected_in: Time) {
        let now = self.now;
        let Some(envoy) = &mut self.envoy else { return };
        envoy.sure = false;
        envoy.told = Some((envoy.stored, now + connected_in));
        if let Some(traffic) = &mut self.traffic {
            let first = super::traffic::floor(now - 1_800, super::traffic::MINUTE);
            traffic.silent.extend((first..now).step_by(60));
        }
        self.envoy_is_told();
    }

    /// The daemon ends; what is on its way arrives all the same, or does not.
    pub fn daemon_ends(&mut self, arrives: bool) {
        if let Some(envoy) = &mut self.envoy
            && !arrives
        {
            envoy.told = None;
        }
    }
}

pub(super) fn side_of(action: &Action) -> Option<Side> {
    match action {
        Action::FlipToWaker { .. } => Some(Side::Waker),
        Action::FlipToBackend { .. } => Some(Side::Backend),
        Action::Park { .. } | Action::Start { .. } | Action::Stop { .. } => None,
    }
}

/// So that a call under way is known as one.
pub(super) fn under_way(of: usize, action: &Action, ends: Time) -> calls::Call {
    calls::Call {
        of,
        action: action.clone(),
        ends,
        lands: None,
    }
}
