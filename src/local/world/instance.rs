//! Virtual EC2 instances: states, times, reasons, and the ways a start goes wrong.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Effect, Failure, Faults, Past, World};

/// Where an instance is between off and on. Names and codes are EC2's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Booting; running at `until` unless it falls back.
    Pending { until: Timestamp },
    /// On. Its program may or may not answer.
    Running,
    /// Shutting down; stopped at `until`.
    Stopping { until: Timestamp },
    /// Off.
    Stopped,
    /// Gone for good.
    Terminated,
}

impl Power {
    /// EC2's name and code of the state.
    pub fn name(self) -> (&'static str, u16) {
        match self {
            Self::Pending { .. } => ("pending", 0),
            Self::Running => ("running", 16),
            Self::Terminated => ("terminated", 48),
            Self::Stopping { .. } => ("stopping", 64),
            Self::Stopped => ("stopped", 80),
        }
    }
}

/// What a describe shows of an instance's life, kept together because it changes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub power: Power,
    /// When it was last started.
    pub launched: Timestamp,
    /// `StateTransitionReason`, such as `User initiated (2026-01-01 10:00:00 GMT)`; empty while it runs.
    pub transition: String,
    /// `StateReason`: code and message.
    pub reason: Option<(String, String)>,
}

/// One instance.
#[derive(Debug, Clone)]
pub struct Instance {
    pub id: String,
    pub kind: String,
    pub address: String,
    pub tags: BTreeMap<String, String>,
    /// Whether `StopInstances` with `Hibernate` is allowed.
    pub hibernates: bool,
    pub boot: Duration,
    /// How many starts took effect.
    pub starts: u32,
    /// This start is going to fall back to `stopped`.
    falls_back: bool,
    life: Past<Life>,
}

impl Instance {
    /// The truth of now, not what a stale describe shows.
    pub fn life(&self) -> &Life {
        self.life.latest()
    }

    /// How often its state has changed.
    pub(super) fn changes(&self) -> usize {
        self.life.changes()
    }

    /// EC2's names of the states it has come to after so many changes.
    pub(super) fn states_since(&self, changes: usize) -> impl Iterator<Item = &'static str> {
        self.life.since(changes).map(|life| life.power.name().0)
    }
}

/// One row of the answer to a start or stop: id, state before, state after.
pub type Change = (String, Power, Power);

impl World {
    /// A new, stopped instance named `name`, which takes `boot` to start. Returns its id.
    pub fn add_instance(&mut self, now: Timestamp, name: &str, boot: Duration) -> String {
        let id = format!("i-{:017x}", self.rng.u64(..) >> 4);
        let number = self.instances.len() + 10;
        let life = Life {
            power: Power::Stopped,
            launched: now,
            transition: user_initiated(now),
            reason: Some(shut_down_by_user()),
        };
        let instance = Instance {
            id: id.clone(),
            kind: "t3.micro".to_owned(),
            address: format!("10.0.{}.{}", number / 250, number % 250),
            tags: BTreeMap::from([("Name".to_owned(), name.to_owned())]),
            hibernates: false,
            boot,
            starts: 0,
            falls_back: false,
            life: Past::new(now, life),
        };
        self.instances.insert(id.clone(), instance);
        id
    }

    /// The instance, if there is one.
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.get(id)
    }

    /// The instance to change its settings; `None` if there is none.
    pub fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.get_mut(id)
    }

    /// All instances by id.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// `DescribeInstances`: the instances (all, when `ids` is empty) with their life as the describe sees it.
    /// Unknown ids fail the whole call.
    pub fn describe_instances(&mut self, now: Timestamp, ids: &[String]) -> Result<Vec<(Instance, Life)>, Failure> {
        self.must_exist(ids)?;
        let seen = self.stale_moment(now);
        let chosen = self
            .instances
            .values()
            .filter(|i| ids.is_empty() || ids.contains(&i.id));
        Ok(chosen
            .filter_map(|i| i.life.as_of(seen).map(|life| (i.clone(), life.clone())))
            .collect())
    }

    /// `StartInstances`. A running or pending instance is left alone; one that is stopping refuses the whole call.
    pub fn start_instances(&mut self, now: Timestamp, ids: &[String]) -> Result<Vec<Change>, Failure> {
        self.must_exist(ids)?;
        for id in ids {
            let power = self.instances[id].life().power;
            if matches!(power, Power::Stopping { .. } | Power::Terminated) {
                let message = format!("The instance '{id}' is not in a state from which it can be started.");
                return Err(Failure::refused("IncorrectInstanceState", message));
            }
        }
        let Faults {
            no_capacity,
            falls_back,
            ..
        } = self.faults;
        if no_capacity && ids.iter().any(|id| self.instances[id].life().power == Power::Stopped) {
            return Err(Failure::trouble(
                500,
                "InsufficientInstanceCapacity",
                "We currently do not have sufficient t3.micro capacity in the Availability Zone you requested \
                 (us-east-1a). Our system will be working on provisioning additional capacity.",
            ));
        }
        let mut changes = Vec::new();
        for id in ids {
            let Some(instance) = self.instances.get_mut(id) else {
                continue;
            };
            let before = instance.life().power;
            if before == Power::Stopped {
                instance.starts += 1;
                instance.falls_back = falls_back;
                let until = now + instance.boot;
                let power = Power::Pending { until };
                instance.life.set(
                    now,
                    Life {
                        power,
                        launched: now,
                        transition: String::new(),
                        reason: None,
                    },
                );
            }
            changes.push((instance.id.clone(), before, instance.life().power));
        }
        Ok(changes)
    }

    /// `StopInstances`. A stopped or stopping instance is left alone; a pending one refuses the whole call.
    pub fn stop_instances(&mut self, now: Timestamp, ids: &[String], hibernate: bool) -> Result<Vec<Change>, Failure> {
        self.must_exist(ids)?;
        for id in ids {
            let instance = &self.instances[id];
            if matches!(instance.life().power, Power::Pending { .. } | Power::Terminated) {
                let message = format!("This instance '{id}' is not in a state from which it can be stopped.");
                return Err(Failure::refused("IncorrectInstanceState", message));
            }
            if hibernate && !instance.hibernates {
                let message = format!("Unsupported hibernation configuration for instance '{id}'.");
                return Err(Failure::refused("UnsupportedHibernationConfiguration", message));
            }
        }
        let until = now + self.settings.stop;
        let mut changes = Vec::new();
        for id in ids {
            let Some(instance) = self.instances.get_mut(id) else {
                continue;
            };
            let before = instance.life().power;
            if before == Power::Running {
                let life = Life {
                    power: Power::Stopping { until },
                    transition: user_initiated(now),
                    reason: Some(shut_down_by_user()),
                    ..instance.life().clone()
                };
                instance.life.set(now, life);
                self.effects.push(Effect::Halt(id.clone()));
            }
            changes.push((id.clone(), before, self.instances[id].life().power));
        }
        self.settle_health(now);
        Ok(changes)
    }

    /// Somebody terminates the instance: it drops out of its target groups by itself.
    pub fn terminate_instance(&mut self, now: Timestamp, id: &str) -> Result<(), Failure> {
        self.must_exist(&[id.to_owned()])?;
        if let Some(instance) = self.instances.get_mut(id) {
            let life = Life {
                power: Power::Terminated,
                transition: user_initiated(now),
                reason: Some(shut_down_by_user()),
                ..instance.life().clone()
            };
            instance.life.set(now, life);
        }
        self.effects.push(Effect::Stopped(id.to_owned()));
        for group in &mut self.groups {
            group.targets.retain(|target| target.id != id);
        }
        Ok(())
    }

    /// `CreateTags` of EC2.
    pub fn tag_instances(&mut self, ids: &[String], tags: &[(String, String)]) -> Result<(), Failure> {
        self.must_exist(ids)?;
        for id in ids {
            let Some(instance) = self.instances.get_mut(id) else {
                continue;
            };
            instance.tags.extend(tags.iter().cloned());
        }
        Ok(())
    }

    /// `DeleteTags` of EC2: whatever the values are.
    pub fn untag_instances(&mut self, ids: &[String], keys: &[String]) -> Result<(), Failure> {
        self.must_exist(ids)?;
        for id in ids {
            let Some(instance) = self.instances.get_mut(id) else {
                continue;
            };
            instance.tags.retain(|key, _| !keys.contains(key));
        }
        Ok(())
    }

    /// Boots and shutdowns that are due become states; called by `advance`.
    pub(super) fn advance_instances(&mut self, now: Timestamp) {
        for instance in self.instances.values_mut() {
            let life = instance.life().clone();
            match life.power {
                // Half the boot time, so that a describe in between does see `pending`.
                Power::Pending { until } if instance.falls_back && until - instance.boot / 2 <= now => {
                    let words = "Client.InternalError: Client error on launch".to_owned();
                    let reason = Some(("Client.InternalError".to_owned(), words.clone()));
                    instance.life.set(
                        now,
                        Life {
                            power: Power::Stopped,
                            transition: words,
                            reason,
                            ..life
                        },
                    );
                }
                Power::Pending { until } if until <= now => {
                    instance.life.set(
                        now,
                        Life {
                            power: Power::Running,
                            ..life
                        },
                    );
                    self.effects.push(Effect::Launch(instance.id.clone()));
                }
                Power::Stopping { until } if until <= now => {
                    instance.life.set(
                        now,
                        Life {
                            power: Power::Stopped,
                            ..life
                        },
                    );
                    self.effects.push(Effect::Stopped(instance.id.clone()));
                }
                Power::Pending { .. }
                | Power::Running
                | Power::Stopping { .. }
                | Power::Stopped
                | Power::Terminated => {}
            }
        }
    }

    fn must_exist(&self, ids: &[String]) -> Result<(), Failure> {
        let unknown: Vec<&str> = ids
            .iter()
            .filter(|id| !self.instances.contains_key(*id))
            .map(String::as_str)
            .collect();
        match unknown.as_slice() {
            [] => Ok(()),
            [one] => Err(not_found(&format!("The instance ID '{one}' does not exist"))),
            many => Err(not_found(&format!(
                "The instance IDs '{}' do not exist",
                many.join(", ")
            ))),
        }
    }
}

fn not_found(message: &str) -> Failure {
    Failure::refused("InvalidInstanceID.NotFound", message)
}

fn user_initiated(now: Timestamp) -> String {
    format!("User initiated ({})", now.strftime("%Y-%m-%d %H:%M:%S GMT"))
}

fn shut_down_by_user() -> (String, String) {
    let code = "Client.UserInitiatedShutdown";
    (code.to_owned(), format!("{code}: User initiated shutdown"))
}
